"""Sums over all rows that solvers of logistic regression ask for, accumulated batch by batch.

Every sum is float64, whatever the features are, so that the result does not depend on how rows
are cut into batches (up to rounding). A batch comes as its design matrix (features and, for the
intercept, a column of ones) and labels 0 or 1.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.blas import dsyrk
from scipy.special import expit, log_expit

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Labels = NDArray[np.intp]

TAIL = 0.03  # of `RowSample.preconditioner`; 0.01 to 0.1 need about the same number of products
COLUMNS = 2048  # of the row sample, taken at a time


class RowSum(Protocol):
    """A sum over all rows ``a``, of ``f(points @ a, y) a``, being accumulated."""

    points: Matrix
    """What rows are multiplied by (n_points, n_coefficients)."""
    totals: Matrix
    """The sums so far (n_totals, n_coefficients)."""

    def weigh(self, A: Matrix, Z: Matrix, y: Labels) -> Matrix:
        """Return f (n_totals, n) of a batch, and add up all else that is wanted of it.

        ``A`` is the design matrix (n, n_coefficients), ``Z`` is ``points @ A.T`` (n_points, n).
        """


def add_batch(sums: Sequence[RowSum], A: Matrix, y: Labels) -> None:
    """Add a batch of rows to several sums, with two matrix products for all of them.

    Parameters
    ----------
    sums
        What is accumulated.
    A
        Design matrix (n, n_coefficients).
    y
        Labels (n,), 0 or 1.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # the solver judges what is not finite
        Z = np.concatenate([own.points for own in sums]) @ A.T
        parts = np.split(Z, np.cumsum([len(own.points) for own in sums[:-1]]))
        weights = [own.weigh(A, part, y) for own, part in zip(sums, parts, strict=True)]
        products = np.concatenate(weights) @ A
    edges = np.cumsum([len(own) for own in weights[:-1]])
    for own, part in zip(sums, np.split(products, edges), strict=True):
        own.totals += part


class Evaluation:
    """Loss, gradient and, if it is allowed to, the Hessian of the weighted log-loss at a point.

    Parameters
    ----------
    theta
        The point (n_coefficients,).
    costs
        Weight of one row of either class (2,).
    asks
        Whether the Hessian is wanted, too; it is accumulated if `bend` is called.
    """

    def __init__(self, theta: Vector, costs: Vector, *, asks: bool = False) -> None:
        self.theta, self.costs, self.asks = theta, costs, asks
        self.points, self.totals = theta[None], np.zeros((2, len(theta)))
        self.loss = self.mass = 0.0
        self.hessian: Matrix | None = None

    @property
    def gradient(self) -> Vector:
        """Gradient of the loss (n_coefficients,)."""
        gradient: Vector = self.totals[0]
        return gradient

    @property
    def total(self) -> Vector:
        """Sum of the rows, weighted by their costs (n_coefficients,)."""
        total: Vector = self.totals[1]
        return total

    def bend(self) -> None:
        """Have the Hessian accumulated (lower triangle), and the curvature of all rows, `mass`."""
        self.hessian = np.zeros((len(self.theta),) * 2, order="F")

    def weigh(self, A: Matrix, Z: Matrix, y: Labels) -> Matrix:
        """Add to the loss and the Hessian; return what rows are multiplied by.

        Parameters
        ----------
        A
            Design matrix (n, n_coefficients).
        Z
            Decision values (1, n).
        y
            Labels (n,), 0 or 1.

        Returns
        -------
        ndarray
            Weights (2, n) of the rows in the gradient and in their total.
        """
        sign, costs = 2.0 * y - 1, self.costs[y]
        margin = sign * Z[0]
        error = expit(-margin)  # probability of the wrong class
        self.loss -= float(costs @ log_expit(margin))
        if self.hessian is not None:
            curvature = costs * error * expit(margin)
            self.mass += float(curvature.sum())
            B = A * np.sqrt(curvature)[:, None]
            self.hessian = dsyrk(1.0, B.T, beta=1.0, c=self.hessian, lower=1, overwrite_c=1)
        return np.stack((-costs * sign * error, costs))


class HessianProduct:
    """Product of the log-loss's Hessian at a point with a vector.

    Parameters
    ----------
    theta
        The point (n_coefficients,).
    vector
        What is multiplied (n_coefficients,).
    costs
        Weight of one row of either class (2,).
    """

    def __init__(self, theta: Vector, vector: Vector, costs: Vector) -> None:
        self.points, self._costs = np.stack((theta, vector)), costs
        self.totals = np.zeros((1, len(theta)))

    @property
    def value(self) -> Vector:
        """The product (n_coefficients,)."""
        value: Vector = self.totals[0]
        return value

    def weigh(self, A: Matrix, Z: Matrix, y: Labels) -> Matrix:
        """Return what rows are multiplied by.

        Parameters
        ----------
        A
            Design matrix (n, n_coefficients).
        Z
            Products of the rows with the point and with the vector (2, n).
        y
            Labels (n,), 0 or 1.

        Returns
        -------
        ndarray
            Weights (1, n).
        """
        logit, product = Z
        weights: Matrix = (self._costs[y] * expit(logit) * expit(-logit) * product)[None]
        return weights


class RowSample:
    """Evenly spaced rows, held in memory, whose Hessian stands for that of all rows.

    Parameters
    ----------
    n_samples
        Number of all rows.
    n_rows
        Number of rows to hold; with ``n_rows == n_samples`` the preconditioner is the Hessian.
    """

    def __init__(self, n_samples: int, n_rows: int) -> None:
        self._wanted = np.linspace(0, n_samples - 1, n_rows).round().astype(np.intp)
        self._n_samples, self._n_seen = n_samples, 0
        self._A: Matrix = np.empty((0, 0))
        self._y = np.empty(n_rows, np.intp)
        self._gram: Matrix | None = None

    @property
    def complete(self) -> bool:
        """Whether all rows have gone by."""
        return self._n_seen == self._n_samples

    def add(self, A: Matrix, y: Labels) -> None:
        """Keep the wanted rows of a batch.

        Parameters
        ----------
        A
            Design matrix (n, n_coefficients).
        y
            Labels (n,), 0 or 1.
        """
        if self._n_seen == 0:
            self._A = np.empty((len(self._wanted), A.shape[1]))
        held = slice(*np.searchsorted(self._wanted, (self._n_seen, self._n_seen + len(y))))
        rows = self._wanted[held] - self._n_seen
        self._A[held], self._y[held] = A[rows], y[rows]
        self._n_seen += len(y)

    def preconditioner(
        self, theta: Vector, costs: Vector, ridge: Vector
    ) -> Callable[[Vector], Vector]:
        """Return multiplication with the inverse of an approximate Hessian.

        Parameters
        ----------
        theta
            The point (n_coefficients,).
        costs
            Weight of one row of either class (2,).
        ridge
            Penalty of each coefficient (n_coefficients,), the same in every call.

        Returns
        -------
        callable
            Maps a vector to another (n_coefficients,).

        Notes
        -----
        The matrix is ``B + S' W S`` for held rows S with their curvatures W, scaled up to all rows,
        and inverted by Woodbury's identity. B is the penalty (1 for coefficients without one) and,
        if rows are left out, `TAIL` times that fraction of the curvature along each coefficient,
        which stands for the directions that the held rows do not have.
        """
        S, y = self._A, self._y
        base = np.where(ridge > 0, ridge, 1.0)
        logit = S @ theta
        curvature = self._n_samples / len(y) * costs[y] * expit(logit) * expit(-logit)
        if len(y) == self._n_samples:
            gram = self._gram = _gram(S, base) if self._gram is None else self._gram
        else:
            base += TAIL * (1 - len(y) / self._n_samples) * _spread(S, curvature)
            gram = _gram(S, base)
        root = np.sqrt(curvature)
        inner = cho_factor(np.eye(len(y)) + root[:, None] * gram * root, overwrite_a=True)

        def multiply(vector: Vector) -> Vector:
            scaled = vector / base
            solution: Vector = scaled - (root * cho_solve(inner, root * (S @ scaled))) @ S / base
            return solution

        return multiply


def _gram(S: Matrix, base: Vector) -> Matrix:
    """Return ``S diag(1 / base) S'`` without a copy of S."""
    gram = np.zeros((len(S), len(S)))
    for start in range(0, S.shape[1], COLUMNS):
        columns = slice(start, start + COLUMNS)
        part = S[:, columns] / np.sqrt(base[columns])
        gram += part @ part.T
    return gram


def _spread(S: Matrix, weights: Vector) -> Vector:
    """Return the weighted sum of squared deviations from the weighted mean, for each column."""
    mean = weights @ S / max(weights.sum(), np.finfo(np.float64).tiny)
    squares: Vector = np.einsum("i,ij,ij->j", weights, S, S)
    spread: Vector = np.maximum(squares - mean * (weights @ S), 0)
    return spread
