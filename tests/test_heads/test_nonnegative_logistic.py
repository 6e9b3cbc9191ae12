"""Non-negative logistic regression against published optima, SciPy, closed forms and brute force.

``tests/data/stay_positive.npz`` (``kkt_*``) holds optima for 256 rows of 16 ReLU features: found
with L-BFGS-B, polished by Newton steps on the active set, to a KKT residual of 1e-17.
"""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.optimize import linprog, minimize
from scipy.special import expit, logit
from support.features import Data, ill_conditioned, vit_like

from heads.logistic.row_sums import Evaluation, add_batch
from heads.logistic.sampled_hessian import ModelSample
from heads.stay_positive.bounded_quadratic import bounded_step
from heads.stay_positive.duality_gap import Problem, certify
from heads.stay_positive.nonnegative_logistic import NonNegativeCG, NonNegativeNewton

TOL = 1e-8  # KKT residual and gap at which the solvers end
SAME_OPTIMUM = 1e-6  # weights of well-conditioned problems solved to TOL
ROUNDING = 1e-9  # the same number by other arithmetic in float64
LBFGS = 2e-6  # relative excess of the objective at which SciPy's solver gives up

SETTINGS = [("0", "0"), ("0.0001", "0"), ("0.001", "0"), ("0.1", "0"), ("0", "0.001")]


@pytest.fixture(scope="module")
def vectors() -> Any:
    with np.load(Path(__file__).parents[1] / "data" / "stay_positive.npz") as file:
        return dict(file)


def relu_like(n_samples: int, n_features: int, seed: int = 0) -> Data:
    X, y = vit_like(n_samples, n_features, seed)
    return np.maximum(X - X.mean(0), 0), y


def design(X: Any) -> Any:
    return np.column_stack((np.asarray(X, np.float64), np.ones(len(X))))


def problem_of(y: Any, l2: float, l1: float) -> Problem:
    return Problem(l2, l1, np.ones(2), len(y))


def solve(
    X: Any,
    y: Any,
    l2: float = 0.0,
    l1: float = 0.0,
    *,
    rows: int | None = None,
    most_free: int = 0,
    most_passes: int = 3000,
) -> NonNegativeNewton:
    """Solve with Hessians, or with a sample of so many rows and smaller Hessians or none."""
    A, problem = design(X), problem_of(y, l2, l1)
    solver = NonNegativeNewton(problem, X.shape[1], TOL)
    if rows is not None:
        sample = ModelSample(len(y), rows)
        sample.add(A, y)
        solver = NonNegativeCG(problem, X.shape[1], TOL, sample, most_free)
    for n_passes, wanted in enumerate(solver.sums()):
        assert n_passes < most_passes
        add_batch([wanted], A, y)
    return solver


def objective(theta: Any, X: Any, y: Any, l2: float, l1: float) -> tuple[float, Any]:
    """Return the objective and its gradient, written down once more."""
    A, w = design(X), theta[:-1]
    z = A @ theta
    gradient = (expit(z) - y) @ A / len(y)
    gradient[:-1] += l2 * w + l1
    loss = np.logaddexp(0, z) - y * z
    return loss.mean() + l2 / 2 * w @ w + l1 * w.sum(), gradient


def lbfgs(X: Any, y: Any, l2: float, l1: float) -> float:
    """Return the optimum that SciPy finds; features are scaled for it, the penalties with them."""
    scale = X.std(0) + 1e-12

    def scaled(v: Any) -> tuple[float, Any]:
        units = np.append(1 / scale, 1.0)
        value, gradient = objective(v * units, X, y, l2, l1)
        return value, gradient * units

    bounds = [(0, None)] * X.shape[1] + [(None, None)]
    options = {"maxiter": 20000, "maxfun": 40000, "ftol": 1e-15, "gtol": 1e-10, "maxcor": 30}
    start = np.zeros(X.shape[1] + 1)
    found = minimize(scaled, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return float(found.fun)


def separable(X: Any, y: Any) -> bool:
    """Whether weights >= 0 separate some rows and misplace none, by linear programming."""
    signed = np.where(y, 1, -1)[:, None] * design(X)
    bounds = [(0, 1)] * X.shape[1] + [(-100, 100)]
    found = linprog(-signed.sum(0), A_ub=-signed, b_ub=np.zeros(len(y)), bounds=bounds)
    return bool(-found.fun > 1e-6)


# --------------------------------------------------------------------------- published optima


@pytest.mark.parametrize("rows", [None, 256, 60])
@pytest.mark.parametrize(("l2", "l1"), SETTINGS)
def test_solvers__reach_the_published_optima(
    vectors: Any, l2: str, l1: str, rows: int | None
) -> None:
    expected = {k: vectors[f"kkt_lam{l2}_l1{l1}_{k}"] for k in ("w", "b", "obj", "grad", "dual")}
    X, y = vectors["a_X"], vectors["a_y"].astype(int)
    solver = solve(X, y, float(l2), float(l1), rows=rows)
    found, gap = solver.certificate.objective, solver.certificate.duality_gap
    assert_allclose(solver.theta[:-1], expected["w"], rtol=0, atol=SAME_OPTIMUM)
    assert_allclose(solver.theta[-1], expected["b"], rtol=0, atol=SAME_OPTIMUM)
    assert_allclose(found, expected["obj"], rtol=1e-12)
    assert_allclose(found - gap, expected["dual"], rtol=0, atol=TOL)
    _, gradient = objective(solver.theta, X, y, float(l2), float(l1))
    assert_allclose(gradient, expected["grad"], rtol=0, atol=SAME_OPTIMUM)
    assert max(solver.certificate[1:]) <= TOL


def test_certify__gives_the_published_residual_of_20000_steps_of_adam(vectors: Any) -> None:
    X, y = vectors["a_X"], vectors["a_y"].astype(int)
    theta = np.append(vectors["a_long_w"].astype(np.float64), vectors["a_long_b"])
    found = certified(theta, X, y, 0.0, 0.0)
    _, gradient = objective(theta, X, y, 0.0, 0.0)
    of_weights = np.abs(theta - np.maximum(0, theta - gradient))[:-1].max()
    assert_allclose(of_weights, vectors["kkt_adamclamp_long_natres"], rtol=1e-6)
    assert_allclose(found.kkt_residual, max(of_weights, abs(gradient[-1])), rtol=1e-6)
    assert_allclose(found.objective, vectors["kkt_adamclamp_long_obj"], rtol=1e-12)
    assert found.duality_gap < 1e-4


@pytest.mark.parametrize("flipped", [False, True])
def test_solver__has_the_closed_form_of_one_binary_feature(vectors: Any, flipped: bool) -> None:
    X, y = vectors["kkt_uni_x"][:, None], vectors["kkt_uni_y"].astype(int)
    ending = "_flipped_label" if flipped else ""
    solver = solve(X, 1 - y if flipped else y)
    expected = vectors[f"kkt_uni_w{ending}"], vectors[f"kkt_uni_b{ending}"]
    assert_allclose(solver.theta, expected, rtol=0, atol=ROUNDING)


@given(counts=st.lists(st.integers(1, 30), min_size=4, max_size=4))
def test_solver__has_the_closed_form_of_any_binary_feature(counts: list[int]) -> None:
    x, y = np.repeat([[0, 0], [0, 1], [1, 0], [1, 1]], counts, axis=0).T
    p0, p1 = y[x == 0].mean(), y[x == 1].mean()
    expected = (logit(p1) - logit(p0), logit(p0)) if p1 > p0 else (0, logit(y.mean()))
    assert_allclose(solve(x[:, None], y).theta, expected, rtol=0, atol=SAME_OPTIMUM)


def test_solver__has_no_weights_from_the_published_l1_on(vectors: Any) -> None:
    X, y = vectors["a_X"], vectors["a_y"].astype(int)
    largest = ((y - y.mean()) @ X.astype(np.float64) / len(y)).max()
    assert_allclose(largest, vectors["kkt_l1max"], rtol=ROUNDING)
    above = solve(X, y, l1=largest * (1 + 1e-6)).theta
    assert not above[:-1].any()
    assert_allclose(above[-1], logit(y.mean()), atol=ROUNDING)
    assert solve(X, y, l1=largest * (1 - 1e-3)).theta[:-1].any()


# --------------------------------------------------------------------------------------- SciPy


@pytest.mark.parametrize(("l2", "l1"), [(1e-2, 0), (1e-4, 0), (1e-6, 1e-4), (0, 1e-3), (0, 0)])
@pytest.mark.parametrize(("rows", "most_free"), [(None, 0), (40, 0), (40, 100)])
@pytest.mark.parametrize(
    ("make", "shape"),
    [(relu_like, (400, 40)), (vit_like, (400, 40)), (ill_conditioned, (300, 20))],
)
def test_solvers__are_at_least_as_good_as_scipy(
    make: Any, shape: Any, l2: float, l1: float, rows: int | None, most_free: int
) -> None:
    X, y = make(*shape)
    X = X.astype(np.float64)
    solver = solve(X, y, l2, l1, rows=rows, most_free=most_free)
    value, _ = objective(solver.theta, X, y, l2, l1)
    expected = lbfgs(X, y, l2, l1)
    assert (solver.theta[:-1] >= 0).all()
    assert value <= expected + ROUNDING
    assert expected <= value * (1 + LBFGS)
    assert max(solver.certificate[1:]) <= TOL


@pytest.mark.parametrize(("l2", "rows"), [(1e-2, 20), (1e-2, 60), (1e-4, 60)])
def test_solvers__agree_on_more_features_than_rows(l2: float, rows: int) -> None:
    X, y = relu_like(60, 200)
    dense = solve(X, y, l2)
    assert_allclose(solve(X, y, l2, rows=rows).theta, dense.theta, rtol=0, atol=1e-4)
    value, _ = objective(dense.theta, X, y, l2, 0)
    assert_allclose(value, lbfgs(X, y, l2, 0), rtol=LBFGS)


def test_solvers__take_few_passes_with_few_rows_if_the_hessian_of_free_weights_fits() -> None:
    rng = np.random.default_rng(1)
    X = rng.exponential(size=(1000, 150))
    score = X[:, :100] @ rng.random(100)
    y = (score + 0.7 * score.std() * rng.normal(size=1000) > score.mean()).astype(int)
    solver = solve(X, y, 1e-4, rows=30, most_free=150, most_passes=20)
    assert np.count_nonzero(solver.theta) > 30
    assert_allclose(solver.theta[:-1], solve(X, y, 1e-4).theta[:-1], rtol=0, atol=SAME_OPTIMUM)


@pytest.mark.parametrize(("shape", "rows"), [((1000, 200), None), ((100, 300), 100)])
def test_solvers__take_few_passes(shape: tuple[int, int], rows: int | None) -> None:
    X, y = relu_like(*shape)
    assert solve(X, y, 1e-4, rows=rows, most_passes=25 if rows else 12).converged


# --------------------------------------------------------------------------------- certificate


def certified(theta: Any, X: Any, y: Any, l2: float, l1: float) -> Any:
    point = Evaluation(theta, np.ones(2))
    add_batch([point], design(X), y)
    return certify(problem_of(y, l2, l1), point, y @ design(X))


@given(
    seed=st.integers(0, 1000),
    penalty=st.sampled_from([(1e-3, 0.0), (0.1, 0.0), (0.01, 0.02), (0.0, 0.02)]),
    scale=st.sampled_from([0.0, 0.01, 1.0, 10.0]),
    near=st.floats(0, 1),
)
def test_certify__bounds_the_excess_of_any_point(
    seed: int, penalty: tuple[float, float], scale: float, near: float
) -> None:
    X, y = relu_like(60, 5, seed)
    assume(0 < y.mean() < 1)
    best = solve(X, y, *penalty)
    rng = np.random.default_rng(seed)
    anywhere = scale * np.append(rng.exponential(size=5), rng.normal())
    found = certified(near * best.theta + (1 - near) * anywhere, X, y, *penalty)
    assert found.objective - found.duality_gap <= best.certificate.objective + ROUNDING
    assert found.duality_gap >= 0


def test_certify__needs_the_intercept_to_be_right_too() -> None:
    X, y = relu_like(100, 5)
    best = solve(X, y, 0.01)
    shifted = np.append(best.theta[:-1], best.theta[-1] + 0.1)
    assert certified(best.theta, X, y, 0.01, 0).duality_gap <= TOL
    found = certified(shifted, X, y, 0.01, 0)
    assert found.kkt_residual > 1e-3
    assert found.duality_gap >= found.objective - best.certificate.objective > 1e-4


# ----------------------------------------------------------------------------------- existence


@given(
    seed=st.integers(0, 10_000),
    n_samples=st.integers(4, 14),
    n_features=st.integers(1, 4),
    held=st.booleans(),
    most_free=st.sampled_from([0, 10]),
)
def test_solvers__refuse_exactly_what_weights_separate(
    seed: int, n_samples: int, n_features: int, held: bool, most_free: int
) -> None:
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 4, size=(n_samples, n_features)).astype(np.float64)
    y = np.append([0, 1], rng.integers(0, 2, n_samples - 2))
    rows = n_samples if held else None
    if separable(X, y):
        with pytest.raises(ValueError, match="set l2 > 0"):
            solve(X, y, rows=rows, most_free=most_free)
    else:
        assert solve(X, y, rows=rows, most_free=most_free).converged


def test_solver__refuses_separated_rows_of_any_scale() -> None:
    # One indicator separates some fakes; its unit makes the gradient vanish late.
    rng = np.random.default_rng(1)
    X = (rng.random((80, 6)) < 0.5).astype(np.float64)
    y = (X[:, 0] * (rng.random(80) < 0.6)).astype(int)
    scales = np.array([1e4, 1e-2, 1e3, 1e-4, 1e4, 1e1])
    for scale in (np.ones(6), scales, scales[::-1], 1e4 * scales):
        with pytest.raises(ValueError, match="set l2 > 0"):
            solve(X * scale, y)


@pytest.mark.parametrize("penalty", [(1e-6, 0.0), (0.0, 1e-4), (1e-4, 1e-4)])
def test_solver__any_penalty_makes_an_optimum(penalty: tuple[float, float]) -> None:
    X = np.abs(np.random.default_rng(0).normal(size=(50, 3)))
    y = (X[:, 0] > 0.6).astype(int)
    assert separable(X, y)
    assert max(solve(X, y, *penalty).certificate[1:]) <= TOL


def test_solver__columns_that_say_nothing_keep_weight_0() -> None:
    X, y = relu_like(100, 4)
    X[:, 1], X[:, 2] = 0, 3
    theta = solve(X, y).theta
    assert theta[1] == theta[2] == 0
    assert_allclose(np.delete(theta, [1])[[0, 2]], solve(X[:, [0, 3]], y).theta[:2], atol=1e-6)


# -------------------------------------------------------------------------------- the quadratic


def best_face(H: Any, g: Any, w: Any) -> float:
    """Return the minimum of the model over all guesses of which weights end at 0."""
    values = []
    for held in product([False, True], repeat=len(w)):
        free = ~np.append(held, False)
        step = np.append(-w, 0.0) * ~free
        step[free] = np.linalg.solve(H[np.ix_(free, free)], -(g + H @ step)[free])
        if (w + step[:-1] >= -1e-12).all():
            values.append(g @ step + step @ H @ step / 2)
    return min(values)


@given(seed=st.integers(0, 10_000), n=st.integers(1, 5), spread=st.floats(-3, 3))
def test_bounded_step__equals_the_best_of_all_faces(seed: int, n: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(n + 4, n + 1)) * np.logspace(0, spread, n + 1)
    H, g = A.T @ A, rng.normal(size=n + 1)
    w = np.maximum(rng.normal(size=n), 0)
    step = bounded_step(np.asfortranarray(np.tril(H)), g, w)
    assert (w + step[:-1] >= -ROUNDING).all()
    assert_allclose(g @ step + step @ H @ step / 2, best_face(H, g, w), rtol=1e-6, atol=1e-9)


def test_bounded_step__leaves_flat_directions_alone() -> None:
    H = np.asfortranarray(np.diag([0.0, 2.0, 1.0]))
    step = bounded_step(H, np.array([0.0, -2.0, 0.0]), np.array([3.0, 0.0]))
    assert_allclose(step, [0, 1, 0], atol=ROUNDING)


def test_bounded_step__refuses_a_hessian_that_is_none() -> None:
    H = np.array([[1.0, 0.0], [3.0, 1.0]], order="F")
    with pytest.raises(np.linalg.LinAlgError, match="positive semidefinite"):
        bounded_step(H, np.array([-1.0, -1.0]), np.zeros(1))
