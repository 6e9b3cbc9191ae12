"""Greedy choice of rows by distance from those chosen and a bonus: one pass over rows per step."""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Rows = NDArray[np.int64]


@numba.njit(nogil=True, cache=True, fastmath={"nnan", "nsz", "reassoc"})
def _approach(products: Any, squares: Any, row: Any, distance: Any) -> Any:
    """Lower ``distance`` to that from a row where it is nearer, and return the largest."""
    most = np.float32(0.0)
    for i in range(distance.shape[0]):
        nearest = min(distance[i], squares[i] + squares[row] - np.float32(2) * products[i])
        distance[i] = max(nearest, np.float32(0.0))
        most = max(most, distance[i])
    return most


def greedy(Z: Floats, n_keep: int, weight: float, bonus: Floats, start: Floats) -> Rows:
    """Choose rows one by one, each the best by coverage and bonus.

    Step t chooses ``argmax_i  weight · d_i(t) / max_i d_i(t) + bonus_i`` among the rows not yet
    chosen, the first of equal ones, where d_i(t) is the squared distance to the nearest chosen row.

    Parameters
    ----------
    Z
        Representations (n_samples, n_components); computed in float32.
    n_keep
        How many to choose, 1 to n_samples.
    weight
        Weight >= 0 of coverage.
    bonus
        What is added for each row (n_samples,).
    start
        Values (n_samples,) that stand in for weighted coverage at the first step.

    Returns
    -------
    ndarray
        Row numbers (n_keep,), int64, in the order in which they were chosen.

    Notes
    -----
    Time n_keep · n_samples · n_components, little more than one product of the rows with a vector
    per step. Memory: a float32 copy of `Z` and 28 bytes per row. Rows are centred, so that
    distances, as differences of products, are right to about 1e-6 of the largest.
    """
    centred = np.asarray(Z, np.float64) - np.mean(Z, axis=0, dtype=np.float64)
    rows = np.ascontiguousarray(centred, np.float32)
    distance, squares = np.full(len(rows), np.inf, np.float32), np.empty(len(rows), np.float32)
    np.einsum("ij,ij->i", rows, rows, out=squares)
    products, value = np.empty_like(squares), np.empty(len(rows))
    gain = np.array(bonus, np.float64)
    chosen = np.empty(n_keep, np.int64)
    chosen[0] = np.argmax(np.asarray(start, np.float64) + gain)
    for step in range(1, n_keep):
        last = chosen[step - 1]
        gain[last] = -np.inf
        np.matmul(rows, rows[last], out=products)
        furthest = float(_approach(products, squares, last, distance))
        scale = weight / furthest if furthest > 0 else 0.0
        np.multiply(distance, scale, out=value)
        value += gain
        chosen[step] = np.argmax(value)
    return chosen


def min_max(values: Floats) -> NDArray[np.float64]:
    """Return values mapped linearly onto [0, 1]; zeros if they are all equal.

    Parameters
    ----------
    values
        Any finite numbers.

    Returns
    -------
    ndarray
        Float64, of the same shape.
    """
    shifted = np.asarray(values, np.float64) - np.min(values)
    largest = shifted.max()
    return shifted / largest if largest > 0 else shifted
