"""Gram matrices that grow row by row: one triangle of them, in float64, at the speed of BLAS."""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dsyrk

TILE = 512
"""Size of the squares in which a triangle is copied onto the other."""

Matrix = NDArray[np.float64]


def plus_gram(lower: Matrix, rows: Matrix) -> Matrix:
    """Add rowsᵀ rows to a matrix, in place.

    Parameters
    ----------
    lower
        Matrix (n_features, n_features) in Fortran order; only its lower triangle is used.
    rows
        Rows (n, n_features) in C order.

    Returns
    -------
    numpy.ndarray
        The same array.
    """
    if not len(rows):
        return lower
    total: Matrix = dsyrk(1.0, rows.T, beta=1.0, c=lower, lower=1, overwrite_c=1)
    return total


def mirror(full: Matrix) -> Matrix:
    """Copy the lower triangle of a matrix onto the upper one, in place.

    Parameters
    ----------
    full
        Square matrix; what is above its diagonal is not used.

    Returns
    -------
    numpy.ndarray
        The same array.

    Examples
    --------
    >>> mirror(np.array([[1.0, 9.0], [2.0, 3.0]]))
    array([[1., 2.],
           [2., 3.]])
    """
    for start in range(0, len(full), TILE):
        stop = start + TILE
        tile = full[start:stop, start:stop]
        tile[:] = np.tril(tile) + np.tril(tile, -1).T
        full[start:stop, stop:] = full[stop:, start:stop].T
    return full


def require_room(n_features: int, workspace: int) -> None:
    """Refuse a Gram matrix that is larger than what may be held.

    Parameters
    ----------
    n_features
        Its size.
    workspace
        Bytes that may be held.

    Raises
    ------
    ValueError
        If it takes more; the message says what to do.

    Examples
    --------
    >>> require_room(1024, 2**29)
    """
    needed = 8 * n_features**2
    if needed > workspace:
        raise ValueError(
            f"the Gram matrix must fit into {workspace / 2**20:.0f} MiB of workspace, got "
            f"{n_features}² features, {needed / 2**20:.0f} MiB; raise 'max_memory', train "
            f"on single layers, or use RandomFeatureRidge, whose matrix has the size of "
            f"'n_components'."
        )
