"""HSIC relevance of every row, ``r_i = ‖K̄_i‖²`` with K̄ the centred Gaussian kernel of the rows.

Yang et al., "HSIC Bottleneck for Cross-Generator and Domain-Incremental Synthetic Image Detection",
ICLR 2026. The sum over all rows is ``(n - 1)² HSIC(z, z)``. With ``a = K 1 / n`` and g the
mean of a, ``K̄_ij = K_ij - a_i - a_j + g``: two passes over tiles of K, and no n × n matrix, give it
exactly (`exact_relevance`). `nystrom_relevance` and `column_relevance` approximate it in time
linear in the number of rows.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from scipy.stats import spearmanr

from continual.selection.centring import Floats, Vector
from continual.selection.choice import Rows
from continual.selection.kernel import Kernel, inverse_root, parts, sample_of, tiles

N_LANDMARKS = 512
"""Landmarks of the Nyström approximation."""

N_COLUMNS = 1024
"""Columns of the kernel that are looked at by the column approximation."""

N_COMPARED = 2048
"""Rows on which an approximation is compared with the exact values."""


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
        Float64 (n_samples,), from tiles in float32 and sums in float64. Kernel values are right to
        1e-7, or to 1e-7 ‖z - mean‖²/σ² far from the mean; relevance to about 1e-6 where distances
        from the mean are some σ, to 1e-3 at a hundred σ or where all are a hundredth of σ.

    Notes
    -----
    Time n_samples² · n_components, each pair of rows computed twice; memory 16 bytes per row
    besides a float32 copy of `Z`.
    """
    kernel, n = Kernel(Z, sigma), len(Z)
    mean = _sums_over_tiles(kernel, n, lambda K, left, right: K) / n
    shift = (mean - mean.mean() / 2).astype(np.float32)

    def centred_squares(K: Floats, left: slice, right: slice) -> Floats:
        K -= shift[left][:, None]
        K -= shift[right]
        return np.square(K, out=K)

    return _sums_over_tiles(kernel, n, centred_squares)


def _sums_over_tiles(
    kernel: Kernel, n: int, transform: Callable[[Floats, slice, slice], Floats]
) -> Vector:
    """Return the sums over the rows of a symmetric matrix made from the kernel tile by tile."""
    sums = np.zeros(n)
    for left, right in tiles(n):
        K = kernel.block(left, right)
        if left == right:
            np.fill_diagonal(K, 1)
        values = transform(K, left, right)
        sums[left] += values.sum(1)
        if left != right:
            sums[right] += values.sum(0)
    return sums


def nystrom_relevance(
    Z: Floats, sigma: float, rng: np.random.Generator, n_landmarks: int = N_LANDMARKS
) -> Vector:
    """Return the relevance in the feature space of some landmark rows.

    With ``Φ = K_nL K_LL^(-1/2)`` centred and ``C = ΦᵀΦ`` it is ``r_i = φ_iᵀ C φ_i``, computed as
    ``k_iᵀ K_LL⁻¹ (K_nLᵀ K_nL) K_LL⁻¹ k_i`` of centred columns; exact if every row is a landmark.

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
    Time 2 · n_samples · n_landmarks · (n_components + n_landmarks), memory n_landmarks², 16 bytes
    per row and a float32 copy of `Z`: linear in the number of rows.
    """
    landmarks = sample_of(len(Z), n_landmarks, rng)
    return _by_landmarks(Kernel(Z, sigma), landmarks, np.arange(len(Z)))


def column_relevance(
    Z: Floats, sigma: float, rng: np.random.Generator, n_columns: int = N_COLUMNS
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

    Notes
    -----
    Time n_samples · n_columns · n_components, memory 16 bytes per row and a float32 copy of `Z`.
    """
    columns = sample_of(len(Z), n_columns, rng)
    return _by_columns(Kernel(Z, sigma), columns, np.arange(len(Z)))


def _by_landmarks(kernel: Kernel, landmarks: Rows, rows: Rows) -> Vector:
    """Return the relevance of rows among themselves; the landmarks may be others."""
    total, scatter = np.zeros(len(landmarks)), np.zeros((len(landmarks),) * 2)
    for part in parts(len(rows)):
        block = kernel.block(rows[part], landmarks).astype(np.float64)
        total += block.sum(0)
        scatter += block.T @ block
    mean = total / len(rows)
    scatter -= len(rows) * np.outer(mean, mean)
    root = inverse_root(kernel.gram(landmarks))
    inverse = root @ root.T
    middle = inverse @ scatter @ inverse
    relevance = np.empty(len(rows))
    for part in parts(len(rows)):
        block = kernel.block(rows[part], landmarks) - mean
        relevance[part] = np.einsum("ij,ij->i", block @ middle, block)
    return relevance


def _by_columns(kernel: Kernel, columns: Rows, rows: Rows) -> Vector:
    """Return the relevance of rows in a population of their size; the columns may be others."""
    column_mean = kernel.gram(columns).mean(0)
    g = column_mean.mean()
    relevance = np.empty(len(rows))
    for part in parts(len(rows)):
        K = kernel.block(rows[part], columns).astype(np.float64)
        own = rows[part][:, None] == columns
        K[own] = 1
        a = K.mean(1)
        centred = (K - a[:, None] - column_mean + g) ** 2
        centred[own] = 0
        others = np.maximum(len(columns) - own.sum(1), 1)
        relevance[part] = (len(rows) - 1) * centred.sum(1) / others + (1 - 2 * a + g) ** 2
    return relevance


class Agreement(NamedTuple):
    """How an approximation compares with the exact value on the same rows."""

    spearman: float
    """Rank correlation; nan if all values are equal."""
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
        Rank correlation and median relative error; exact values below 1e-6, which float32 tiles do
        not resolve, count as 1e-6.
    """
    error = np.median(np.abs(approximate - exact) / np.maximum(np.abs(exact), 1e-6))
    varied = min(np.ptp(approximate), np.ptp(exact)) > 0
    rank = spearmanr(approximate, exact).statistic if varied else np.nan
    return Agreement(float(rank), float(error), len(exact))


def agreement_on_sample(
    Z: Floats,
    sigma: float,
    rng: np.random.Generator,
    method: Literal["nystrom", "columns"],
    others: Rows,
) -> Agreement:
    """Compare an approximation with the exact relevance of a sample, as a population of its own.

    Parameters
    ----------
    Z
        Representations (n_samples, n_components).
    sigma
        Bandwidth of the Gaussian kernel.
    rng
        Draws the sample.
    method
        Which approximation.
    others
        Row numbers of its landmarks or columns, in the sample or not.

    Returns
    -------
    Agreement
        Of 2,048 rows, or of all if there are fewer.

    Notes
    -----
    The time does not depend on the number of rows: 2 · 2,048² pairs for the exact values, about a
    tenth of a second. Columns stand for other rows than the sample, so that their figure also
    counts how the sample differs from the class, and is a little too pessimistic.
    """
    sample = sample_of(len(Z), N_COMPARED, rng)
    both = np.union1d(sample, others)
    approximation = _by_landmarks if method == "nystrom" else _by_columns
    approximate = approximation(
        Kernel(Z[both], sigma), np.searchsorted(both, others), np.searchsorted(both, sample)
    )
    return agreement(approximate, exact_relevance(Z[sample], sigma))
