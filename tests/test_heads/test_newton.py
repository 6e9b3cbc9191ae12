"""Sums over rows against finite differences; solvers that never go up."""

from typing import Any

import numpy as np
import pytest
from scipy.linalg import LinAlgError, cho_factor
from scipy.optimize import check_grad
from scipy.special import expit
from support.features import Data, vit_like

from heads.logistic.curvatures import Curvatures, Known
from heads.logistic.newton import NewtonCG, QuasiNewton
from heads.logistic.row_sums import Evaluation, HessianProduct, RowSample, add_batch

ROUNDING = 1e-8  # same quantity by other arithmetic in float64
FINITE_DIFFERENCE = 1e-5  # relative error of differences of a smooth function
COSTS = np.array([2.0, 0.5])


def design(n_samples: int = 50, n_features: int = 6) -> Data:
    X, y = vit_like(n_samples, n_features)
    return np.column_stack((X - X.mean(0), np.ones(len(X)))), y


def evaluated(theta: Any, *, curved: bool = False) -> Evaluation:
    evaluation = Evaluation(theta, COSTS)
    if curved:
        evaluation.bend()
    add_batch([evaluation], *design())
    return evaluation


def test_evaluation__gradient_is_the_derivative_of_the_loss(rng: np.random.Generator) -> None:
    theta = rng.normal(size=7)
    error = check_grad(lambda t: evaluated(t).loss, lambda t: evaluated(t).gradient, theta)
    assert error < FINITE_DIFFERENCE * np.linalg.norm(evaluated(theta).gradient)


def test_evaluation__hessian_is_the_derivative_of_the_gradient(rng: np.random.Generator) -> None:
    theta, vector = rng.normal(size=(2, 7))
    product = HessianProduct(theta, vector, COSTS)
    add_batch([product], *design())
    change = evaluated(theta + 1e-6 * vector).gradient - evaluated(theta - 1e-6 * vector).gradient
    np.testing.assert_allclose(product.value, change / 2e-6, rtol=FINITE_DIFFERENCE)
    lower = evaluated(theta, curved=True).hessian
    assert lower is not None
    hessian = np.tril(lower) + np.tril(lower, -1).T
    np.testing.assert_allclose(hessian @ vector, product.value, rtol=ROUNDING)


def test_row_sample__of_all_rows_preconditions_with_the_hessian(rng: np.random.Generator) -> None:
    A, y = design()
    theta, vector = rng.normal(size=(2, 7))
    sample = RowSample(len(y), len(y))
    for start in range(0, len(y), 9):
        sample.add(A[start : start + 9], y[start : start + 9])
    product = HessianProduct(theta, vector, COSTS)
    add_batch([product], A, y)
    ridge = np.linspace(1, 2, 7)
    multiply = sample.preconditioner(theta, COSTS, ridge)
    np.testing.assert_allclose(multiply(product.value + ridge * vector), vector, rtol=ROUNDING)


def test_row_sample__holds_rows_spread_over_all_whatever_the_batches() -> None:
    A = np.arange(100.0)[:, None]
    for step in (1, 7, 100):
        sample = RowSample(100, 12)
        for start in range(0, 100, step):
            assert not sample.complete
            sample.add(A[start : start + step], np.zeros(len(A[start : start + step]), np.intp))
        assert sample.complete
        assert sample._A[:, 0].tolist() == [0, 9, 18, 27, 36, 45, 54, 63, 72, 81, 90, 99]


def test_add_batch__sums_added_together_equal_sums_added_alone(rng: np.random.Generator) -> None:
    A, y = design()
    theta, vector = rng.normal(size=(2, 7))
    sums: list[Any] = [
        make()
        for _ in range(2)
        for make in (
            lambda: Evaluation(theta, COSTS),
            lambda: HessianProduct(theta, vector, COSTS),
            lambda: Evaluation(vector, COSTS),
        )
    ]
    together, alone = sums[:3], sums[3:]
    for start in range(0, len(y), 9):
        add_batch(together, A[start : start + 9], y[start : start + 9])
    for own in alone:
        add_batch([own], A, y)
    for own, expected in zip(together, alone, strict=True):
        np.testing.assert_allclose(own.totals, expected.totals, rtol=ROUNDING, atol=ROUNDING)


def test_curvatures__distance_is_the_weighted_square_of_the_change_of_decision_values(
    rng: np.random.Generator,
) -> None:
    A, _ = design()
    theta, other = rng.normal(size=(2, 7))
    curvatures = Curvatures(1, 3)
    evaluation = evaluated(theta, curved=True)
    curvatures.collect({"a": evaluation})
    weights = COSTS[design()[1]] * expit(A @ theta) * expit(-A @ theta)
    expected = np.average((A @ (other - theta)) ** 2, weights=weights)
    assert curvatures.nearest(other).distance(other) == pytest.approx(expected, rel=ROUNDING)


def test_curvatures__hessians_go_in_turn_to_those_that_ask_and_the_oldest_is_dropped() -> None:
    curvatures = Curvatures(3, 4)
    solvers = {"weak": 1.0, "strong": 0.1, "content": 1.0}
    turns = []
    for turn in range(4):
        wanted = {
            name: Evaluation(np.full(7, turn + C), COSTS * C, asks=name != "content")
            for name, C in solvers.items()
        }
        curvatures.grant(wanted)
        turns.append([name for name, own in wanted.items() if own.hessian is not None])
        add_batch(list(wanted.values()), *design())
        curvatures.collect(wanted)
    assert turns == [["weak"], ["weak"], ["strong"], ["weak"]]
    assert [float(known.theta[0]) for known in curvatures._known.values()] == [2.1, 4.0]


def test_curvatures__a_hessian_of_no_curvature_is_thrown_away() -> None:
    curvatures = Curvatures(1, 8)
    start = evaluated(np.zeros(7), curved=True)
    curvatures.collect({"a": start})
    far = evaluated(np.full(7, 1e6), curved=True)
    assert far.mass == 0
    curvatures.collect({"a": far})
    assert far.hessian is None
    assert curvatures.nearest(far.theta).hessian is start.hessian


def test_known__a_hessian_that_rounding_made_indefinite_can_be_factorised() -> None:
    direction = np.array([1.0, 2.0, 3.0])
    hessian = np.asfortranarray(np.outer(direction, direction))
    hessian[2, 2] -= 1e-13
    with pytest.raises(LinAlgError):
        cho_factor(hessian, lower=True)
    known = Known(np.zeros(3), COSTS, 1.0, hessian)
    factor, lower = known.factor(COSTS, np.zeros(3))
    np.testing.assert_allclose(np.tril(factor) @ np.tril(factor).T, hessian, rtol=1e-7)
    assert lower


def solve(solver: Any, A: Any, y: Any) -> tuple[list[float], list[float]]:
    """Let one solver take all steps; return the losses it accepted and those it evaluated."""
    memory = solver._curvatures if isinstance(solver, QuasiNewton) else solver._sample
    accepted, evaluated = [], []
    for wanted in solver.sums():
        accepted.append(solver.loss)
        if isinstance(memory, RowSample):
            if not memory.complete:
                memory.add(A, y)
        elif isinstance(wanted, Evaluation):
            memory.grant({"it": wanted})
        add_batch([wanted], A, y)
        if isinstance(wanted, Evaluation):
            evaluated.append(solver._penalised(wanted))
            if isinstance(memory, Curvatures):
                memory.collect({"it": wanted})
    return accepted[1:], evaluated


@pytest.mark.parametrize(
    ("kind", "memory"), [(QuasiNewton, Curvatures(1, 3)), (NewtonCG, RowSample(50, 10))]
)
def test_solvers__loss_never_grows(kind: Any, memory: Any) -> None:
    A, y = design()
    solver = kind(np.array([1.0] * 6 + [0]) * 1e-4, COSTS, 1e-8, memory)
    accepted = np.array(solve(solver, A, y)[0])
    assert solver.converged
    assert (np.diff(accepted) <= 1e-12 * accepted[:-1]).all()


def test_solvers__shorten_steps_that_overshoot() -> None:
    rng = np.random.default_rng(221)
    X, y = rng.standard_t(1.2, size=(8, 3)), np.arange(8) % 2
    A = np.column_stack((X, np.ones(8)))
    solver = QuasiNewton(np.array([1.0, 1, 1, 0]), np.full(2, 1e6), 1e-8, Curvatures(1, 3))
    accepted, evaluated = solve(solver, A, y)
    assert max(evaluated[1:]) > max(accepted)
    assert solver.converged
    assert solver.gradient_norm <= 1e-8
