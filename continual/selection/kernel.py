"""The Gaussian kernel of the rows of a class: its bandwidth, its tiles, and landmarks."""

from collections.abc import Iterator
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from continual.selection.centring import Floats, centred, squares_from_mean
from continual.selection.choice import Rows

TILE = 512
"""Rows and columns of a tile: 1 MiB as float32, so that it stays in the cache."""

EIGEN_FLOOR = 1e-10
"""Smallest eigenvalue of the landmarks' kernel that is kept, relative to the largest."""


def parts(n: int) -> list[slice]:
    """Return ranges of at most `TILE` rows that cover all of them.

    Parameters
    ----------
    n
        Number of rows.

    Returns
    -------
    list of slice
        In order.
    """
    return [slice(start, min(start + TILE, n)) for start in range(0, n, TILE)]


def tiles(n: int) -> Iterator[tuple[slice, slice]]:
    """Yield pairs of ranges that cover every unordered pair of rows once.

    Parameters
    ----------
    n
        Number of rows.

    Yields
    ------
    tuple of slice
        Two ranges of `parts`.
    """
    yield from combinations_with_replacement(parts(n), 2)


def sample_of(n: int, size: int, rng: np.random.Generator) -> Rows:
    """Return different row numbers in increasing order.

    Parameters
    ----------
    n
        Number of rows.
    size
        How many; all if there are fewer.
    rng
        Draws.

    Returns
    -------
    ndarray
        Int64 (min(size, n),).
    """
    return np.sort(rng.choice(n, min(size, n), replace=False))


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
        σ > 0 of ``exp(-‖a - b‖² / 2σ²)``; the median is over pairs of different rows. Where more
        than half of them are of equal values it is over the others, and where all are, σ = 1, as
        then every σ gives the same kernel.
    """
    from scipy.spatial.distance import pdist

    sample = Z[sample_of(len(Z), n_rows, rng)] if len(Z) > n_rows else Z
    squares = pdist(sample.astype(np.float64), "sqeuclidean") if len(sample) > 1 else np.zeros(1)
    unlike = squares[squares > 0]
    if not len(unlike):
        return 1.0
    return float(np.sqrt(np.median(squares) or np.median(unlike)))


def scaled(Z: Floats, sigma: float) -> NDArray[np.float32]:
    """Return centred rows in units of √2 σ, so that ``exp(-‖a - b‖²)`` is their kernel.

    Parameters
    ----------
    Z
        Representations (n_samples, n_components).
    sigma
        Bandwidth > 0; smaller ones than 1e-15 of the largest distance from the mean count as that,
        as the kernel of different rows is then 0 in any case, and squares of float32 stay finite.

    Returns
    -------
    ndarray
        Float32 (n_samples, n_components).
    """
    least = 1e-15 * float(np.sqrt(squares_from_mean(Z).max()))
    return centred(Z, 1 / (max(sigma, least) * np.sqrt(2)))


class Kernel:
    """Blocks of the Gaussian kernel of rows, float32.

    Rows are centred first: distances do not change, and products lose less. Memory: a float32 copy
    of the rows.

    Parameters
    ----------
    Z
        Representations (n_samples, n_components).
    sigma
        Bandwidth > 0.
    """

    def __init__(self, Z: Floats, sigma: float) -> None:
        self.rows = scaled(Z, sigma)
        self.squares = np.einsum("ij,ij->i", self.rows, self.rows, dtype=np.float64).astype("f4")

    def block(self, left: slice | Rows, right: slice | Rows) -> NDArray[np.float32]:
        """Return the kernel between two sets of rows (n_left, n_right)."""
        K: NDArray[np.float32] = self.rows[left] @ self.rows[right].T
        K *= 2
        K -= self.squares[left][:, None]
        K -= self.squares[right]
        np.minimum(K, 0, out=K)
        np.exp(K, out=K)
        return K

    def gram(self, rows: Rows) -> NDArray[np.float64]:
        """Return the kernel of some rows with themselves (n, n), symmetric, 1 on the diagonal."""
        K = self.block(rows, rows).astype(np.float64)
        np.fill_diagonal(K, 1)
        return np.asarray((K + K.T) / 2)


def inverse_root(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``R = K_LL^(-1/2)`` of some landmark rows, so that ``R Rᵀ`` is the inverse.

    With ``Φ = K_nL R``, the Nyström features of all rows, ``Φ Φᵀ`` is nearly their kernel.

    Parameters
    ----------
    gram
        Kernel K_LL (n_landmarks, n_landmarks) of the landmarks.

    Returns
    -------
    ndarray
        Float64 (n_landmarks, n_features), without directions of eigenvalues below `EIGEN_FLOOR`.
    """
    values, vectors = np.linalg.eigh(gram)
    kept = values > EIGEN_FLOOR * values[-1]
    return np.asarray(vectors[:, kept] / np.sqrt(values[kept]))
