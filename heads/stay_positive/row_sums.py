"""Sums over all rows that only solvers with weights >= 0 ask for, see `heads.logistic.row_sums`."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from heads.closed_form.gram import plus_gram
from heads.logistic.row_sums import Labels, Matrix, Vector


class LargestChange:
    """How much a step changes the decision value of a row, at most.

    Parameters
    ----------
    step
        The step (n_coefficients,).
    """

    def __init__(self, step: Vector) -> None:
        self.points, self.totals = step[None], np.zeros((0, len(step)))
        self.value = 0.0

    def weigh(self, A: Matrix, Z: Matrix, y: Labels) -> Matrix:
        """Look at the changes ``Z`` (1, n) of a batch; return the weights (0, n) of no sum."""
        self.value = max(self.value, float(np.abs(Z).max()))
        return np.empty((0, len(y)))


class FaceHessian:
    """The log-loss's Hessian at a point, of some coordinates.

    Parameters
    ----------
    theta
        The point (n_coefficients,).
    costs
        Weight of one row of either class (2,).
    free
        Which coordinates (n_coefficients,).
    """

    def __init__(self, theta: Vector, costs: Vector, free: NDArray[np.bool_]) -> None:
        self.points, self.totals = theta[None], np.zeros((0, len(theta)))
        self._costs, self._free = costs, np.flatnonzero(free)
        self.hessian: Matrix = np.zeros((len(self._free),) * 2, order="F")

    def weigh(self, A: Matrix, Z: Matrix, y: Labels) -> Matrix:
        """Add a batch to the lower triangle; return the weights (0, n) of no sum."""
        curvatures = self._costs[y] * expit(Z[0]) * expit(-Z[0])
        self.hessian = plus_gram(self.hessian, A[:, self._free] * np.sqrt(curvatures)[:, None])
        return np.empty((0, len(y)))
