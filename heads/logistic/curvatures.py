"""Hessians of the log-loss that solvers of one design matrix share.

The Hessians of heads that differ in their penalty alone differ in the curvature of the rows, which
changes slowly along a path of `C`. So one solver at a time has its Hessian accumulated, and every
solver steps with the nearest one.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import LinAlgError, cho_factor
from scipy.linalg.blas import dsymv

from heads.logistic.row_sums import Evaluation, Matrix, Vector

GROWTHS = (0.0, 1e-14, 1e-12, 1e-10, 1e-8)
"""Relative growth of a Hessian's diagonal, tried in turn until it is positive definite."""


class Known(NamedTuple):
    """A Hessian (lower triangle) at a point, the costs it is for and the curvature of all rows."""

    theta: Vector
    costs: Vector
    mass: float
    hessian: Matrix

    def distance(self, theta: Vector) -> float:
        """Return the mean square difference of decision values, rows weighted by curvature."""
        difference = theta - self.theta
        square = float(difference @ dsymv(1.0, self.hessian, difference, lower=1))
        return square / max(self.mass, np.finfo(np.float64).tiny)

    def factor(self, costs: Vector, ridge: Vector) -> Any:
        """Return the Cholesky factor of the Hessian scaled to costs (2,), with a penalty.

        A Hessian that rounding made indefinite gets a slightly larger diagonal: steps become
        shorter, their end is the same.
        """
        diagonal = np.diag_indices_from(self.hessian)
        for growth in GROWTHS:
            matrix = self.hessian * (costs.sum() / self.costs.sum())
            matrix[diagonal] = (matrix[diagonal] + ridge) * (1 + growth)
            with suppress(LinAlgError):
                return cho_factor(matrix, lower=True, overwrite_a=True)
        raise ValueError(
            "the Hessian must be positive definite, got one that is not; some features are larger "
            "than others by too much, scale them."
        )


KNOWN = 6
"""Most Hessians to be held. With one, separable classes take a third more passes; others do not."""


class Curvatures:
    """The newest Hessians of solvers of one design matrix.

    Parameters
    ----------
    n_solvers
        How many solvers share them.
    n_matrices
        Most matrices (n_coefficients²) to be held, at least 3: a Hessian that is known, one that is
        being accumulated, and one being factorised.
    """

    def __init__(self, n_solvers: int, n_matrices: int) -> None:
        self._room = min(KNOWN, max(1, n_matrices - 2))
        self.keeps_factors = n_matrices >= 2 + self._room + n_solvers
        self._known: dict[Any, Known] = {}  # by solver, oldest first

    def grant(self, wanted: Mapping[Any, Evaluation]) -> None:
        """Let one of the evaluations that ask for it accumulate its Hessian.

        Parameters
        ----------
        wanted
            What the solvers evaluate next, by solver. The one whose Hessian is oldest is chosen;
            of those that have none, the one with the weakest penalty.
        """
        ages = {solver: number for number, solver in enumerate(self._known)}
        asking = [
            (ages.get(solver, -1), -float(evaluation.costs.sum()), number)
            for number, (solver, evaluation) in enumerate(wanted.items())
            if evaluation.asks or not self._known
        ]
        if asking:
            list(wanted.values())[min(asking)[-1]].bend()

    def collect(self, evaluated: Mapping[Any, Evaluation]) -> None:
        """Take over the Hessians that were accumulated.

        Parameters
        ----------
        evaluated
            What the solvers have evaluated, by solver. Far beyond all rows nothing is curved: such
            a Hessian is thrown away.
        """
        for solver, point in evaluated.items():
            if point.mass == 0:
                point.hessian = None
            if point.hessian is not None:
                owner = solver if self._known else "start"
                self._known.pop(owner, None)
                self._known[owner] = Known(point.theta, point.costs, point.mass, point.hessian)
        while len(self._known) > self._room:
            del self._known[next(iter(self._known))]

    def nearest(self, theta: Vector) -> Known:
        """Return the Hessian of the point that is nearest to another.

        Parameters
        ----------
        theta
            The other point (n_coefficients,).

        Returns
        -------
        Known
            There is one from the first pass on.
        """
        return min(self._known.values(), key=lambda known: known.distance(theta))
