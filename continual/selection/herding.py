"""Herding: rows whose mean follows the mean of all."""

import numpy as np

from continual.selection.centring import Floats, Vector
from continual.selection.greedy import Rows


def herd(Z: Floats, n_keep: int, *, device: str = "cpu") -> tuple[Rows, Vector]:
    """Choose rows one by one so that the mean of those chosen is near that of all.

    Step k chooses ``argmin_i ‖μ - (φ_i + Σ_{j<k} φ_j) / k‖``, the first of equal ones, among the
    rows not yet chosen (Rebuffi et al., "iCaRL", CVPR 2017, algorithm 4).

    Parameters
    ----------
    Z
        Representations φ (n_samples, n_components), computed in float64.
    n_keep
        How many rows, 1 to n_samples.
    device
        ``"cpu"``, or where torch computes; see `heads.loop.devices.torch_device`.

    Returns
    -------
    tuple of ndarray
        Row numbers (n_keep,), int64, in the order in which they were chosen, and the distance
        ``‖μ - Σ_{j<=k} φ_j / k‖`` that each left (n_keep,), float64.

    Notes
    -----
    Time n_keep · n_samples · n_components: one product of `Z` with a vector per step. Memory: a
    float64 copy of `Z` and 16 bytes per row.

    Examples
    --------
    >>> rows, distance = herd(np.array([[0.0], [1.0], [5.0]]), 2)
    >>> rows.tolist(), distance.tolist()
    ([1, 2], [1.0, 1.0])
    """
    if device != "cpu":
        from continual.selection.on_torch import herd_on

        return herd_on(Z, n_keep, device)
    mean = np.mean(Z, axis=0, dtype=np.float64)
    rows = np.subtract(Z, mean, dtype=np.float64, order="C")  # the mean becomes the origin
    squares, value = np.einsum("ij,ij->i", rows, rows), np.empty(len(rows))
    total = np.zeros(rows.shape[1])
    chosen, score = np.empty(n_keep, np.int64), np.empty(n_keep)
    for step in range(n_keep):
        np.matmul(rows, total, out=value)
        value *= 2
        value += squares
        best = chosen[step] = np.argmin(value)
        squares[best] = np.inf
        total += rows[best]
        score[step] = np.linalg.norm(total) / (step + 1)
    return chosen, score
