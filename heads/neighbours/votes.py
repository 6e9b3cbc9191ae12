"""The scores of all classes from the neighbours in a labelled bank that goes by in pieces."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from heads.loop.batch_source import Floats
from heads.neighbours.rules import TEMPERATURES, scores_by_k

if TYPE_CHECKING:
    from heads.neighbours.knn import KNNHead


class Votes:
    """What the rows of a bank say about some samples, by the rule of a head.

    Parameters
    ----------
    head
        Its hyper-parameters say how to search and to count; it need not be fitted.
    queries
        The samples (n_samples, n_features), finite.
    n_classes
        How many classes the bank has.
    n_rows
        How many rows it has, where that is known: no more neighbours are kept.

    Notes
    -----
    Rows of all classes are searched together, but for the rule ``"two_banks"``, where each class
    has a search of its own. Memory is that of the searches, and 2 bytes per row of the bank.
    """

    def __init__(
        self, head: "KNNHead", queries: Floats, n_classes: int, n_rows: int | None = None
    ) -> None:
        self._rule = head.rule
        self._temperature = head.temperature or TEMPERATURES[head.rule]
        self._apart = head.rule == "two_banks"
        n_searches = n_classes if self._apart else 1
        self._searches = [head.search(queries, n_rows) for _ in range(n_searches)]
        self._n_classes = n_classes
        self._labels: list[NDArray[np.int16]] = []

    def add(self, rows: Floats, labels: NDArray[np.integer[Any]]) -> None:
        """Let the next rows of the bank go by.

        Parameters
        ----------
        rows
            Finite floats (n, n_features).
        labels
            Their classes (n,), below the number of classes.
        """
        self._labels.append(labels.astype(np.int16))
        for label, search in enumerate(self._searches):
            search.add(rows[labels == label] if self._apart else rows)

    def scores_by_k(self) -> NDArray[np.float64]:
        """Return the score of each class for the first 1, 2, …, k neighbours.

        Returns
        -------
        ndarray
            Shape (n_classes, n_samples, k); a bank, or a class, that has fewer rows than k keeps
            the score of all its rows.
        """
        found = list(self._of_classes())
        k = max(own.shape[1] for own in found)
        return np.stack(
            [np.pad(own, ((0, 0), (0, k - own.shape[1])), mode="edge") for own in found]
        )

    def scores(self) -> NDArray[np.float64]:
        """Return the score of each class for all k neighbours, holding one class at a time.

        Returns
        -------
        ndarray
            Shape (n_classes, n_samples): the last of `scores_by_k`.
        """
        return np.stack([own[:, -1].copy() for own in self._of_classes()])

    def _of_classes(self) -> Iterator[NDArray[np.float64]]:
        """Yield the scores (n_samples, at most k) of one class after the other."""
        labels = np.concatenate(self._labels)
        found = [search.result() for search in self._searches]
        for label in range(self._n_classes):
            near = found[label if self._apart else 0]
            of_class = labels[near.index] == label if not self._apart else near.index >= 0
            yield scores_by_k(near.similarity, of_class, self._rule, self._temperature)
