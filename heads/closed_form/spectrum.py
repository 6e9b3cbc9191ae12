"""Linear systems with one positive semi-definite matrix plus many multiples of the identity."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

EPSILON = float(np.finfo(np.float64).eps)

MOST_REFINEMENTS = 10
"""Two are usual; more are needed when the shift is below 1e-12 of the largest eigenvalue."""

Matrix = NDArray[np.float64]


class Spectrum:
    """Eigenvalues and eigenvectors of a matrix, and the systems they solve.

    Parameters
    ----------
    matrix
        Symmetric positive semi-definite (n, n), float64.

    Attributes
    ----------
    values : ndarray (n,)
        Eigenvalues in ascending order; those that rounding made negative are 0.
    vectors : ndarray (n, n)
        Orthonormal eigenvectors in columns.
    rounding : float
        Error of eigenvalues, relative to the largest.

    Notes
    -----
    About 10 n³ operations, once for all shifts.
    """

    def __init__(self, matrix: Matrix) -> None:
        self._matrix = matrix
        values, self.vectors = np.linalg.eigh(matrix)
        self.values: Matrix = np.maximum(values, 0)
        self.rounding = len(values) * EPSILON

    def inverses(self, shifts: NDArray[Any]) -> Matrix:
        """Return the inverse eigenvalues of the shifted matrices.

        Parameters
        ----------
        shifts
            Multiples >= 0 of the identity (n_shifts,).

        Returns
        -------
        numpy.ndarray
            ``1 / (values + shift)`` (n, n_shifts); with a shift of 0 the eigenvalues that are
            zero up to rounding have the inverse 0. A shift below the rounding of the eigenvalues
            counts as that rounding, as it could not be told from it.
        """
        least = EPSILON * self.values[-1]
        shifted = self.values[:, None] + np.where(shifts > 0, np.maximum(shifts, least), 0)
        regular = (shifts > 0) | (shifted > self.rounding * self.values[-1])
        inverses: Matrix = np.divide(1, shifted, out=np.zeros_like(shifted), where=regular)
        return inverses

    def solve(self, rhs: Matrix, shifts: NDArray[Any]) -> Matrix:
        """Solve (matrix + shift · I) x = rhs for every shift and right-hand side.

        Parameters
        ----------
        rhs
            Right-hand sides (n, n_rhs).
        shifts
            Multiples >= 0 of the identity (n_shifts,). With 0 the solution is the one of minimum
            norm, as if eigenvalues that are zero up to rounding were.

        Returns
        -------
        numpy.ndarray
            Solutions (n_shifts, n, n_rhs).

        Notes
        -----
        Solutions are refined until their residual is no longer halved. Without it the error would
        be relative to the largest eigenvalue: with features of very different scale the small ones
        would have no correct digit. With it they are as good as those of a Cholesky factorisation.
        """
        shifts = np.asarray(shifts, np.float64)
        per_column = np.repeat(shifts, rhs.shape[1])
        inverses = self.inverses(per_column)
        wanted = np.tile(rhs, len(shifts))
        solution = np.zeros_like(wanted)
        residual, previous = wanted, np.full(len(per_column), np.inf)
        for _ in range(MOST_REFINEMENTS):
            step = self.vectors @ (inverses * (self.vectors.T @ residual))
            size = np.linalg.norm(step, axis=0)
            useful = size < previous / 2
            solution[:, useful] += step[:, useful]
            if not useful.any():
                break
            previous = np.where(useful, size, 0)
            residual = wanted - self._matrix @ solution - per_column * solution
        return solution.reshape(len(rhs), len(shifts), -1).swapaxes(0, 1)
