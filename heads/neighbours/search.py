"""Exact nearest neighbours of any number of rows in a bank of any size, in bounded memory.

A bank goes by in blocks; of every query the nearest rows seen so far are kept. What is computed
from a block is one matrix product, whatever the metric: the similarity of row b to a query q grows
with ``q·b · scale(b) + offset(b)``. Engines (compiled code, torch, faiss) only find the largest.
"""

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from heads.loop.batch_source import Floats

Metric = Literal["cosine", "inner", "euclidean"]
Engine = Literal["compiled", "torch", "faiss"]

BLOCK_NUMBERS, BLOCK_ROWS = 2**20, 2**12
"""Most features of a block of the bank, all rows together (4 MiB as float32), and most rows."""


class Neighbours(NamedTuple):
    """The k nearest rows of a bank, nearest first, rows that are equally near in their order.

    ``index`` is int64 (n_queries, k), positions in the bank; ``similarity`` float (n_queries, k):
    the inner product, the cosine, or minus the Euclidean distance.
    """

    index: NDArray[np.int64]  # type: ignore[assignment]  # shadows tuple.index
    similarity: Floats


class NearestRows:
    """The nearest rows to some queries, found while a bank goes by.

    Parameters
    ----------
    queries
        Rows (n_queries, n_features), finite, held as float32, or as float64 if they are that or
        the metric is Euclidean (whose products cancel).
    k
        How many neighbours, at least 1.
    metric
        What is near; the cosine with a row of zeros is 0.

    Notes
    -----
    Memory: the queries, 12 bytes per query and neighbour (16 for float64), one block of the bank
    (`BLOCK_NUMBERS`, `BLOCK_ROWS`) and its products with some of the queries.
    """

    def __init__(self, queries: Floats, k: int, metric: Metric = "cosine") -> None:
        if k < 1:
            raise ValueError(f"'k' must be at least 1, got {k!r}.")
        if metric not in get_args(Metric):
            raise ValueError(f"'metric' must be one of {get_args(Metric)}, got {metric!r}.")
        wide = metric == "euclidean" or queries.dtype == np.float64
        self.dtype = np.dtype(np.float64 if wide else np.float32)
        self.queries = np.ascontiguousarray(queries, self.dtype)
        if metric == "cosine":
            self.queries = unit_rows(self.queries)
        self.k, self._metric = k, metric
        self.n_rows = 0

    def add(self, rows: Floats) -> None:
        """Let the next rows of the bank go by.

        Parameters
        ----------
        rows
            Finite floats (n, n_features).

        Raises
        ------
        ValueError
            If they have another number of features than the queries.
        """
        n_features = self.queries.shape[1]
        if rows.ndim != 2 or rows.shape[1] != n_features:
            raise ValueError(
                f"rows of a bank must have the {n_features} features of the queries, got shape "
                f"{rows.shape}."
            )
        size = max(1, min(BLOCK_ROWS, BLOCK_NUMBERS // n_features))
        for start in range(0, len(rows), size):
            block = np.ascontiguousarray(rows[start : start + size], self.dtype)
            self._compare(block, *self._terms(block))
            self.n_rows += len(block)

    def result(self) -> Neighbours:
        """Return the neighbours: k of them, or all rows of a bank that has fewer.

        Returns
        -------
        Neighbours
            Of shape (n_queries, min(k, n_rows)).

        Raises
        ------
        ValueError
            If no row has gone by.
        """
        if not self.n_rows:
            raise ValueError("a bank must have at least one row, got none.")
        index, value = self._found()
        index, value = index[:, : self.n_rows], value[:, : self.n_rows]
        if self._metric == "euclidean":
            squared = np.einsum("ij,ij->i", self.queries, self.queries)[:, None] - 2 * value
            value = -np.sqrt(np.maximum(squared, 0))
        return Neighbours(index, value)

    def _terms(self, block: Floats) -> tuple[Floats, Floats]:
        """Return scale and offset of the rows of a block."""
        scale, offset = np.ones(len(block), self.dtype), np.zeros(len(block), self.dtype)
        if self._metric == "cosine":
            scale = inverse_norms(block)
        if self._metric == "euclidean":
            offset = -0.5 * np.einsum("ij,ij->i", block, block)
        return scale, offset

    def _compare(self, block: Floats, scale: Floats, offset: Floats) -> None:
        """Keep the rows of a block that are among the nearest; earlier rows win ties."""
        raise NotImplementedError

    def _found(self) -> tuple[NDArray[np.int64], Floats]:
        """Return positions and values (n_queries, k) of the nearest rows, nearest first."""
        raise NotImplementedError


def nearest_rows(
    queries: Floats,
    k: int,
    *,
    metric: Metric = "cosine",
    engine: Engine = "compiled",
    device: str = "auto",
) -> NearestRows:
    """Return a search to which a bank is added piece by piece.

    Parameters
    ----------
    queries
        Rows (n_queries, n_features), finite.
    k
        How many neighbours, at least 1.
    metric
        What is near: the cosine, the inner product, or the Euclidean distance.
    engine
        ``"compiled"`` (BLAS and compiled code on the CPU), ``"torch"``, or ``"faiss"`` if it is
        installed (cosine and inner product in float32, which of equally near rows at the k-th
        place it keeps is its own choice).
    device
        Where torch computes: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:<n>"``.

    Returns
    -------
    NearestRows
        An object with ``add(rows)`` and ``result()``.

    Raises
    ------
    ValueError
        If an argument is not legal.

    Examples
    --------
    >>> search = nearest_rows(np.array([[1.0, 0.0]]), 2)
    >>> search.add(np.array([[0.0, 1.0], [2.0, 0.0]]))
    >>> search.add(np.array([[3.0, 4.0]]))
    >>> search.result().index.tolist(), search.result().similarity.round(6).tolist()
    ([[1, 2]], [[1.0, 0.6]])
    """
    if engine not in ENGINES:
        raise ValueError(f"'engine' must be one of {list(ENGINES)}, got {engine!r}.")
    search: NearestRows = ENGINES[engine](queries, k, metric, device)
    return search


def knn_search(
    queries: Floats,
    bank: Floats | Iterable[Floats],
    k: int,
    *,
    metric: Metric = "cosine",
    engine: Engine = "compiled",
    device: str = "auto",
) -> Neighbours:
    """Return the k nearest rows of a bank to every query.

    Parameters
    ----------
    queries
        Rows (n_queries, n_features), finite.
    bank
        Rows (n_rows, n_features), finite, memory maps among them, or an iterable of such arrays,
        which is read once and never held.
    k, metric, engine, device
        As for `nearest_rows`.

    Returns
    -------
    Neighbours
        Positions and similarities (n_queries, min(k, n_rows)).

    Raises
    ------
    ValueError
        If an argument is not legal or the bank is empty.

    Notes
    -----
    ``2 · n_queries · n_rows · n_features`` operations, of which the search for the largest is a
    few per cent. Equally near rows are kept in their order, so the result does not depend on how
    the bank is cut, but for the rounding of the products.

    Examples
    --------
    >>> bank = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> knn_search(bank, bank, 2, metric="euclidean").index.tolist()
    [[0, 2], [1, 2], [2, 0]]
    """
    search = nearest_rows(queries, k, metric=metric, engine=engine, device=device)
    for rows in [bank] if isinstance(bank, np.ndarray) else bank:
        search.add(rows)
    return search.result()


def inverse_norms(rows: Floats) -> Floats:
    """Return one over the length of every row, 0 for rows of zeros.

    Parameters
    ----------
    rows
        Floats (n, n_features).

    Returns
    -------
    ndarray
        Shape (n,), of the same type; lengths are computed in float64.

    Examples
    --------
    >>> inverse_norms(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [0.2, 0.0]
    """
    squared = np.einsum("ij,ij->i", rows, rows, dtype=np.float64, casting="same_kind")
    inverse = np.zeros_like(squared)
    np.divide(1, np.sqrt(squared), out=inverse, where=squared > 0)
    narrow: Floats = np.minimum(inverse, np.finfo(rows.dtype).max).astype(rows.dtype)
    return narrow


def unit_rows(rows: Floats) -> Floats:
    """Return the rows at length one; rows of zeros stay what they are.

    Parameters
    ----------
    rows
        Floats (n, n_features).

    Returns
    -------
    ndarray
        Shape (n, n_features), of the same type.

    Examples
    --------
    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])).round(6).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    scaled: Floats = rows * inverse_norms(rows)[:, None]
    return scaled


def _compiled(queries: Floats, k: int, metric: Metric, device: str) -> NearestRows:
    from heads.neighbours.compiled import CompiledSearch

    return CompiledSearch(queries, k, metric)


def _torch(queries: Floats, k: int, metric: Metric, device: str) -> NearestRows:
    from heads.neighbours.with_torch import TorchSearch

    return TorchSearch(queries, k, metric, device)


def _faiss(queries: Floats, k: int, metric: Metric, device: str) -> NearestRows:
    from heads.neighbours.with_faiss import FaissSearch

    return FaissSearch(queries, k, metric)


ENGINES: dict[str, Callable[[Floats, int, Metric, str], NearestRows]] = {
    "compiled": _compiled,
    "torch": _torch,
    "faiss": _faiss,
}
"""What finds the largest similarities, by name; their libraries are imported when used."""
