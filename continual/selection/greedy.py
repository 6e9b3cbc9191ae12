"""Greedy choice of rows by distance to the chosen and a bonus: one pass over the rows per step."""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Rows = NDArray[np.int64]

REORDERED = {"reassoc", "contract", "nsz"}
"""Sums over the features of a row may be vectorised; NaN and infinity keep their meaning."""


@numba.njit(parallel=True, fastmath=REORDERED, cache=True)
def _approach(Z: Any, chosen: Any, distance: Any, largest: Any) -> None:
    """Lower ``distance`` to that from ``chosen`` where it is nearer; note the largest per part."""
    n_parts = largest.shape[0]
    size = -(-Z.shape[0] // n_parts)
    for part in numba.prange(n_parts):
        most = np.float32(0.0)
        for i in range(part * size, min((part + 1) * size, Z.shape[0])):
            total = np.float32(0.0)
            for j in range(Z.shape[1]):
                difference = Z[i, j] - chosen[j]
                total += difference * difference
            if total < distance[i]:
                distance[i] = total
            most = max(most, distance[i])
        largest[part] = most


@numba.njit(parallel=True, cache=True)
def _best(distance: Any, bonus: Any, scale: Any, best: Any) -> None:
    """Note per part the first row with the largest ``scale * distance + bonus``."""
    n_parts = best.shape[0]
    size = -(-distance.shape[0] // n_parts)
    for part in numba.prange(n_parts):
        start, most = part * size, -np.inf
        best[part] = start
        for i in range(start, min((part + 1) * size, distance.shape[0])):
            value = scale * distance[i] + bonus[i]
            if value > most:
                best[part], most = i, value


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
    Time n_keep · n_samples · n_components, memory 12 bytes per row besides `Z`. The distances of a
    row are summed in one order whatever the number of threads, so that the choice does not depend
    on it.
    """
    rows = np.ascontiguousarray(Z, np.float32)
    distance = np.full(len(rows), np.inf, np.float32)
    gain = np.array(bonus, np.float64)
    n_parts = max(1, min(numba.get_num_threads(), len(rows)))
    largest, best = np.empty(n_parts, np.float32), np.empty(n_parts, np.int64)
    chosen = np.empty(n_keep, np.int64)
    chosen[0] = np.argmax(np.asarray(start, np.float64) + gain)
    for step in range(1, n_keep):
        gain[chosen[step - 1]] = -np.inf
        _approach(rows, rows[chosen[step - 1]], distance, largest)
        furthest = float(largest.max())
        scale = weight / furthest if furthest > 0 else 0.0
        _best(distance, gain, scale, best)
        values = scale * distance[best].astype(np.float64) + gain[best]
        chosen[step] = best[np.argmax(values)]
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
