"""Newton's method for L2 logistic regression on rows that are read pass by pass.

A solver is a generator: it yields the sum over all rows that it needs next and goes on when the
pass has filled it, so that the algorithm reads as if the data were in memory. `DenseNewton` has
the Hessian accumulated; `NewtonCG`, for wide features, solves by conjugate gradients, one pass
per product, preconditioned with the Hessian of a few rows. The sums are in `heads.row_sums`.
"""

from collections.abc import Generator

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from heads.row_sums import Evaluation, HessianProduct, RowSample, RowSum, Vector

SUFFICIENT_DECREASE = 1e-4  # Nocedal & Wright, Numerical Optimization, 2nd ed., equation 3.4
LOSS_ROUNDING = 1e-12  # relative rounding of the loss; smaller decreases cannot be seen in it
SHORTEST_STEP = 1e-10
LOOSEST_RESIDUAL = 0.25  # of conjugate gradients, relative; tightened with the gradient

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

    curved = False
    """Whether evaluations come with a Hessian."""

    def __init__(self, ridge: Vector, costs: Vector, tol: float) -> None:
        self._ridge, self._costs, self._tol = ridge, costs, tol
        self.theta, self.gradient, self._mean = np.zeros((3, len(ridge)))
        self.loss = self.gradient_norm = np.inf
        self.converged = False

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

    def _evaluation(self, theta: Vector) -> Evaluation:
        """Return the sum to ask for at a point."""
        return Evaluation(theta, self._costs, curved=self.curved)

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
        """
        step, slope = 1.0, float(self.gradient @ direction)
        while step > SHORTEST_STEP:
            point = self._evaluation(self.theta + step * direction)
            yield point
            if -slope * step <= LOSS_ROUNDING * self.loss:
                gradient = point.gradient + self._ridge * point.theta
                self.converged = self._norm(gradient) >= self.gradient_norm
                return None if self.converged else point
            if self._penalised(point) <= self.loss + SUFFICIENT_DECREASE * step * slope:
                return point
            step /= 2
        return None


class DenseNewton(Newton):
    """Newton's method with the Hessian of every point; one pass per step.

    Notes
    -----
    Memory: one Hessian (n_coefficients²), which every evaluation accumulates and every step uses
    up. Convergence is quadratic: some 6 to 12 passes.
    """

    curved = True

    def _direction(self, point: Evaluation) -> Direction:
        """Return the Newton step, for which no further sum is needed."""
        yield from ()
        hessian, point.hessian = point.hessian, None
        assert hessian is not None
        hessian[np.diag_indices_from(hessian)] += self._ridge
        step: Vector = cho_solve(cho_factor(hessian, lower=True, overwrite_a=True), -self.gradient)
        return step


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
