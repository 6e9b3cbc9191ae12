"""The step of a Newton method whose weights must stay >= 0: a quadratic programme."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.linalg.blas import dsymv

from heads.logistic.row_sums import Matrix, Vector

DAMPINGS = (1e-12, 1e-9, 1e-6, 1e-3, 1.0)  # relative to the diagonal; the first that suffices
SLOPE_ROUNDING = 1e-10  # a slope so small, relative to the largest one, counts as 0
PATIENCE = 3  # exchanges of whole blocks that need not improve; Júdice & Pires use 10 or less
MAX_EXCHANGES = 60


def bounded_step(hessian: Matrix, gradient: Vector, weights: Vector) -> Vector:
    """Return the step that minimises a quadratic model and leaves no weight negative.

    Parameters
    ----------
    hessian
        Lower triangle of a positive semidefinite matrix (n + 1, n + 1), in Fortran order; it is
        overwritten.
    gradient
        Slope of the model at no step (n + 1,).
    weights
        What the first n coordinates are now (n,), all >= 0; the last one is not bounded.

    Returns
    -------
    numpy.ndarray
        The minimiser (n + 1,) of ``gradient · d + ½ d' hessian d`` with ``weights + d[:-1] >= 0``.

    Raises
    ------
    scipy.linalg.LinAlgError
        If the matrix has a clearly negative eigenvalue or is not finite.

    Notes
    -----
    Block principal pivoting: guess which weights are 0, solve for the others, exchange all that
    came out wrong, until none does; if that stops helping, exchange one at a time, which ends for
    every positive definite matrix. Every guess costs one Cholesky factorisation of the free
    part; there are few, and one if the guess (the weights that are positive now) is right.

    Coordinates are scaled to a unit diagonal, to which 1e-12 is added: directions in which the
    model is flat are then left alone.

    References
    ----------
    Júdice, Pires, "A block principal pivoting algorithm for large-scale strictly monotone linear
    complementarity problems", Computers & Operations Research 21, 1994.

    Examples
    --------
    >>> H = np.array([[2.0, 0.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 1.0]], order="F")
    >>> bounded_step(H, np.array([1.0, -3.0, 4.0]), np.zeros(2)).round(6) + 0
    array([ 0. ,  1.5, -4. ])
    """
    diagonal = hessian.diagonal().copy()
    scale = 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1))
    hessian *= scale
    hessian *= scale[:, None]
    floor = np.append(-weights, -np.inf) / scale
    unit = np.where(diagonal > 0, 1.0, 0.0)
    for damping in DAMPINGS:
        hessian[np.diag_indices_from(hessian)] = unit + damping
        try:
            step = pivot(_Dense(hessian), scale * gradient, floor)
        except LinAlgError:
            continue
        if step is not None:
            return scale * step
    raise LinAlgError("'hessian' must be positive semidefinite, got one that is not.")


class Quadratic(Protocol):
    """A positive definite matrix Q (n, n), however it is held."""

    def multiply(self, step: Vector) -> Vector:
        """Return ``Q step``."""

    def face(self, free: NDArray[np.bool_]) -> Callable[[Vector], Vector]:
        """Return multiplication of free coordinates with the inverse of the free part of Q."""


def pivot(model: Quadratic, slope: Vector, floor: Vector) -> Vector | None:
    """Minimise a quadratic model over steps that are not too low.

    Parameters
    ----------
    model
        The matrix Q (n, n).
    slope
        Slope of the model at no step (n,).
    floor
        Lowest step of each coordinate (n,), all <= 0.

    Returns
    -------
    numpy.ndarray or None
        The minimiser (n,) of ``slope · d + ½ d'Qd`` over ``d >= floor``, which equals `floor` where
        it is bounded; None if the guesses do not settle.
    """
    free = (floor < 0) | (slope < 0)
    tolerance = SLOPE_ROUNDING * np.abs(slope).max()
    fewest, patience = len(floor) + 1, PATIENCE
    for _ in range(MAX_EXCHANGES):
        step = np.where(free, 0, floor)
        step[free] = model.face(free)(-(slope + model.multiply(step))[free])
        after = slope + model.multiply(step)
        wrong = np.where(free, step < floor, after < -tolerance)
        if not (n_wrong := int(wrong.sum())):
            return np.maximum(step, floor)
        if n_wrong < fewest:
            fewest, patience = n_wrong, PATIENCE
        elif patience:
            patience -= 1
        else:
            wrong[: np.flatnonzero(wrong)[-1]] = False
        free ^= wrong
    return None


class _Dense(NamedTuple):
    """A matrix given by its lower triangle, in Fortran order."""

    Q: Matrix

    def multiply(self, step: Vector) -> Vector:
        product: Vector = dsymv(1.0, self.Q, step, lower=1)
        return product

    def face(self, free: NDArray[np.bool_]) -> Callable[[Vector], Vector]:
        part = self.Q[np.ix_(free, free)]
        return partial(cho_solve, cho_factor(part, lower=True, overwrite_a=True))
