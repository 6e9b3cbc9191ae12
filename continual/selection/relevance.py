"""HSIC relevance of every row, ``r_i = ‖K̄_i‖²`` with K̄ the centred Gaussian kernel of the rows.

Yang et al., "HSIC Bottleneck for Cross-Generator and Domain-Incremental Synthetic Image Detection",
ICLR 2026. The sum over all rows is ``(n - 1)² HSIC(z, z)``. With ``a = K 1 / n`` and g the
mean of a, ``K̄_ij = K_ij - a_i - a_j + g``: two passes over tiles of K, and no n × n matrix, give it
exactly (`exact_relevance`). `nystrom_relevance` and `column_relevance` approximate it in time
linear in the number of rows.
"""

from collections.abc import Callable, Iterator
from itertools import combinations_with_replacement
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

Floats = NDArray[np.floating[Any]]
Vector = NDArray[np.float64]

TILE = 512
"""Rows and columns of a tile: 1 MiB as float32, so that it stays in the cache."""

EIGEN_FLOOR = 1e-10
"""Smallest eigenvalue of the landmarks' kernel that is kept, relative to the largest."""


def median_sigma(Z: Floats, rng: np.random.Generator, n_rows: int = 2048) -> float:
    """Return the bandwidth: root of the median squared distance of a sample of rows.

    Parameters
    ----------
    Z
        Representations (n_samples, n_components).
    rng
        Chooses the sample.
    n_rows
        Most rows of the sample.

    Returns
    -------
    float
        σ >= 0 of ``exp(-‖a - b‖² / 2σ²)``; the median is over pairs of different rows.
    """
    from scipy.spatial.distance import pdist

    sample = np.asarray(Z)
    if len(sample) > n_rows:
        sample = sample[np.sort(rng.choice(len(sample), n_rows, replace=False))]
    if len(sample) < 2:
        return 0.0
    return float(np.sqrt(np.median(pdist(sample.astype(np.float64), "sqeuclidean"))))


class _Kernel:
    """Blocks of the Gaussian kernel of rows, float32.

    Rows are centred first: distances do not change, and products lose less.
    """

    def __init__(self, Z: Floats, sigma: float) -> None:
        centred = np.asarray(Z, np.float64) - np.mean(Z, axis=0, dtype=np.float64)
        # With σ = 0 every row is alike, or every pair of unlike rows infinitely far.
        scale = 1 / (sigma * np.sqrt(2)) if sigma > 0 else 1e18
        self.rows = (centred * scale).astype(np.float32)
        self.squares = (self.rows.astype(np.float64) ** 2).sum(1).astype(np.float32)

    def block(self, left: slice | NDArray[Any], right: slice | NDArray[Any]) -> Floats:
        """Return the kernel between two sets of rows."""
        K = self.rows[left] @ self.rows[right].T
        K *= 2
        K -= self.squares[left][:, None]
        K -= self.squares[right]
        np.minimum(K, 0, out=K)
        np.exp(K, out=K)
        return K


def exact_relevance(Z: Floats, sigma: float) -> Vector:
    """Return the relevance of every row, computed tile by tile.

    Parameters
    ----------
    Z
        Representations (n_samples, n_components).
    sigma
        Bandwidth of the Gaussian kernel.

    Returns
    -------
    ndarray
        Float64 (n_samples,), relative error about 1e-6: tiles are float32, sums over tiles float64.

    Notes
    -----
    Time n_samples² · n_components, each pair of rows computed twice; memory 16 bytes per row
    besides a float32 copy of `Z`.
    """
    kernel, n = _Kernel(Z, sigma), len(Z)
    mean = _sums_over_tiles(kernel, n, lambda K, left, right: K) / n
    shift = (mean - mean.mean() / 2).astype(np.float32)

    def centred_squares(K: Floats, left: slice, right: slice) -> Floats:
        K -= shift[left][:, None]
        K -= shift[right]
        return np.square(K, out=K)

    return _sums_over_tiles(kernel, n, centred_squares)


def _sums_over_tiles(
    kernel: _Kernel, n: int, transform: Callable[[Floats, slice, slice], Floats]
) -> Vector:
    """Return the sums over the rows of a symmetric matrix made from the kernel tile by tile."""
    sums = np.zeros(n)
    for left, right in _tiles(n):
        K = kernel.block(left, right)
        if left == right:
            np.fill_diagonal(K, 1)
        values = transform(K, left, right)
        sums[left] += values.sum(1)
        if left != right:
            sums[right] += values.sum(0)
    return sums


def _tiles(n: int) -> Iterator[tuple[slice, slice]]:
    """Yield pairs of ranges that cover every unordered pair of rows once."""
    parts = [slice(start, min(start + TILE, n)) for start in range(0, n, TILE)]
    return combinations_with_replacement(parts, 2)


class Landmarks:
    """Nyström features of rows: ``Φ = K_nL K_LL^(-1/2)``, so that ``Φ Φᵀ`` is nearly the kernel.

    Parameters
    ----------
    Z
        Representations (n_samples, n_components).
    sigma
        Bandwidth of the Gaussian kernel.
    rng
        Chooses the landmarks.
    n_landmarks
        How many; all rows if there are fewer.
    """

    def __init__(self, Z: Floats, sigma: float, rng: np.random.Generator, n_landmarks: int) -> None:
        self._kernel, self._n = _Kernel(Z, sigma), len(Z)
        self._rows = np.sort(rng.choice(self._n, min(n_landmarks, self._n), replace=False))
        gram = self._kernel.block(self._rows, self._rows).astype(np.float64)
        np.fill_diagonal(gram, 1)
        values, vectors = np.linalg.eigh((gram + gram.T) / 2)
        kept = values > EIGEN_FLOOR * values[-1]
        self._root = vectors[:, kept] / np.sqrt(values[kept])

    def parts(self) -> list[slice]:
        """Return ranges of rows that cover all of them."""
        return [slice(start, min(start + TILE, self._n)) for start in range(0, self._n, TILE)]

    def of(self, part: slice) -> NDArray[np.float64]:
        """Return the features (n, n_features) of a range of rows."""
        features: NDArray[np.float64] = self._kernel.block(part, self._rows) @ self._root
        return features

    def mean_and_scatter(self) -> tuple[Vector, NDArray[np.float64]]:
        """Return the mean of the features, and the sum of products of their deviations."""
        total, C = np.zeros(self._root.shape[1]), np.zeros((self._root.shape[1],) * 2)
        for part in self.parts():
            features = self.of(part)
            total += features.sum(0)
            C += features.T @ features
        mean = total / self._n
        return mean, C - self._n * np.outer(mean, mean)


def nystrom_relevance(
    Z: Floats, sigma: float, rng: np.random.Generator, n_landmarks: int = 512
) -> Vector:
    """Return the relevance in the feature space of some landmark rows.

    With ``Φ = K_nL K_LL^(-1/2)`` centred and ``C = ΦᵀΦ`` it is ``r_i = φ_iᵀ C φ_i``; exact if every
    row is a landmark.

    Parameters
    ----------
    Z
        Representations (n_samples, n_components).
    sigma
        Bandwidth of the Gaussian kernel.
    rng
        Chooses the landmarks.
    n_landmarks
        How many; all rows if there are fewer.

    Returns
    -------
    ndarray
        Float64 (n_samples,).

    Notes
    -----
    Time n_samples · n_landmarks · (n_components + 2 n_landmarks), memory n_landmarks² and 8 bytes
    per row: linear in the number of rows.
    """
    features = Landmarks(Z, sigma, rng, n_landmarks)
    mean, C = features.mean_and_scatter()
    relevance = np.empty(len(Z))
    for part in features.parts():
        centred = features.of(part) - mean
        relevance[part] = np.einsum("ij,ij->i", centred @ C, centred)
    return relevance


def column_relevance(
    Z: Floats, sigma: float, rng: np.random.Generator, n_columns: int = 1024
) -> Vector:
    """Return the relevance estimated from some columns of the kernel.

    The mean of ``K̄_ij²`` over the sampled j != i, centred with the means over the sample, stands
    for the mean over all j; the diagonal term ``(1 - 2 a_i + g)²`` is added.

    Parameters
    ----------
    Z
        Representations (n_samples, n_components).
    sigma
        Bandwidth of the Gaussian kernel.
    rng
        Chooses the columns.
    n_columns
        How many, at least 2; all if there are fewer rows.

    Returns
    -------
    ndarray
        Float64 (n_samples,).
    """
    kernel, n = _Kernel(Z, sigma), len(Z)
    columns = np.sort(rng.choice(n, min(n_columns, n), replace=False))
    place = np.full(n, -1)
    place[columns] = np.arange(len(columns))
    inner = kernel.block(columns, columns).astype(np.float64)
    column_mean = inner.mean(0)
    g = column_mean.mean()
    relevance = np.empty(n)
    for start in range(0, n, TILE):
        part = slice(start, min(start + TILE, n))
        K = kernel.block(part, columns).astype(np.float64)
        a = K.mean(1)
        centred = (K - a[:, None] - column_mean + g) ** 2
        own = place[part]
        inside = np.flatnonzero(own >= 0)
        centred[inside, own[inside]] = 0
        others = len(columns) - (own >= 0)
        relevance[part] = (n - 1) * centred.sum(1) / np.maximum(others, 1)
        relevance[part] += (1 - 2 * a + g) ** 2
    return relevance


class Agreement(NamedTuple):
    """How an approximation compares with the exact value on the same rows."""

    spearman: float
    """Rank correlation."""
    error: float
    """Median relative error."""
    n_rows: int
    """Number of rows compared."""


def agreement(approximate: Vector, exact: Vector) -> Agreement:
    """Compare two relevances of the same rows.

    Parameters
    ----------
    approximate, exact
        Float64 (n_samples,).

    Returns
    -------
    Agreement
        Rank correlation and median relative error.
    """
    error = np.abs(approximate - exact) / np.maximum(np.abs(exact), np.finfo(np.float64).tiny)
    rank = spearmanr(approximate, exact).statistic
    return Agreement(float(rank), float(np.median(error)), len(exact))
