"""Rows less their mean, block by block, so that no second copy in float64 is made."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Vector = NDArray[np.float64]

BLOCK = 8192
"""Rows computed in float64 at a time."""


def centred(Z: Floats, scale: float = 1.0) -> NDArray[np.float32]:
    """Return rows less their mean, times a number.

    Parameters
    ----------
    Z
        Rows (n_samples, n_components).
    scale
        What the differences are multiplied by.

    Returns
    -------
    ndarray
        Float32, in C order; differences are taken in float64. No other copy is made.
    """
    rows = np.empty(Z.shape, np.float32)
    for part, block in _blocks(Z):
        rows[part] = block * scale
    return rows


def squares_from_mean(Z: Floats) -> Vector:
    """Return the squared distance of every row from the mean of all.

    Parameters
    ----------
    Z
        Rows (n_samples, n_components).

    Returns
    -------
    ndarray
        Float64 (n_samples,).
    """
    squares = np.empty(len(Z))
    for part, block in _blocks(Z):
        np.einsum("ij,ij->i", block, block, out=squares[part])
    return squares


def _blocks(Z: Floats) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Yield ranges of rows and their differences from the mean, in float64."""
    mean = np.mean(Z, axis=0, dtype=np.float64)
    for start in range(0, len(Z), BLOCK):
        part = slice(start, start + BLOCK)
        yield part, np.subtract(Z[part], mean, dtype=np.float64, order="C")
