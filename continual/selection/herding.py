"""Herding: rows whose mean follows the mean of their class."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Rows = NDArray[np.int64]


def choose_by_herding(Z: Floats, n_keep: int, rng: np.random.Generator) -> Rows:
    """Choose rows of one class so that the mean of those chosen is near that of all.

    Step k chooses ``argmin_i ‖μ - (φ_i + Σ_{j<k} φ_j) / k‖``, the first of equal ones, among the
    rows not yet chosen (Rebuffi et al., "iCaRL", CVPR 2017, algorithm 4).

    Parameters
    ----------
    Z
        Representations φ (n_samples, n_components) of one class, computed in float64.
    n_keep
        How many rows, 1 to n_samples.
    rng
        Not used; nothing is random.

    Returns
    -------
    ndarray
        Row numbers (n_keep,), int64, in the order in which they were chosen.

    Notes
    -----
    Time n_keep · n_samples · n_components: one product of `Z` with a vector per step. Memory: a
    float64 copy of `Z`.
    """
    rows = np.asarray(Z, np.float64)
    rows = rows - rows.mean(0)  # the mean becomes the origin
    squares = np.einsum("ij,ij->i", rows, rows)
    total = np.zeros(rows.shape[1])
    free = np.zeros(len(rows))
    chosen = np.empty(n_keep, np.int64)
    for step in range(n_keep):
        chosen[step] = np.argmin(squares + 2 * (rows @ total) + free)
        free[chosen[step]] = np.inf
        total += rows[chosen[step]]
    return chosen
