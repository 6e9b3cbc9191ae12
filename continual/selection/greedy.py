"""Greedy choice of rows by distance from those chosen and a bonus: one pass over rows per step."""

from typing import Any

import numba
import numpy as np

from continual.selection.centring import Floats, Vector, centred
from continual.selection.choice import Rows

BLOCK = 512
"""Rows that a compiled pass takes at a time, a power of two: they stay in the nearest cache."""

ROUNDING = 1e-6
"""Relative difference of relevances that sums of float32 do not resolve."""

COPY = 4e-7
"""Squared distance, relative to the sum of two squared norms, up to which rows count as copies."""


@numba.njit(nogil=True, cache=True)
def _approach(products: Any, squares: Any, square: Any, distance: Any) -> Any:
    """Lower ``distance`` to that from a row where it is nearer, and return the largest's bits.

    The bits of floats >= 0, read as integers, are in the order of the floats; the largest integer
    is found several at a time, the largest float is not.
    """
    largest = np.int32(0)
    for start in range(0, len(distance), BLOCK):
        part = slice(start, start + BLOCK)
        d, s, p = distance[part], squares[part], products[part]
        for i in range(len(d)):
            both = s[i] + square
            near = both - np.float32(2) * p[i]
            d[i] = min(d[i], near if near > np.float32(COPY) * both else np.float32(0))
        bits = d.view(np.int32)
        for i in range(len(bits)):
            largest = max(largest, bits[i])
    return largest


@numba.njit(nogil=True, cache=True)
def _best(distance: Any, scale: Any, gain: Any) -> Any:
    """Return the first row with the largest ``scale · distance + gain``, and that value."""
    row, top, pool = 0, -np.inf, np.empty(BLOCK)
    for start in range(0, len(distance), BLOCK):
        d, g = distance[start : start + BLOCK], gain[start : start + BLOCK]
        pool[len(d) :] = -np.inf
        for i in range(len(d)):
            pool[i] = scale * d[i] + g[i]
        half = BLOCK // 2
        while half:  # fold the block until its largest value is the first
            left, right = pool[:half], pool[half : 2 * half]
            for i in range(half):
                left[i] = max(left[i], right[i])
            half //= 2
        if pool[0] > top:
            top = pool[0]
            for i in range(len(d)):
                if scale * d[i] + g[i] == top:
                    row = start + i
                    break
    return row, top


def greedy(
    Z: Floats, n_keep: int, weight: float, bonus: Floats, start: Floats, *, device: str = "cpu"
) -> tuple[Rows, Vector]:
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
    device
        ``"cpu"``, or where torch computes; see `heads.loop.devices.torch_device`.

    Returns
    -------
    tuple of ndarray
        Row numbers (n_keep,), int64, in the order in which they were chosen, and the value of each
        when it was chosen (n_keep,), float64.

    Notes
    -----
    Time n_keep · n_samples · n_components, little more than one product of the rows with a vector
    per step. Memory: a float32 copy of `Z` and 20 bytes per row. Rows are centred, so that
    distances, as differences of products, are right to about 1e-6 of the largest; rows whose values
    differ less may change places on another machine or device, or with more threads. What is up
    to `COPY` counts as 0, so that copies of a chosen row cover nothing.

    Examples
    --------
    >>> from numpy import arange, zeros
    >>> rows, _ = greedy(arange(11.0)[:, None], 4, 1.0, zeros(11), arange(11) == 0)
    >>> rows.tolist()
    [0, 10, 5, 2]
    """
    if device != "cpu":
        from continual.selection.on_torch import greedy_on

        return greedy_on(Z, n_keep, weight, bonus, start, device)
    rows, gain = centred(Z), np.array(bonus, np.float64)
    squares = np.einsum("ij,ij->i", rows, rows)
    distance, products = np.full_like(squares, np.inf), np.empty_like(squares)
    chosen, score = np.empty(n_keep, np.int64), np.empty(n_keep)
    first = start + gain
    chosen[0], score[0] = np.argmax(first), np.max(first)
    for step in range(1, n_keep):
        last = chosen[step - 1]
        gain[last] = -np.inf
        np.matmul(rows, rows[last], out=products)
        furthest = np.int32(_approach(products, squares, squares[last], distance)).view(np.float32)
        scale = weight / float(furthest) if furthest > 0 else 0.0
        chosen[step], score[step] = _best(distance, scale, gain)
    return chosen, score


def min_max(values: Floats) -> Vector:
    """Return values mapped linearly onto [0, 1]; zeros if they are all equal, up to `ROUNDING`.

    Parameters
    ----------
    values
        Any finite numbers.

    Returns
    -------
    ndarray
        Float64, of the same shape.
    """
    shifted: Vector = np.asarray(values, np.float64) - np.min(values)
    largest = shifted.max()
    resolved = largest > ROUNDING * np.abs(values).max()
    return shifted / largest if resolved else np.zeros_like(shifted)
