"""The Hessian of a sample of the rows, solved on any set of coordinates without being formed."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit

from heads.logistic.row_sums import TAIL, Matrix, RowSample, Vector


class SampledHessian:
    """The matrix ``diag(base) + S' diag(weights) S``.

    Parameters
    ----------
    S
        Rows (m, n).
    weights
        Curvatures >= 0 of the rows (m,).
    base
        The rest of the diagonal (n,), > 0.
    """

    def __init__(self, S: Matrix, weights: Vector, base: Vector) -> None:
        self._S, self._root, self._base = S, np.sqrt(weights), base

    @property
    def diagonal(self) -> Vector:
        """The diagonal (n,)."""
        diagonal: Vector = self._base + np.einsum("i,ij,ij->j", self._root**2, self._S, self._S)
        return diagonal

    def multiply(self, step: Vector) -> Vector:
        """Return the product with a vector (n,)."""
        product: Vector = self._base * step + (self._root**2 * (self._S @ step)) @ self._S
        return product

    def face(self, free: NDArray[np.bool_]) -> Callable[[Vector], Vector]:
        """Return multiplication of free coordinates with the inverse of the free part.

        Parameters
        ----------
        free
            Which coordinates are free (n,).

        Returns
        -------
        callable
            Maps the free coordinates of a vector to those of another.

        Notes
        -----
        By Woodbury's identity; ``m² · free.sum() + m³ / 3`` operations.
        """
        base = self._base[free]
        T = self._root[:, None] * self._S[:, free] / np.sqrt(base)
        inner = cho_factor(np.eye(len(T)) + T @ T.T, overwrite_a=True)

        def solve(vector: Vector) -> Vector:
            scaled = vector / np.sqrt(base)
            solution: Vector = (scaled - cho_solve(inner, T @ scaled) @ T) / np.sqrt(base)
            return solution

        return solve


class ModelSample(RowSample):
    """Evenly spaced rows, held in memory, whose Hessian stands for that of all rows."""

    def curvatures(self, theta: Vector, costs: Vector) -> Vector:
        """Return the curvature of all rows that each held row stands for (m,)."""
        p = expit(self._A @ theta)
        curvatures: Vector = self._n_samples / len(p) * costs[self._y] * p * (1 - p)
        return curvatures

    def squares(self, curvatures: Vector) -> Vector:
        """Return the diagonal of the log-loss's Hessian; its mean where all held rows have 0."""
        squares: Vector = np.einsum("i,ij,ij->j", curvatures, self._A, self._A)
        return np.where(squares > 0, squares, squares.mean())

    def model(self, curvatures: Vector, ridge: Vector) -> SampledHessian:
        """Return an approximate Hessian of the log-loss of all rows, with a penalty.

        Parameters
        ----------
        curvatures
            What each held row counts (m,).
        ridge
            What is added to the diagonal (n_coefficients,), > 0.

        Returns
        -------
        SampledHessian
            Exact if the sample holds all rows.

        Notes
        -----
        For the directions that the held rows do not have stands a part of the curvature along
        each coefficient, as in `RowSample.preconditioner`.
        """
        squares, sums = self.squares(curvatures), curvatures @ self._A
        spread = np.maximum(squares - sums**2 / sums[-1], TAIL * squares)  # it may vary elsewhere
        left_out = 1 - len(self._y) / self._n_samples
        return SampledHessian(self._A, curvatures, ridge + TAIL * left_out * spread)
