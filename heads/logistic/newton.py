"""Newton's method for L2 logistic regression on rows that are read pass by pass.

A solver is a generator: it yields the sum over all rows that it needs next and goes on when the
pass has filled it, so that the algorithm reads as if the data were in memory. `QuasiNewton` lives
on few Hessians, shared by the solvers of one design matrix; `NewtonCG`, for wide features, solves
by conjugate gradients, one pass per product, preconditioned with the Hessian of a few rows. The
sums are in `heads.logistic.row_sums`, shared Hessians in `heads.logistic.curvatures`.
"""

from collections import deque
from collections.abc import Generator
from typing import Any

import numpy as np
from scipy.linalg import cho_solve

from heads.logistic.curvatures import Curvatures
from heads.logistic.row_sums import Evaluation, HessianProduct, RowSample, RowSum, Vector

SUFFICIENT_DECREASE = 1e-4  # Nocedal & Wright, Numerical Optimization, 2nd ed., equation 3.4
LOSS_ROUNDING = 1e-12  # relative rounding of the loss; smaller decreases cannot be seen in it
SHORTEST_STEP = 1e-10
LOOSEST_RESIDUAL = 0.25  # of conjugate gradients, relative; tightened with the gradient
SLOW = 0.3  # a step that leaves more of the gradient asks for a Hessian
PAIRS = 10  # of steps and changes of the gradient, remembered since the last own Hessian

Sums = Generator[RowSum, None, None]
Point = Generator[RowSum, None, Evaluation | None]
Direction = Generator[RowSum, None, Vector]


class Newton:
    """Newton's method with backtracking; how a step is found is up to the subclass.

    Parameters
    ----------
    ridge
        Penalty of each coefficient (n_coefficients,), 0 for an intercept.
    costs
        Weight of one row of either class (2,).
    tol
        Gradient norm at which the method ends.

    Notes
    -----
    ``loss = ½ Σ ridge · theta² + Σ_rows costs[y] · log(1 + exp(-± A theta))``, from theta = 0.

    The gradient's norm is taken with respect to the weights and the decision value of the mean row,
    which replaces the intercept (the decision value of the origin). Far from the data the latter
    hardly matters to the loss, so that a small gradient would not mean that it is right.
    """

    def __init__(self, ridge: Vector, costs: Vector, tol: float) -> None:
        self._ridge, self._costs, self._tol = ridge, costs, tol
        self.theta, self.gradient, self._mean = np.zeros((3, len(ridge)))
        self.loss = self.gradient_norm = np.inf
        self.converged = self._asks = False

    def sums(self) -> Sums:
        """Yield the sums over all rows that are needed, one after the other, to the solution.

        Yields
        ------
        RowSum
            To be filled with all rows before the generator goes on.

        Raises
        ------
        ValueError
            If the features are not finite.
        """
        start = self._evaluation(self.theta)
        yield start
        if not np.isfinite(start.gradient).all():
            raise ValueError("features must be finite, got NaN or infinity; remove such rows.")
        if self._ridge[-1] == 0:
            self._mean[:-1] = start.total[:-1] / start.total[-1]
        point: Evaluation | None = start
        while point is not None:
            self.theta, self.loss = point.theta, self._penalised(point)
            self.gradient = point.gradient + self._ridge * point.theta
            self.gradient_norm = self._norm(self.gradient)
            if self.gradient_norm <= self._tol:
                self.converged = True
                return
            direction = yield from self._direction(point)
            point = yield from self._search(direction)
            if point is None:
                point = yield from self._look_closer()

    def _evaluation(self, theta: Vector) -> Evaluation:
        """Return the sum to ask for at a point."""
        return Evaluation(theta, self._costs, asks=self._asks)

    def _penalised(self, point: Evaluation) -> float:
        """Return the loss with its penalty."""
        return point.loss + 0.5 * float(self._ridge @ point.theta**2)

    def _norm(self, gradient: Vector) -> float:
        """Return the norm of the gradient with respect to weights and mean decision value."""
        return float(np.linalg.norm(gradient - self._mean * gradient[-1]))

    def _direction(self, point: Evaluation) -> Direction:
        """Return the step to try from an evaluated point."""
        raise NotImplementedError

    def _search(self, direction: Vector) -> Point:
        """Return the first point along the direction that is good enough, or None.

        A decrease below the loss's rounding cannot be seen there; then the gradient must shrink.
        If rounding has spoilt the direction itself, there is none, and the solution is not reached.
        """
        step, slope = 1.0, float(self.gradient @ direction)
        while slope < 0 and step > SHORTEST_STEP:
            point = self._evaluation(self.theta + step * direction)
            yield point
            if -slope * step <= LOSS_ROUNDING * self.loss:
                gradient = point.gradient + self._ridge * point.theta
                self.converged = self._norm(gradient) >= self.gradient_norm
                return None if self.converged else point
            if self._penalised(point) <= self.loss + SUFFICIENT_DECREASE * step * slope:
                return point
            step, self._asks = step / 2, True
        return None

    def _look_closer(self) -> Point:
        """Return the current point with what a better step needs; None if there is no better."""
        yield from ()
        return None


class QuasiNewton(Newton):
    """Limited-memory BFGS on top of the nearest Hessian that is known.

    Parameters
    ----------
    ridge, costs, tol
        As in `Newton`.
    curvatures
        Hessians at points that solvers of the same design matrix have passed.

    Notes
    -----
    One pass per step, and none for most Hessians: that of the start, where the curvature of a row
    is ¼ of its cost for every `C`, serves all solvers; a solver asks for another when a step leaves
    more than `SLOW` of the gradient. With its own Hessian a step is Newton's. That the solution is
    exact rests on the gradient alone, and a solver does not give up on rounding before a step with
    its own Hessian has failed. Nocedal & Wright, algorithm 7.4 with the initial matrix of `Newton`.
    """

    def __init__(self, ridge: Vector, costs: Vector, tol: float, curvatures: Curvatures) -> None:
        super().__init__(ridge, costs, tol)
        self._curvatures = curvatures
        self._pairs: deque[tuple[Vector, Vector]] = deque(maxlen=PAIRS)
        self._last: tuple[Vector, Vector, float] | None = None
        self._exact = False
        self._factored: tuple[Vector | None, Any] = (None, None)

    def _direction(self, point: Evaluation) -> Direction:
        """Return the quasi-Newton step, for which no further sum is needed."""
        yield from ()
        self._learn(point)
        direction: Vector = -self.gradient
        lengths: list[float] = []
        for step, change in reversed(self._pairs):
            lengths.append(float(step @ direction / (step @ change)))
            direction = direction - lengths[-1] * change
        direction = cho_solve(self._factor(), direction)
        for (step, change), length in zip(self._pairs, reversed(lengths), strict=True):
            direction = direction + (length - change @ direction / (step @ change)) * step
        return direction

    def _factor(self) -> Any:
        """Return the factor of the nearest Hessian with the penalty."""
        known = self._curvatures.nearest(self.theta)
        of, factor = self._factored
        if of is not known.theta:
            factor = known.factor(self._costs, self._ridge)
        self._factored = (known.theta, factor) if self._curvatures.keeps_factors else (None, None)
        return factor

    def _learn(self, point: Evaluation) -> None:
        """Remember the last step, or forget all of them when the point has its own Hessian."""
        self._exact = point.hessian is not None
        if self._last is not None:
            theta, gradient, norm = self._last
            step, change = self.theta - theta, self.gradient - gradient
            moved = bool(step @ change > 0)
            if moved:
                self._pairs.append((step, change))
            self._asks = moved and self.gradient_norm > SLOW * norm
        if self._exact:
            self._pairs.clear()
        self._last = self.theta, self.gradient, self.gradient_norm

    def _look_closer(self) -> Point:
        """Return the current point with its Hessian, unless the last step had it already."""
        if self._exact:
            return None
        self.converged, self._asks = False, True
        point = self._evaluation(self.theta)
        yield point
        while point.hessian is None:  # another solver's turn
            point = self._evaluation(self.theta)
            yield point
        return point


class NewtonCG(Newton):
    """Newton's method whose steps are solved by preconditioned conjugate gradients.

    Parameters
    ----------
    ridge, costs, tol
        As in `Newton`.
    sample
        Rows for the preconditioner, complete after the first pass.

    Notes
    -----
    Every product with the Hessian is a pass. The residual is reduced just enough for superlinear
    convergence (Nocedal & Wright, algorithm 7.1), and no further than `tol` asks for. If the
    sample holds all rows, the preconditioner is exact and one or two products suffice.
    """

    def __init__(self, ridge: Vector, costs: Vector, tol: float, sample: RowSample) -> None:
        super().__init__(ridge, costs, tol)
        self._sample, self._first_norm = sample, 0.0

    def _direction(self, point: Evaluation) -> Direction:
        """Return an approximate Newton step."""
        precondition = self._sample.preconditioner(point.theta, self._costs, self._ridge)
        solution, residual = np.zeros_like(point.theta), -self.gradient
        search = conditioned = precondition(residual)
        size = float(residual @ conditioned)
        enough = self._forcing() ** 2 * size
        while size > enough:
            product = HessianProduct(point.theta, search, self._costs)
            yield product
            image = product.value + self._ridge * search
            length = size / float(search @ image)
            solution = solution + length * search
            residual = residual - length * image
            conditioned = precondition(residual)
            previous, size = size, float(residual @ conditioned)
            search = conditioned + size / previous * search
        return solution

    def _forcing(self) -> float:
        """Return the factor by which the residual is to be reduced at the current point."""
        self._first_norm = max(self._first_norm, self.gradient_norm)
        superlinear: float = min(LOOSEST_RESIDUAL, (self.gradient_norm / self._first_norm) ** 0.5)
        return max(superlinear, 0.3 * self._tol / self.gradient_norm)
