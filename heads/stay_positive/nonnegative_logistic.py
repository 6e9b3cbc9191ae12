"""Logistic regression with weights >= 0: Newton's method on rows read pass by pass, with a proof.

As in `heads.logistic.newton`, a solver is a generator that yields the sum over all rows it needs
next. `NonNegativeNewton` has Hessians accumulated; `NonNegativeCG`, for wide features, those of
the weights that are not 0, or it solves by conjugate gradients. Both end when the optimum is
proved, see
`heads.stay_positive.duality_gap`.
"""

import numpy as np
from numpy.typing import NDArray

from heads.logistic.newton import (
    LOOSEST_RESIDUAL,
    LOSS_ROUNDING,
    SHORTEST_STEP,
    SUFFICIENT_DECREASE,
    Direction,
    Point,
    Sums,
)
from heads.logistic.row_sums import Evaluation, HessianProduct, Vector
from heads.logistic.sampled_hessian import ModelSample, SampledHessian
from heads.stay_positive.bounded_quadratic import bounded_step, pivot
from heads.stay_positive.duality_gap import Certificate, Problem, certify
from heads.stay_positive.row_sums import FaceHessian, LargestChange

DAMPINGS = (1e-10, 1e-6, 1e-3, 1.0)  # relative to the diagonal; the first that suffices
MOST_PRODUCTS = 50  # of conjugate gradients in a row
ROUNDS = 8  # of conjugate gradients in a step, each with fewer free weights
LEAST_DESCENT = 0.1  # of the slope along a step, relative to one known to be good
AT_INFINITY = 0.1  # logits a step still moves at a vanishing gradient; 1 as weights diverge
VANISHING = 1e-11  # mean decrease that a step promises; Hessians of rarer curvature are rounding


class NonNegativeNewton:
    """Newton's method with the Hessian of every point; one pass per step.

    Parameters
    ----------
    problem
        What is minimised.
    n_features
        Number of weights.
    tol
        KKT residual and duality gap at which the method ends.

    Notes
    -----
    Steps minimise the quadratic model over all weights >= 0
    (`heads.stay_positive.bounded_quadratic`), so that many weights may leave or reach 0 in one
    step, and convergence is quadratic: some 6 to 12 passes. Memory: three times the Hessian, ``8
    (n_features + 1)²`` bytes.
    """

    def __init__(self, problem: Problem, n_features: int, tol: float) -> None:
        self._problem, self._tol = problem, tol
        self._ridge = np.full(n_features + 1, problem.n_samples * problem.l2)
        self._ridge[-1] = 0
        self.theta, self._gradient, self._positive = np.zeros((3, n_features + 1))
        self._loss = self.distance = np.inf
        self.certificate = Certificate(np.inf, np.inf, np.inf)
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
            If the features are not finite, or nothing is penalised and there is no optimum.
        """
        start = self._evaluation(self.theta)
        yield start
        if not np.isfinite(start.gradient).all():
            raise ValueError("features must be finite, got NaN or infinity; remove such rows.")
        self._positive = 0.5 * start.total - start.gradient  # as all probabilities are ½
        unpenalised = not (self._problem.l2 or self._problem.l1)
        point: Evaluation | None = start
        while point is not None:
            self._accept(point)
            if self.distance <= self._tol:
                self.converged = True
                break
            direction = yield from self._direction(point)
            if unpenalised and -self._gradient @ direction <= VANISHING * self._problem.n_samples:
                yield from self._require_optimum(direction)
            point = yield from self._search(direction)
        if unpenalised and self.converged:
            yield (point := self._evaluation(self.theta))
            self._accept(point)
            yield from self._require_optimum((yield from self._direction(point)))

    def _evaluation(self, theta: Vector) -> Evaluation:
        """Return the sum to ask for at a point."""
        evaluation = Evaluation(theta, self._problem.costs)
        evaluation.bend()
        return evaluation

    def _certify(self, point: Evaluation) -> Certificate:
        """Return how far a point is from the optimum."""
        return certify(self._problem, point, self._positive)

    def _accept(self, point: Evaluation) -> None:
        """Make a point the current one; the loss and its gradient are n times the objective's."""
        self.theta, self.certificate = point.theta, self._certify(point)
        self.distance = max(self.certificate[1:])
        self._loss = self._problem.n_samples * self.certificate.objective
        self._gradient = point.gradient + self._ridge * point.theta
        self._gradient[:-1] += self._problem.n_samples * self._problem.l1

    def _direction(self, point: Evaluation) -> Direction:
        """Return the Newton step, for which no further sum is needed."""
        yield from ()
        hessian, point.hessian = point.hessian, None
        assert hessian is not None
        hessian[np.diag_indices_from(hessian)] += self._ridge
        return bounded_step(hessian, self._gradient, self.theta[:-1])

    def _search(self, direction: Vector) -> Point:
        """Return the first point along the direction that is good enough, or None.

        A decrease below the loss's rounding cannot be seen there; then the distance must shrink.
        """
        step = 1.0
        while step > SHORTEST_STEP:
            theta = self.theta + step * direction
            theta[:-1] = np.maximum(theta[:-1], 0)  # below by rounding only
            change = float(self._gradient @ (theta - self.theta))
            point = self._evaluation(theta)
            yield point
            certificate = self._certify(point)
            if abs(change) <= LOSS_ROUNDING * self._loss:
                self.converged = max(certificate[1:]) >= self.distance
                return None if self.converged else point
            loss = self._problem.n_samples * certificate.objective
            if loss <= self._loss + SUFFICIENT_DECREASE * change:
                return point
            step /= 2
        return None

    def _require_optimum(self, direction: Vector) -> Sums:
        """Check that the weights are not on their way to infinity.

        There the loss decays exponentially, so that a Newton step still moves decision values by
        about 1 when the gradient has vanished. At an optimum, steps vanish with it.
        """
        yield (change := LargestChange(direction))
        if change.value > AT_INFINITY:
            raise ValueError(
                "without a penalty the classes must overlap, got rows that weights >= 0 separate "
                "(some of them at least), so that larger weights are always better and there is "
                "no optimum; set l2 > 0."
            )


class NonNegativeCG(NonNegativeNewton):
    """Newton's method on the weights that are not held at 0.

    Parameters
    ----------
    problem, n_features, tol
        As in `NonNegativeNewton`.
    sample
        Rows that stand for all in a first guess, complete after the first pass.
    most_free
        Most coordinates whose Hessian is accumulated.

    Notes
    -----
    Which weights end at 0 is guessed with the Hessian of the sample, in memory. Of the others the
    Hessian is accumulated, one pass for the Newton step of all rows; if they are too many, the step
    is improved by conjugate gradients, one pass for every product. Every point tried is a pass.
    """

    def __init__(
        self,
        problem: Problem,
        n_features: int,
        tol: float,
        sample: ModelSample,
        most_free: int,
    ) -> None:
        super().__init__(problem, n_features, tol)
        self._sample, self._first = sample, float(np.finfo(np.float64).tiny)
        self._most_free = most_free

    def _evaluation(self, theta: Vector) -> Evaluation:
        """Return the sum to ask for at a point."""
        return Evaluation(theta, self._problem.costs)

    def _direction(self, point: Evaluation) -> Direction:
        """Return an approximate Newton step."""
        curvatures = self._sample.curvatures(point.theta, self._problem.costs)
        squares = self._sample.squares(curvatures)
        floor = np.append(-self.theta[:-1], -np.inf)
        for damping in DAMPINGS:
            ridge = self._ridge + damping * squares
            model = self._sample.model(curvatures, ridge)
            if (step := pivot(model, self._gradient, floor)) is not None:
                free = (step > floor) | (self.theta != 0)
                if np.count_nonzero(free) <= self._most_free:
                    return (yield from self._on_face(free))
                return (yield from self._improved(step, floor, model, ridge))
        diagonal_step: Vector = np.maximum(-self._gradient / (squares + self._ridge), floor)
        return diagonal_step

    def _on_face(self, free: NDArray[np.bool_]) -> Direction:
        """Return the Newton step of all rows on coordinates among which are all that are not 0."""
        yield (face := FaceHessian(self.theta, self._problem.costs, free))
        face.hessian[np.diag_indices_from(face.hessian)] += self._ridge[free]
        step = np.zeros_like(self.theta)
        step[free] = bounded_step(face.hessian, self._gradient[free], self.theta[free][:-1])
        return step

    def _improved(
        self, step: Vector, floor: Vector, model: SampledHessian, ridge: Vector
    ) -> Direction:
        """Return a step that is right for all rows instead of the sample, if it still descends."""
        better, free = step, step > floor
        for _ in range(ROUNDS):
            better = yield from self._solve(better, free, model, ridge)
            low = better < floor
            better = np.maximum(better, floor)
            if not low.any():
                break
            free &= ~low
        # Cutting off may spoil the descent; the step of a positive definite model is one.
        descends = self._gradient @ better <= LEAST_DESCENT * (self._gradient @ step)
        return better if descends else step

    def _solve(
        self, step: Vector, free: NDArray[np.bool_], model: SampledHessian, ridge: Vector
    ) -> Direction:
        """Make the free coordinates of a step minimise the quadratic model of all rows."""
        solve = model.face(free)

        def precondition(vector: Vector) -> Vector:
            solution = np.zeros_like(vector)
            solution[free] = solve(vector[free])
            return solution

        image = yield from self._product(step, ridge)
        residual = np.where(free, -self._gradient - image, 0)
        search = conditioned = precondition(residual)
        size = float(residual @ conditioned)
        slope = np.where(free, self._gradient, 0)
        enough = self._forcing() ** 2 * float(slope @ precondition(slope))
        for _ in range(MOST_PRODUCTS):
            if size <= enough:
                break
            image = np.where(free, (yield from self._product(search, ridge)), 0)
            length = size / float(search @ image)
            step = step + length * search
            residual = residual - length * image
            conditioned = precondition(residual)
            previous, size = size, float(residual @ conditioned)
            search = conditioned + size / previous * search
        return step

    def _product(self, vector: Vector, ridge: Vector) -> Direction:
        """Return the product of the Hessian, something on its diagonal, with a vector."""
        product = HessianProduct(self.theta, vector, self._problem.costs)
        yield product
        return product.value + ridge * vector

    def _forcing(self) -> float:
        """Return the factor by which the residual is to be reduced at the current point."""
        self._first = max(self._first, self.distance)
        superlinear: float = min(LOOSEST_RESIDUAL, (self.distance / self._first) ** 0.5)
        return superlinear
