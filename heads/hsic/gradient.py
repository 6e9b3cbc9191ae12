"""HSIC of batched representations and its gradient in closed form, on torch tensors.

The counterpart of `heads.hsic.statistics` for training: many representations of the same samples at
once, on any device. `heads.hsic.training` descends along this gradient. This module imports torch.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from heads.hsic.statistics import BANDWIDTH_FLOOR, Median

CPU_BLOCK, GPU_BLOCK = 2**17, 2**26
"""Elements of one (members, n, n) temporary: within a core's cache, or enough to fill a GPU."""


class Kernels(NamedTuple):
    """Gaussian kernels of ``k`` sets of ``n`` points, with what their derivative needs."""

    gram: Tensor  # (k, n, n)
    distances: Tensor  # (k, n, n), squared
    scale: Tensor  # (k,), 2σ² + 1e-8
    pair: Tensor  # (k,), flat index of the squared distance that is σ²


def gaussian_kernels(Z: Tensor, median: Median) -> Kernels:
    """Return the Gaussian Gram matrices of several sets of points, bandwidth by median.

    Parameters
    ----------
    Z
        Points (k, n_components, n) whose mean is near zero, in columns; n >= 4.
    median
        Which squared distances the median is taken of; see
        `heads.hsic.statistics.median_bandwidth`.

    Returns
    -------
    Kernels
        The counterparts of `heads.hsic.statistics.squared_distances` and
        `heads.hsic.statistics.rbf_gram`.
    """
    distances = Z.transpose(1, 2) @ Z
    norms = distances.diagonal(dim1=1, dim2=2).clone()
    distances.mul_(-2).add_(norms[:, :, None]).add_(norms[:, None, :]).clamp_(min=0)
    distances.diagonal(dim1=1, dim2=2).zero_()
    pair = _median_pair(distances, median)
    scale = 2 * distances.flatten(1).gather(1, pair[:, None])[:, 0] + BANDWIDTH_FLOOR
    return Kernels((distances / -scale[:, None, None]).exp_(), distances, scale, pair)


def _median_pair(distances: Tensor, median: Median) -> Tensor:
    """Return the flat index, above the diagonal, of each matrix's lower median.

    Each distance occurs twice among the ``n²`` and the zeros of the diagonal come first, so the
    median of the matrix is an order statistic of the triangle.
    """
    n = distances.shape[-1]
    rank = (n * n - 1) // 2 - n if median == "with_diag" else (n * (n - 1) - 1) // 2
    row, column = torch.triu_indices(n, n, 1, device=distances.device)
    triangle: Tensor = row * n + column
    candidates = distances.flatten(1).index_select(1, triangle)
    if distances.device.type == "cpu":  # NumPy selects several times as fast as torch does
        order = np.argpartition(candidates.numpy(), rank // 2, axis=1)[:, rank // 2]
        return triangle.take(torch.from_numpy(order))
    return triangle.take(candidates.kthvalue(rank // 2 + 1, dim=1).indices)


def center_kernel(gram: Tensor) -> Tensor:
    """Return ``H K H`` of one Gram matrix (n, n)."""
    return gram.sub(gram.mean(0)).sub_(gram.mean(1, keepdim=True)).add_(gram.mean())


def add_hsic_gradient(
    gradient: Tensor,
    Z: Tensor,
    grams: Tensor,
    weights: Tensor,
    *,
    median: Median,
    attached: bool,
) -> Tensor:
    """Return HSIC between representations and given kernels, and add its gradient.

    Parameters
    ----------
    gradient
        Tensor like `Z`, to which the gradient of ``Σ_c weights[:, c] HSIC(Z, grams[c])`` with
        respect to `Z` is added in place.
    Z
        Representations (k, n_components, n) of ``k`` members, samples in columns; n >= 4.
    grams
        Centred Gram matrices (c, n, n) that all members are compared with.
    weights
        Factor (k, c) of each comparison.
    median
        Median rule of the bandwidth σ of each member's kernel.
    attached
        Whether σ is differentiated too. Then the gradient has no component along `Z`, because
        HSIC does not change with the scale of `Z`.

    Returns
    -------
    torch.Tensor
        Biased ``HSIC(Z, grams[c])`` (k, c), not weighted.

    Notes
    -----
    With ``M = Σ_c weights[c] grams[c]``, ``s = 2σ² + 1e-8`` and ``T = M ∘ K`` the sum is
    ``ΣT / (n-1)²``, hence ``∂/∂D = -T / s`` and ``∂/∂σ² = 2 Σ(T ∘ D) / s²``, which goes to the
    pair of samples whose distance is the median. There is no square root, so collapsed
    representations (σ = 0) have a finite gradient. Cost: two products of n² n_components, one
    selection and about ten passes over n² elements per member; nothing is kept for a backward
    pass. Members are taken in blocks, which keeps the temporaries small.
    """
    k, _, n = Z.shape
    size = max(1, (CPU_BLOCK if Z.device.type == "cpu" else GPU_BLOCK) // n**2)
    values = Z.new_empty(k, len(grams))
    for start in range(0, k, size):
        block = slice(start, start + size)
        centred = Z[block] - Z[block].mean(2, keepdim=True)
        kernels = gaussian_kernels(centred, median)
        values[block] = kernels.gram.flatten(1) @ grams.flatten(1).T / (n - 1) ** 2
        T = kernels.gram.mul_((weights[block] @ grams.flatten(1)).view_as(kernels.gram))
        T *= (-4 / (kernels.scale * (n - 1) ** 2))[:, None, None]
        gradient[block] += torch.baddbmm(centred * T.sum(2)[:, None, :], centred, T, alpha=-1)
        if attached:
            _add_bandwidth_gradient(gradient[block], centred, kernels, T)
    return values


def _add_bandwidth_gradient(gradient: Tensor, Z: Tensor, kernels: Kernels, T: Tensor) -> None:
    """Add the gradient through σ², which is the squared distance of one pair of samples.

    ``T`` is that of `add_hsic_gradient` times ``-4 / (s (n-1)²)``.
    """
    slope = -(T * kernels.distances).sum((1, 2)) / kernels.scale
    member, n = torch.arange(len(Z), device=Z.device), Z.shape[2]
    p, q = kernels.pair // n, kernels.pair % n
    pull = slope[:, None] * (Z[member, :, p] - Z[member, :, q])
    gradient[member, :, p] += pull
    gradient[member, :, q] -= pull
