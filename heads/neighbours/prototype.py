"""Nearest class mean on the sphere."""

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from heads.head import Head
from heads.loop.batch_source import BatchSource, Floats
from heads.loop.passes import Trainer
from heads.neighbours.prototype_training import PrototypeTrainer
from heads.neighbours.search import unit_rows


class PrototypeHead(Head):
    """Cosine similarity to the mean of each class; any number of classes, one exact pass.

    The prototype p of a class is the mean of its rows at length 1, brought to length 1. A sample q
    at length 1 has the decision value ``⟨q, p1⟩ - ⟨q, p0⟩`` for two classes, and ``⟨q, p⟩`` for
    each of more.

    Parameters
    ----------
    normalize
        Whether rows, in training and in scoring, are brought to length 1 first.

    Attributes
    ----------
    prototypes_ : ndarray (n_classes, n_features), float64
        The class means at length 1.
    class_counts_ : ndarray (n_classes,), int64
        Rows of each class in training.
    classes_, n_features_in_
        As in scikit-learn.

    Notes
    -----
    The rows may come in any batches and any order; sums are float64, so that the result changes by
    rounding alone. The number of rows of a class does not matter for its score.

    Decision values lie in [-2, 2], so that probabilities lie between 0.12 and 0.88: they rank, and
    are not calibrated.

    References
    ----------
    FiSeR, 2026, public code, prototype scoring. Snell, Swersky, Zemel, "Prototypical networks for
    few-shot learning", NeurIPS 2017.

    Examples
    --------
    >>> X = np.array([[2.0, 0.0], [3.0, 0.0], [0.0, 1.0], [0.0, 5.0]])
    >>> head = PrototypeHead().fit(X, np.array([0, 0, 1, 1]))
    >>> head.decision_function(np.array([[3.0, 4.0]])).round(6).tolist()
    [0.2]
    """

    multiclass = True

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"normalize": ["boolean"]}

    prototypes_: NDArray[np.float64]
    class_counts_: NDArray[np.int64]

    def __init__(self, *, normalize: bool = True) -> None:
        self.normalize = normalize

    @classmethod
    def trainers(cls, heads: Sequence[Self], source: BatchSource) -> list[Trainer]:
        """Return one trainer for all heads.

        Parameters
        ----------
        heads
            Heads with any parameters.
        source
            The rows to learn from.

        Returns
        -------
        list of Trainer
            One trainer.

        Raises
        ------
        ValueError
            If a parameter is not legal or the source has one class only.
        """
        for head in heads:
            head.check_trainable(source)
        return [PrototypeTrainer(heads, source)]

    def check_learned(self) -> None:
        """Check that the learned attributes fit together; a loaded head is checked by it.

        Raises
        ------
        ValueError
            If an attribute is missing, has the wrong shape or type, or is not finite, or the
            classes are not sorted.
        """
        super().check_learned()
        self._check_array("prototypes_", (len(self.classes_), self.n_features_in_))
        counts = getattr(self, "class_counts_", None)
        if np.shape(counts) != self.classes_.shape or np.min(counts) < 1:  # type: ignore[arg-type]
            raise ValueError(f"'class_counts_' must be a count of each class, got {counts!r}.")

    def _decide(self, X: Floats) -> Floats:
        rows = X.astype(np.float64)
        values: Floats = (unit_rows(rows) if self.normalize else rows) @ self.prototypes_.T
        return values[:, 1] - values[:, 0] if len(self.classes_) == 2 else values
