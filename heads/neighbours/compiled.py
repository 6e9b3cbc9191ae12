"""Nearest rows by BLAS products and a compiled scan; imports numba."""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from heads.loop.batch_source import Floats
from heads.neighbours.search import Metric, NearestRows

BLOCK_QUERIES = 512
"""Queries per product: with the rows of a block, what stays in a cache of the second level."""


@numba.njit(
    [
        "void(f4[:,::1], f4[::1], f4[::1], i8, f4[:,::1], i8[:,::1])",
        "void(f8[:,::1], f8[::1], f8[::1], i8, f8[:,::1], i8[:,::1])",
    ],
    nogil=True,
    cache=True,
)
def _keep_largest(
    products: Any, scale: Any, offset: Any, first: Any, values: Any, index: Any
) -> None:
    """Insert what is larger than the smallest kept value; equal ones keep their place."""
    last = values.shape[1] - 1
    for i in range(products.shape[0]):
        smallest = values[i, last]
        for j in range(products.shape[1]):
            value = products[i, j] * scale[j] + offset[j]
            if value > smallest:
                place = last
                while place > 0 and values[i, place - 1] < value:
                    values[i, place] = values[i, place - 1]
                    index[i, place] = index[i, place - 1]
                    place -= 1
                values[i, place], index[i, place] = value, first + j
                smallest = values[i, last]


class CompiledSearch(NearestRows):
    """Nearest rows, on the CPU; BLAS decides on the number of threads.

    Parameters
    ----------
    queries, k, metric
        As for `NearestRows`.
    """

    def __init__(self, queries: Floats, k: int, metric: Metric = "cosine") -> None:
        super().__init__(queries, k, metric)
        self._values = np.full((len(queries), k), -np.inf, self.dtype)
        self._index = np.full((len(queries), k), -1, np.int64)

    def _compare(self, block: Floats, scale: Floats, offset: Floats) -> None:
        buffer = np.empty((min(BLOCK_QUERIES, len(self.queries)), len(block)), self.dtype)
        for start in range(0, len(self.queries), BLOCK_QUERIES):
            own = slice(start, start + BLOCK_QUERIES)
            queries = self.queries[own]
            products = np.matmul(queries, block.T, out=buffer[: len(queries)])
            kept = self._values[own], self._index[own]
            _keep_largest(products, scale, offset, self.n_rows, *kept)

    def _found(self) -> tuple[NDArray[np.int64], Floats]:
        return self._index, self._values
