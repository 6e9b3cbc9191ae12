"""Deciding by the nearest class mean of representations."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, softmax

Floats = NDArray[np.floating[Any]]


class NearestMean:
    """Decides by the nearest of the class means of representations (iCaRL, section 3.1).

    Parameters
    ----------
    head
        A fitted head; ``transform`` gives representations, the features themselves do without it.
    means
        Class means (n_classes, n_components).
    classes
        The labels (n_classes,), sorted.
    """

    def __init__(self, head: Any, means: Floats, classes: NDArray[Any]) -> None:
        self.origin_, self.classes_ = head.origin_, classes
        self._head, self._means = head, means

    @classmethod
    def of(cls, head: Any, parts: Iterable[tuple[Floats, ArrayLike]]) -> Self:
        """Return the classifier of labelled representations.

        Parameters
        ----------
        head
            A fitted head.
        parts
            Its representations (n, n_components) with their labels (n,), batch by batch.

        Returns
        -------
        NearestMean
            With the means of all classes that there are.
        """
        sums: dict[Any, Floats] = {}
        sizes: Counter[Any] = Counter()
        for Z, y in parts:
            labels = np.asarray(y)
            for name in np.unique(labels).tolist():
                own = Z[labels == name]
                sums[name] = sums.get(name, 0.0) + own.sum(0, dtype=np.float64)
                sizes[name] += len(own)
        classes = sorted(sums)
        means = np.stack([sums[name] / sizes[name] for name in classes])
        return cls(head, means, np.array(classes))

    def _distances(self, X: Floats) -> Floats:
        """Return squared distances (n, n_classes) from the class means."""
        Z = represented(self._head, X)
        return np.stack([((Z - mean) ** 2).sum(1) for mean in self._means], axis=1)

    def decision_function(self, X: Floats) -> Floats:
        """Return how near rows are to the class means.

        Parameters
        ----------
        X
            Features (n_samples, n_features).

        Returns
        -------
        ndarray
            Of two classes how much nearer the second mean is, in squared distance (n_samples,); of
            more, negative squared distances (n_samples, n_classes).
        """
        distances = self._distances(X)
        return distances[:, 0] - distances[:, 1] if len(self.classes_) == 2 else -distances

    def predict_proba(self, X: Floats) -> Floats:
        """Return the logistic function or softmax of the decision values; not calibrated.

        Parameters
        ----------
        X
            Features (n_samples, n_features).

        Returns
        -------
        ndarray
            Shape (n_samples, n_classes).
        """
        values = self.decision_function(X)
        if values.ndim == 2:
            return np.asarray(softmax(values, axis=1))
        return np.column_stack((expit(-values), expit(values)))

    def predict(self, X: Floats) -> NDArray[Any]:
        """Return the class whose mean is nearest.

        Parameters
        ----------
        X
            Features (n_samples, n_features).

        Returns
        -------
        ndarray
            Labels (n_samples,).
        """
        labels: NDArray[Any] = self.classes_[self._distances(X).argmin(1)]
        return labels


def represented(head: Any, X: Floats) -> Floats:
    """Return the representations of rows.

    Parameters
    ----------
    head
        A fitted head.
    X
        Features (n_samples, n_features).

    Returns
    -------
    numpy.ndarray
        What ``head.transform`` returns; the features themselves for heads without it.
    """
    return head.transform(X) if hasattr(head, "transform") else X
