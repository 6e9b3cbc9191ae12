"""Nearest rows by faiss, where it is installed; imports faiss."""

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heads.loop.batch_source import Floats
from heads.neighbours.search import Metric, NearestRows


class FaissSearch(NearestRows):
    """Nearest rows by `faiss.IndexFlatIP`, one block of the bank at a time.

    Parameters
    ----------
    queries, k
        As for `NearestRows`; queries are compared in float32.
    metric
        ``"cosine"`` or ``"inner"``.

    Raises
    ------
    ValueError
        If the metric is Euclidean, or faiss is not installed.
    """

    def __init__(self, queries: Floats, k: int, metric: Metric = "cosine") -> None:
        if metric == "euclidean":
            raise ValueError(
                "engine='faiss' needs metric='cosine' or 'inner', got 'euclidean'; choose another "
                "engine."
            )
        super().__init__(np.asarray(queries, np.float32), k, metric)
        self._index_of_block = _flat_index(self.queries.shape[1])
        self._values = np.full((len(queries), k), -np.inf, np.float32)
        self._index = np.full((len(queries), k), -1, np.int64)

    def _compare(self, block: Floats, scale: Floats, offset: Floats) -> None:
        self._index_of_block.reset()
        self._index_of_block.add(block * scale[:, None])
        values, index = self._index_of_block.search(self.queries, min(self.k, len(block)))
        pool = np.hstack((self._values, values))
        where = np.hstack((self._index, index + self.n_rows))
        place = np.lexsort((where, -pool))[:, : self.k]
        self._values = np.take_along_axis(pool, place, 1)
        self._index = np.take_along_axis(where, place, 1)

    def _found(self) -> tuple[NDArray[np.int64], Floats]:
        return self._index, self._values


def _flat_index(n_features: int) -> Any:
    """Return an empty index of inner products."""
    try:
        faiss: Any = import_module("faiss")
    except ImportError as err:
        raise ValueError(
            "engine='faiss' needs the package faiss, which cannot be imported; install faiss-cpu "
            "or faiss-gpu, or choose engine='compiled'."
        ) from err
    return faiss.IndexFlatIP(n_features)
