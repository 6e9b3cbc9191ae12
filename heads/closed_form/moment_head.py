"""Base of heads in closed form: trained in one pass, row by row, or by merging what others saw."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from heads.class_weights import class_weights
from heads.closed_form.moments import ARRAYS, ROWS, Moments
from heads.closed_form.training import MomentTrainer, Study
from heads.head import DTYPES, Head
from heads.linear import LinearHead
from heads.loop.batch_source import BatchSource, Floats
from heads.loop.passes import Trainer

STORED = {name: f"moment_{name}_" for name in ARRAYS if name != "classes"}
"""The learned attributes that hold the moments."""


class MomentHead(Head):
    """Base of heads that the moments of their rows determine.

    A subclass has hyper-parameters, ``keep_moments`` among them, and ``study``.
    """

    multiclass: ClassVar[bool] = True
    keep_moments: bool
    class_weight: Mapping[Any, float] | str | None = None

    coef_: Floats
    intercept_: Floats

    def study(self, moments: Moments, memo: dict[Any, Any]) -> Study:
        """Return what makes this head of moments.

        Parameters
        ----------
        moments
            Of all rows, lifted.
        memo
            What studies of the same moments share.

        Returns
        -------
        Study
            It may want more than the moments.
        """
        raise NotImplementedError(f"{type(self).__name__} has no study yet.")

    def lift(self, X: Floats) -> Floats:
        """Return the features (n, width) whose moments count, of rows (n, n_features)."""
        return X

    def width(self, n_features: int) -> int:
        """Return the number of lifted features of a row."""
        return n_features

    def lifting(self) -> tuple[Any, ...]:
        """Return the hyper-parameters that determine `lift`."""
        return ()

    def prepare(self, n_features: int, leader: Self) -> None:
        """Make what `lift` needs; heads that lift alike take it from the first of them."""

    @classmethod
    def trainers(cls, heads: Sequence[Self], source: BatchSource) -> list[Trainer]:
        """Return one trainer for all heads that lift rows alike and weigh classes alike.

        Parameters
        ----------
        heads
            Heads of this class.
        source
            The rows to learn from.

        Returns
        -------
        list of Trainer
            One trainer per Gram matrix.

        Raises
        ------
        ValueError
            If a parameter is out of its range, there is one class only, or the Gram matrices do
            not fit into the workspace of the source, which they share.
        """
        groups: dict[Any, list[Self]] = {}
        for head in heads:
            head.check_trainable(source)
            groups.setdefault((head.lifting(), repr(head.class_weight)), []).append(head)
        workspace = source.workspace // len(groups)
        return [MomentTrainer(group, source, workspace) for group in groups.values()]

    def partial_fit(self, X: ArrayLike, y: ArrayLike, classes: ArrayLike | None = None) -> Self:
        """Learn from more rows; the result is that of one training on all rows so far.

        After a training that did not keep its moments there is nothing to add to: the head then
        begins anew, with a warning.

        Parameters
        ----------
        X
            Features (n_samples, n_features).
        y
            Labels (n_samples,); classes may be new. The head can predict once it has seen two.
        classes
            Labels that may occur; they need not be announced.

        Returns
        -------
        estimator
            The head itself.

        Raises
        ------
        ValueError
            If a label is not among those announced, or hyper-parameters need more than one reading
            of the rows.

        Notes
        -----
        The moments are kept, 8 · n_features² bytes, and saved with the head. Every call solves
        anew, which costs as much as some 10 · n_features rows: pass thousands of rows at a time.
        """
        self._validate_params()
        begins = not hasattr(self, STORED["within"])
        if begins and hasattr(self, "coef_"):
            warnings.warn(
                f"{type(self).__name__} was trained without keeping its moments and forgets these "
                f"rows now; train with keep_moments=True to learn from more rows.",
                stacklevel=2,
            )
            for name in [name for name in vars(self) if name.endswith("_")]:
                delattr(self, name)
        features, labels = validate_data(self, X, y, dtype=DTYPES, reset=begins)
        check_classification_targets(labels)
        own, codes = np.unique(labels, return_inverse=True)
        if classes is not None and (unknown := set(own.tolist()) - set(np.unique(classes))):
            raise ValueError(f"'y' must be among 'classes', got {sorted(unknown)} too.")
        if begins:
            self.prepare(self.n_features_in_, self)
        weights = class_weights(self.class_weight, own)
        update = Moments(own, self.width(self.n_features_in_), weights)
        for start in range(0, len(features), ROWS):
            rows = slice(start, start + ROWS)
            update.add(self.lift(features[rows]), codes[rows])
        return self._take(update, begins)

    def merge(self, other: Self) -> Self:
        """Learn from the rows that another head has seen, without reading them.

        Parameters
        ----------
        other
            A head with equal hyper-parameters that kept its moments, such as one trained on
            another machine.

        Returns
        -------
        estimator
            The head itself, as if trained on the rows of both.

        Raises
        ------
        ValueError
            If the heads do not fit together, weigh classes by their own rows alone, or one did not
            keep its moments.
        """
        if self.get_params() != other.get_params():
            raise ValueError(
                f"heads must have equal hyper-parameters to be merged, got {self} and {other}."
            )
        if self.class_weight == "balanced":
            raise ValueError(
                "'class_weight' must not be 'balanced' in heads to be merged, as each was balanced "
                "by its own rows alone; name weights."
            )
        return self._take(other.moments(), begins=False)

    def moments(self) -> Moments:
        """Return the moments of the rows this head was trained on.

        Returns
        -------
        Moments
            A copy; ValueError if they were not kept.
        """
        if not hasattr(self, STORED["within"]):
            raise ValueError(
                f"{type(self).__name__} must have been trained with keep_moments=True or "
                f"'partial_fit', got a head without moments; train it again."
            )
        arrays = {name: getattr(self, stored) for name, stored in STORED.items()}
        return Moments.from_arrays({"classes": self.classes_, **arrays})

    def describe(self, classes: NDArray[Any], n_features: int, kept: Mapping[str, Any]) -> None:
        """Write what all heads learn.

        Parameters
        ----------
        classes
            The labels (n_classes,).
        n_features
            Features of a row before it is lifted.
        kept
            The moments by name, to be kept; empty to keep none.
        """
        self.classes_, self.n_features_in_ = classes, n_features
        for name, stored in STORED.items():
            self.__dict__.pop(stored, None)
            if kept:
                setattr(self, stored, kept[name])

    def check_learned(self) -> None:
        """Check that the learned attributes fit together; a loaded head is checked by it.

        Raises
        ------
        ValueError
            If an attribute is missing, has the wrong shape or type, or is not finite, or the
            classes are not sorted.
        """
        super().check_learned()
        if any(hasattr(self, stored) for stored in STORED.values()):
            width, n_classes = self.width(self.n_features_in_), len(self.classes_)
            self._check_array(STORED["within"], (width, width))
            self._check_array(STORED["offsets"], (n_classes, width))
            self._check_array(STORED["origin"], (width,))
            self._check_array(STORED["weights"], (n_classes,))
            self.moments()

    def _take(self, update: Moments, begins: bool) -> Self:
        """Learn from the moments so far and those of more rows."""
        moments = update
        if not begins:
            moments = self.moments()
            moments.merge(update)
        self._learn(moments)
        self.describe(moments.classes, self.n_features_in_, moments.to_arrays())
        return self

    def _learn(self, moments: Moments) -> None:
        """Learn what moments alone can teach; nothing, of one class."""
        moments.require_finite()
        if len(moments.classes) < 2:
            return
        study = self.study(moments, {})
        if study.wants_rows or study.n_scores:
            raise ValueError(
                f"the hyper-parameters of {self} must not need the rows once more, as only their "
                f"moments are there; choose others, or train with 'fit'."
            )
        study.write()

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "coef_")


class LinearMomentHead(MomentHead, LinearHead):
    """Base of heads that the moments of the features themselves determine."""

    @classmethod
    def from_moments(cls, moments: Moments, **parameters: Any) -> Self:
        """Return a head trained on the rows whose moments are given.

        Parameters
        ----------
        moments
            Of at least two classes that have rows; see `heads.closed_form.training.collect`.
        **parameters
            Hyper-parameters; class weights are those of the moments.

        Returns
        -------
        estimator
            A fitted head.

        Raises
        ------
        ValueError
            If a hyper-parameter is not legal or needs the rows, or classes are missing.
        """
        head = cls(**parameters)
        head._validate_params()
        if head.class_weight is not None:
            raise ValueError(
                f"'class_weight' must be None, as moments are weighted when they are collected, "
                f"got {head.class_weight!r}."
            )
        if "class_weight" not in head.get_params() and (moments.weights != 1).any():
            raise ValueError(
                f"{cls.__name__} does not weigh classes, so that the weights of moments must be 1, "
                f"got {moments.weights.tolist()}; collect them without."
            )
        seen = moments.seen()
        if len(seen.classes) < 2:
            raise ValueError(
                f"{cls.__name__} needs rows of two classes, got one class only: "
                f"{seen.classes.tolist()}; merge moments of others."
            )
        head._learn(seen)
        kept = seen.to_arrays() if head.keep_moments else {}
        head.describe(seen.classes, seen.n_features, kept)
        return head
