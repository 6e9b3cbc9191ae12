"""Selections where torch computes, on a GPU: the definitions of their namesakes; imports torch.

Rows stay on the device. Greedy steps are queued there without waiting for one another, and what was
chosen is fetched at the end.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from continual.selection.centring import Floats, Vector, centred
from continual.selection.choice import Rows
from continual.selection.greedy import COPY
from continual.selection.kernel import EIGEN_FLOOR, sample_of, scaled
from heads.loop.devices import torch_device

STRIP_NUMBERS = 2**25
"""Numbers of a strip of the kernel: 128 MiB as float32, of which few copies are held."""


def greedy_on(
    Z: Floats, n_keep: int, weight: float, bonus: Floats, start: Floats, device: str
) -> tuple[Rows, Vector]:
    """Choose as `greedy` does.

    Parameters
    ----------
    Z, n_keep, weight, bonus, start
        As for `greedy`.
    device
        As for `heads.loop.devices.torch_device`.

    Returns
    -------
    tuple of ndarray
        As of `greedy`; rows whose values differ by less than 1e-6 of the largest distance may
        change places.
    """
    rows = torch.from_numpy(centred(Z)).to(torch_device(device))
    gain, first = (_beside(rows, values) for values in (bonus, start + np.asarray(bonus)))
    weights, squares = _beside(rows, [weight]), rows.square().sum(1)
    distance = torch.full_like(squares, torch.inf)
    chosen, score = _places(n_keep, rows)
    torch.max(first, 0, out=(score[0], chosen[0]))
    for step in range(1, n_keep):
        last = chosen[step - 1 : step]
        gain.index_fill_(0, last, -torch.inf)
        both = squares + squares[last]
        nearest = torch.sub(both, rows @ rows[last][0], alpha=2)
        nearest = torch.where(nearest > COPY * both, nearest, 0)
        torch.minimum(distance, nearest, out=distance)
        furthest = distance.amax(0, keepdim=True)
        scale = torch.where(furthest > 0, weights / furthest, 0)
        torch.max(distance * scale + gain, 0, out=(score[step], chosen[step]))
    return chosen.cpu().numpy(), score.cpu().numpy()


def herd_on(Z: Floats, n_keep: int, device: str) -> tuple[Rows, Vector]:
    """Choose as `herd` does.

    Parameters
    ----------
    Z, n_keep
        As for `herd`.
    device
        As for `heads.loop.devices.torch_device`.

    Returns
    -------
    tuple of ndarray
        As of `herd`.
    """
    rows = torch.from_numpy(np.ascontiguousarray(Z)).to(torch_device(device)).double()
    rows = rows - rows.mean(0)
    squares, total = rows.square().sum(1), torch.zeros_like(rows[0])
    chosen, score = _places(n_keep, rows)
    for step in range(n_keep):
        best = chosen[step : step + 1]
        torch.argmin(torch.add(squares, rows @ total, alpha=2), 0, keepdim=True, out=best)
        squares.index_fill_(0, best, torch.inf)
        total += rows[best][0]
        score[step] = total.norm() / (step + 1)
    return chosen.cpu().numpy(), score.cpu().numpy()


def exact_relevance_on(Z: Floats, sigma: float, device: str) -> Vector:
    """Return what `exact_relevance` does.

    Parameters
    ----------
    Z, sigma
        As for `exact_relevance`.
    device
        As for `heads.loop.devices.torch_device`.

    Returns
    -------
    ndarray
        Float64 (n_samples,), as exact.
    """
    kernel = _Kernel(Z, sigma, device)
    mean = kernel.sums(lambda K, strip: K) / len(Z)
    shift = (mean - mean.mean() / 2).float()

    def centred_squares(K: Tensor, strip: slice) -> Tensor:
        return K.sub_(shift[strip, None]).sub_(shift[strip.start :]).square_()

    return np.asarray(kernel.sums(centred_squares).cpu())


def nystrom_relevance_on(
    Z: Floats, sigma: float, rng: np.random.Generator, n_landmarks: int, device: str
) -> Vector:
    """Return what `nystrom_relevance` does, of the same landmarks.

    Parameters
    ----------
    Z, sigma, rng, n_landmarks
        As for `nystrom_relevance`.
    device
        As for `heads.loop.devices.torch_device`.

    Returns
    -------
    ndarray
        Float64 (n_samples,).
    """
    kernel, n = _Kernel(Z, sigma, device), len(Z)
    landmarks = torch.from_numpy(sample_of(n, n_landmarks, rng)).to(kernel.rows.device)
    gram = kernel.block(landmarks, landmarks).double().fill_diagonal_(1)
    values, vectors = torch.linalg.eigh((gram + gram.T) / 2)
    kept = values > EIGEN_FLOOR * values[-1]
    root = vectors[:, kept] / values[kept].sqrt()
    strips = kernel.strips(len(landmarks))

    def features(strip: slice) -> Tensor:
        found: Tensor = kernel.block(strip, landmarks).double() @ root
        return found

    total, C = torch.zeros_like(root[0]), root.new_zeros((root.shape[1],) * 2)
    for strip in strips:
        block = features(strip)
        total += block.sum(0)
        C += block.T @ block
    mean = total / n
    C -= n * torch.outer(mean, mean)
    parts = (features(strip) - mean for strip in strips)
    return np.asarray(torch.cat([((part @ C) * part).sum(1) for part in parts]).cpu())


class _Kernel:
    """Blocks of the Gaussian kernel of rows, float32, as `continual.selection.kernel.Kernel`."""

    def __init__(self, Z: Floats, sigma: float, device: str) -> None:
        self.rows = torch.from_numpy(scaled(Z, sigma)).to(torch_device(device))
        self.squares = self.rows.double().square().sum(1).float()

    def block(self, left: slice | Tensor, right: slice | Tensor) -> Tensor:
        """Return the kernel between two sets of rows."""
        K: Tensor = self.rows[left] @ self.rows[right].T
        K.mul_(2).sub_(self.squares[left, None]).sub_(self.squares[right])
        return K.clamp_(max=0).exp_()

    def strips(self, width: int) -> list[slice]:
        """Return ranges of rows that cover all; one has `STRIP_NUMBERS` numbers of that width."""
        n, size = len(self.rows), max(1, STRIP_NUMBERS // width)
        return [slice(start, min(start + size, n)) for start in range(0, n, size)]

    def sums(self, transform: Callable[[Tensor, slice], Tensor]) -> Tensor:
        """Return the sums over the rows of a symmetric matrix made from the kernel by strips.

        A strip is computed from its diagonal to the right; what is right of it counts twice.
        """
        sums = torch.zeros(len(self.rows), dtype=torch.float64, device=self.rows.device)
        for strip in self.strips(len(self.rows)):
            K = self.block(strip, slice(strip.start, None)).fill_diagonal_(1)
            values = transform(K, strip)
            sums[strip] += values.sum(1, dtype=torch.float64)
            beyond = values[:, strip.stop - strip.start :]
            sums[strip.stop :] += beyond.sum(0, dtype=torch.float64)
        return sums


def _beside(rows: Tensor, values: ArrayLike) -> Tensor:
    """Return a float64 copy of numbers where the rows are."""
    return torch.tensor(np.asarray(values, np.float64), device=rows.device)


def _places(n_keep: int, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return room for row numbers and their values where the rows are."""
    chosen = torch.empty(n_keep, dtype=torch.int64, device=rows.device)
    return chosen, torch.empty(n_keep, dtype=torch.float64, device=rows.device)
