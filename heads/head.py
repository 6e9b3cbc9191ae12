"""What all heads have in common: checks, training on arrays, prediction.

A subclass has hyper-parameters, their constraints, ``trainers`` and ``_decide``; the trainer's
``finish`` writes the learned attributes, ``classes_`` and ``n_features_in_`` among them.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from heads.loop.batch_source import ArrayBatches, BatchSource, Floats
from heads.loop.passes import Trainer, train

DTYPES = (np.float64, np.float32, np.float16)
"""Accepted without a copy; anything else becomes float64."""

ROWS = 4096
"""Rows scored at a time, so that a memory map of float16 is never converted as a whole."""


class Head(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Base of all heads.

    Attributes
    ----------
    classes_ : ndarray (n_classes,)
        The labels, sorted; of two, the second is the one that positive decision values mean.
    n_features_in_ : int
        Number of features.
    """

    multiclass: ClassVar[bool] = False
    """Whether there may be more than two classes."""

    one_class: ClassVar[bool] = False
    """Whether it learns from rows of the first class alone, so that there need be no others."""

    classes_: NDArray[Any]
    n_features_in_: int

    @property
    def selects_on_validation(self) -> bool:
        """Whether training scores validation rows, which then need both classes."""
        return False

    @classmethod
    def trainers(cls, heads: Sequence[Self], source: BatchSource) -> list[Trainer]:
        """Return what trains the heads on the source; see `heads.loop.passes.train`.

        Parameters
        ----------
        heads
            Heads of this class.
        source
            The rows to learn from.

        Returns
        -------
        list of Trainer
            One or several trainers that have the heads as members.
        """
        raise NotImplementedError(f"{cls.__name__} has no trainers yet.")

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        groups: ArrayLike | None = None,
        pairs: ArrayLike | None = None,
    ) -> Self:
        """Train on arrays; for rows in a store see `heads.fit`.

        Parameters
        ----------
        X
            Features (n_samples, n_features), finite; float16, float32 and float64, memory maps
            among them, are read batch by batch without a copy.
        y
            Labels (n_samples,).
        groups
            The generator of each row (n_samples,), for heads that use it.
        pairs
            Number of the aligned pair of each row (n_samples,), -1 for none.

        Returns
        -------
        estimator
            The head itself.

        Raises
        ------
        ValueError
            If a hyper-parameter, the features or the labels are not legal.
        """
        self._validate_params()
        features, labels = validate_data(self, X, y, dtype=DTYPES, ensure_min_samples=2)
        check_classification_targets(labels)
        extra = {
            name: _one_per_row(name, values, len(labels))
            for name, values in (("groups", groups), ("pairs", pairs))
            if values is not None
        }
        self.__dict__.pop("origin_", None)  # of an earlier training from a store
        alone = self.one_class and np.unique(labels).tolist() == [0]
        classes = np.array([0, 1], labels.dtype) if alone else None
        train([self], ArrayBatches(features, labels, classes, **extra))
        return self

    def check_trainable(self, source: BatchSource) -> None:
        """Check the hyper-parameters and the classes; to be called by ``trainers``.

        Parameters
        ----------
        source
            The rows to learn from.

        Raises
        ------
        ValueError
            If a hyper-parameter is out of range or the source has one class only, or more than
            two where the head can tell two apart.
        """
        self._validate_params()
        found = np.asarray(source.classes).tolist()
        if len(found) == 1:
            raise ValueError(
                f"{type(self).__name__} needs rows of two classes, got one class only: {found}; "
                f"add rows of the other."
            )
        if len(found) != 2 and not self.multiclass:
            raise ValueError(
                f"Only binary classification is supported. The type of the target is multiclass: "
                f"got {len(found)} classes, {found[:5]}…; group the labels into two."
            )

    def check_learned(self) -> None:
        """Check that the learned attributes fit together; a loaded head is checked by it.

        Raises
        ------
        ValueError
            If an attribute is missing, has the wrong shape or type, or is not finite, or the
            classes are not sorted.
        """
        if not isinstance(n_features := getattr(self, "n_features_in_", None), int):
            raise ValueError(f"'n_features_in_' must be an int, got {n_features!r}.")
        classes = getattr(self, "classes_", None)
        few = not isinstance(classes, np.ndarray) or classes.ndim != 1 or len(classes) < 2
        if few or (len(classes) > 2 and not self.multiclass):  # type: ignore[arg-type]
            raise ValueError(f"'classes_' must be two sorted labels, got {classes!r}.")
        if (found := self.classes_.tolist()) != np.unique(self.classes_).tolist():
            number = "" if self.multiclass else "two "
            raise ValueError(f"'classes_' must be {number}sorted labels, got {found}.")

    def _check_array(self, name: str, shape: tuple[int, ...]) -> None:
        """Check one learned array of finite floats."""
        value = getattr(self, name, None)
        if not isinstance(value, np.ndarray) or value.shape != shape:
            got = f"shape {value.shape}" if isinstance(value, np.ndarray) else repr(value)
            raise ValueError(f"'{name}' must be an array of shape {shape}, got {got}.")
        if not (value.dtype.kind == "f" and np.isfinite(value).all()):
            raise ValueError(f"'{name}' must hold finite numbers, got {value.dtype} {value!r}.")

    def _decide(self, X: Floats) -> Floats:
        """Return decision values (n,), or (n, n_classes) of more than two, of at most `ROWS` rows.

        Features are checked, but may be float16 and read-only.
        """
        raise NotImplementedError(f"{type(self).__name__} has no decision function yet.")

    def decision_function(self, X: ArrayLike) -> Floats:
        """Return the decision values; of two classes, the logit of the second.

        Parameters
        ----------
        X
            Features (n_samples, n_features).

        Returns
        -------
        numpy.ndarray
            Shape (n_samples,), positive values mean ``classes_[1]``; for more than two classes
            (n_samples, n_classes), the largest is the class.
        """
        check_is_fitted(self)
        features = validate_data(self, X, dtype=DTYPES, reset=False)
        starts = range(0, len(features), ROWS)
        return np.concatenate([self._decide(features[start : start + ROWS]) for start in starts])

    def predict_proba(self, X: ArrayLike) -> Floats:
        """Return the probabilities of all classes.

        Parameters
        ----------
        X
            Features (n_samples, n_features).

        Returns
        -------
        numpy.ndarray
            Probabilities (n_samples, n_classes) in the order of ``classes_``.
        """
        return self.probabilities(self.decision_function(X))

    @staticmethod
    def probabilities(values: Floats) -> Floats:
        """Return the probabilities that decision values stand for.

        Parameters
        ----------
        values
            Decision values (n_samples,), or (n_samples, n_classes) for more than two classes.

        Returns
        -------
        numpy.ndarray
            Logistic function or softmax of the values, (n_samples, n_classes).
        """
        if values.ndim == 1:
            return np.column_stack((expit(-values), expit(values)))
        shares: Floats = softmax(values, axis=1)
        return shares

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the more probable class.

        Parameters
        ----------
        X
            Features (n_samples, n_features).

        Returns
        -------
        numpy.ndarray
            Labels (n_samples,).
        """
        values = self.decision_function(X)
        winner = (values > 0).astype(np.intp) if values.ndim == 1 else values.argmax(1)
        labels: NDArray[Any] = self.classes_[winner]
        return labels

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = self.multiclass
        return tags


def _one_per_row(name: str, values: ArrayLike, n_samples: int) -> NDArray[Any]:
    """Return values of which there is one for each row."""
    array = np.asarray(values)
    if array.shape != (n_samples,):
        raise ValueError(f"'{name}' must have shape ({n_samples},), got {array.shape}.")
    return array
