"""Sums over rows against finite differences; solvers that never go up."""

from typing import Any

import numpy as np
import pytest
from scipy.optimize import check_grad
from support.features import Data, vit_like

from heads.newton import DenseNewton, Newton, NewtonCG
from heads.row_sums import Evaluation, HessianProduct, RowSample

ROUNDING = 1e-8  # same quantity by other arithmetic in float64
FINITE_DIFFERENCE = 1e-5  # relative error of differences of a smooth function
COSTS = np.array([2.0, 0.5])


def design(n_samples: int = 50, n_features: int = 6) -> Data:
    X, y = vit_like(n_samples, n_features)
    return np.column_stack((X - X.mean(0), np.ones(len(X)))), y


def evaluated(theta: Any, *, curved: bool = False) -> Evaluation:
    A, y = design()
    evaluation = Evaluation(theta, COSTS, curved=curved)
    evaluation.add(A, y)
    return evaluation


def test_evaluation__gradient_is_the_derivative_of_the_loss(rng: np.random.Generator) -> None:
    theta = rng.normal(size=7)
    error = check_grad(lambda t: evaluated(t).loss, lambda t: evaluated(t).gradient, theta)
    assert error < FINITE_DIFFERENCE * np.linalg.norm(evaluated(theta).gradient)


def test_evaluation__hessian_is_the_derivative_of_the_gradient(rng: np.random.Generator) -> None:
    theta, vector = rng.normal(size=(2, 7))
    A, y = design()
    product = HessianProduct(theta, vector, COSTS)
    product.add(A, y)
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
    product.add(A, y)
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


def newton_cg(ridge: Any, costs: Any, tol: float) -> Newton:
    return NewtonCG(ridge, costs, tol, RowSample(50, 10))


@pytest.mark.parametrize("make_solver", [DenseNewton, newton_cg])
def test_solvers__loss_never_grows(make_solver: Any) -> None:
    A, y = design()
    solver = make_solver(np.array([1.0] * 6 + [0]) * 1e-4, COSTS, 1e-8)
    losses = []
    for wanted in solver.sums():
        wanted.add(A, y)
        if isinstance(solver, NewtonCG) and not solver._sample.complete:
            solver._sample.add(A, y)
        losses.append(solver.loss)
    assert solver.converged
    finite = np.array(losses[1:])
    assert (np.diff(finite) <= 1e-12 * finite[:-1]).all()


def test_solvers__shorten_steps_that_overshoot() -> None:
    rng = np.random.default_rng(221)
    X, y = rng.standard_t(1.2, size=(8, 3)), np.arange(8) % 2
    A = np.column_stack((X, np.ones(8)))
    solver = DenseNewton(np.array([1.0, 1, 1, 0]), np.full(2, 1e6), 1e-8)
    n_overshooting = 0
    for wanted in solver.sums():
        wanted.add(A, y)
        assert isinstance(wanted, Evaluation)
        n_overshooting += wanted.loss + 0.5 * wanted.theta[:3] @ wanted.theta[:3] > solver.loss
    assert n_overshooting > 0
    assert solver.converged
    assert solver.gradient_norm <= 1e-8
