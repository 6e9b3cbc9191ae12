"""What linear heads for two classes have in common: checks, training on arrays, prediction.

A subclass has hyper-parameters, their constraints and ``trainers``; the trainer's ``finish``
writes ``coef_``, ``intercept_``, ``classes_`` and ``n_features_in_``.
"""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from heads.passes import ArrayBatches, BatchSource, Floats, Trainer, train

DTYPES = (np.float64, np.float32, np.float16)
"""Accepted without a copy; anything else becomes float64."""

ROWS = 4096
"""Rows scored at a time, so that a memory map of float16 is never converted as a whole."""


class LinearBinaryHead(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Base of heads whose decision value is ``X @ coef_.T + intercept_``.

    Attributes
    ----------
    coef_ : ndarray (1, n_features)
        Weights; positive decision values mean ``classes_[1]``.
    intercept_ : ndarray (1,)
        Decision value of the origin.
    classes_ : ndarray (2,)
        The labels, sorted.
    n_features_in_ : int
        Number of features.
    """

    coef_: Floats
    intercept_: Floats
    classes_: NDArray[Any]
    n_features_in_: int

    @property
    def selects_on_validation(self) -> bool:
        """Whether training scores validation rows, which then need both classes."""
        return False

    @classmethod
    def trainers(cls, heads: Sequence[Self], source: BatchSource) -> list[Trainer]:
        """Return what trains the heads on the source; see `heads.passes.train`.

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

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train on arrays; for rows in a store see `heads.fit`.

        Parameters
        ----------
        X
            Features (n_samples, n_features), finite; float16, float32 and float64, memory maps
            among them, are read batch by batch without a copy.
        y
            Labels (n_samples,) of two classes.

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
        self.__dict__.pop("origin_", None)  # of an earlier training from a store
        train([self], ArrayBatches(features, labels))
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
            If a hyper-parameter is out of range or the source does not have two classes.
        """
        self._validate_params()
        found = np.asarray(source.classes).tolist()
        if len(found) == 1:
            raise ValueError(
                f"{type(self).__name__} needs rows of two classes, got one class only: {found}; "
                f"add rows of the other."
            )
        if len(found) != 2:
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
        shapes = {"coef_": (1, n_features), "intercept_": (1,), "classes_": (2,)}
        for name, shape in shapes.items():
            self._check_array(name, shape)
        if (found := self.classes_.tolist()) != np.unique(self.classes_).tolist():
            raise ValueError(f"'classes_' must be two sorted labels, got {found}.")

    def _check_array(self, name: str, shape: tuple[int, ...]) -> None:
        """Check one learned array; all but the classes are finite numbers."""
        value = getattr(self, name, None)
        if not isinstance(value, np.ndarray) or value.shape != shape:
            got = f"shape {value.shape}" if isinstance(value, np.ndarray) else repr(value)
            raise ValueError(f"'{name}' must be an array of shape {shape}, got {got}.")
        if name != "classes_" and not (value.dtype.kind == "f" and np.isfinite(value).all()):
            raise ValueError(f"'{name}' must hold finite numbers, got {value.dtype} {value!r}.")

    def decision_function(self, X: ArrayLike) -> Floats:
        """Return the logit of the second class.

        Parameters
        ----------
        X
            Features (n_samples, n_features).

        Returns
        -------
        numpy.ndarray
            Logits (n_samples,); positive means ``classes_[1]``.
        """
        check_is_fitted(self)
        features = validate_data(self, X, dtype=DTYPES, reset=False)
        starts = range(0, len(features), ROWS)
        scores = [features[start : start + ROWS] @ self.coef_[0] for start in starts]
        logits: Floats = np.concatenate(scores) + self.intercept_[0]
        return logits

    def predict_proba(self, X: ArrayLike) -> Floats:
        """Return the probabilities of both classes.

        Parameters
        ----------
        X
            Features (n_samples, n_features).

        Returns
        -------
        numpy.ndarray
            Probabilities (n_samples, 2) in the order of ``classes_``.
        """
        logits = self.decision_function(X)
        return np.column_stack((expit(-logits), expit(logits)))

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
        second = self.decision_function(X) > 0
        labels: NDArray[Any] = self.classes_[second.astype(np.intp)]
        return labels

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags
