"""RidgeProbe against scikit-learn, against leaving rows out, and against itself in pieces."""

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge, RidgeClassifier, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from support.checks import CutBatches
from support.features import Data, ill_conditioned, vit_like

from featstore.simulate import simulate_store
from heads import fit_many
from heads.closed_form import ridge_path as ridge_path
from heads.closed_form.ridge import RidgeProbe
from heads.closed_form.training import collect
from heads.loop.batch_source import ArrayBatches
from heads.loop.passes import train

SAME_SOLUTION = 1e-8  # relative to the largest weight, for all data below
SAME_DECISIONS = 1e-9  # relative to the largest decision value
SAME_ERROR = 1e-8  # of leave-one-out errors: leverages are relative to the largest eigenvalue
ROUNDING = 1e-10  # same arithmetic in another order
ALPHAS = [0.1, 1.0, 10.0, 1000.0]


def far_from_zero(n_samples: int, n_features: int) -> Data:
    X, y = ill_conditioned(n_samples, n_features)
    return X + 1e4, y


def rank_deficient(n_samples: int, n_features: int) -> Data:
    X, y = vit_like(n_samples, n_features)
    X = X.astype(np.float64)
    X[:, n_features // 2 :] = X[:, : n_features - n_features // 2] * 3
    X[:, 0] = 0.1
    return X, y


def three_classes(n_samples: int, n_features: int) -> Data:
    X, y = vit_like(n_samples, n_features)
    return X, y + (np.arange(n_samples) % 3 == 0)


def small_and_large(scale: float) -> Any:
    def make(n_samples: int, n_features: int) -> Data:
        X, y = vit_like(n_samples, n_features)
        return X.astype(np.float64) * scale, y

    return make


DATA = [
    pytest.param(vit_like, (400, 80), id="tall"),
    pytest.param(vit_like, (60, 150), id="wide"),
    pytest.param(ill_conditioned, (400, 40), id="ill-conditioned"),
    pytest.param(ill_conditioned, (30, 40), id="ill-conditioned-wide"),
    pytest.param(far_from_zero, (400, 40), id="far-from-zero"),
    pytest.param(rank_deficient, (300, 40), id="rank-deficient"),
    pytest.param(three_classes, (300, 30), id="three-classes"),
    pytest.param(small_and_large(1e-3), (300, 30), id="small"),
    pytest.param(small_and_large(1e3), (300, 30), id="large"),
]


def assert_same(head: Any, expected: Any, rounding: float = ROUNDING) -> None:
    for name in ("coef_", "intercept_"):
        wanted = getattr(expected, name)
        scale = rounding * np.abs(wanted).max()
        np.testing.assert_allclose(getattr(head, name), wanted, rtol=0, atol=scale)


def targets_of(y: Any) -> Any:
    targets = 2.0 * np.eye(y.max() + 1)[y] - 1
    return targets[:, 1:] if y.max() == 1 else targets


def scikit_learn(X: Any, y: Any, alpha: float) -> Any:
    return Ridge(alpha=alpha, solver="svd").fit(X.astype(np.float64), targets_of(y))


@pytest.mark.parametrize("alpha", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize(("make", "shape"), DATA)
def test_ridge_probe__equals_scikit_learn(make: Any, shape: Any, alpha: float) -> None:
    X, y = make(*shape)
    head, expected = RidgeProbe(alpha=alpha).fit(X, y), scikit_learn(X, y, alpha)
    coefs = np.atleast_2d(expected.coef_)
    scale = np.abs(coefs).max()
    np.testing.assert_allclose(head.coef_, coefs, rtol=0, atol=SAME_SOLUTION * scale)
    X = X.astype(np.float64)
    decisions = head.decision_function(X)
    np.testing.assert_allclose(decisions, expected.predict(X), rtol=0, atol=SAME_DECISIONS)


@pytest.mark.parametrize("class_weight", ["balanced", {0: 3.0, 1: 0.5}], ids=str)
def test_ridge_probe__class_weights_are_those_of_scikit_learn(class_weight: Any) -> None:
    X, y = vit_like(300, 20)
    y[:100] = 0
    head = RidgeProbe(alpha=2.0, class_weight=class_weight).fit(X, y)
    expected = RidgeClassifier(alpha=2.0, class_weight=class_weight).fit(X.astype(np.float64), y)
    np.testing.assert_allclose(head.coef_.ravel(), expected.coef_.ravel(), atol=SAME_SOLUTION)
    np.testing.assert_allclose(head.intercept_, expected.intercept_, atol=SAME_SOLUTION)


@pytest.mark.parametrize("shape", [(300, 20), (40, 60)])
def test_ridge_probe__standardize_equals_a_scaler_before_it(shape: tuple[int, int]) -> None:
    X, y = ill_conditioned(*shape)
    X[:, 3] = 5
    head = RidgeProbe(standardize=True, alpha=10.0).fit(X, y)
    model = make_pipeline(StandardScaler(), RidgeClassifier(alpha=10.0)).fit(X, y)
    expected = model.decision_function(X)
    np.testing.assert_allclose(head.decision_function(X), expected, rtol=0, atol=SAME_DECISIONS)


def test_ridge_probe__without_penalty_is_the_solution_of_minimum_norm() -> None:
    X, y = vit_like(30, 60)
    head = RidgeProbe(alpha=0.0).fit(X, y)
    centred = X - X.mean(0, dtype=np.float64)
    expected = np.linalg.pinv(centred) @ (2.0 * y - 1)
    np.testing.assert_allclose(head.coef_[0], expected, atol=1e-9)


@pytest.mark.parametrize(("make", "shape"), DATA)
def test_ridge_probe__leave_one_out_errors_equal_scikit_learns(make: Any, shape: Any) -> None:
    X, y = make(*shape)
    head = RidgeProbe(alpha=ALPHAS).fit(X, y)
    expected = RidgeCV(alphas=ALPHAS, gcv_mode="svd", store_cv_results=True)
    expected.fit(X.astype(np.float64), targets_of(y))
    errors = expected.cv_results_.mean(axis=(0, 1))
    np.testing.assert_allclose(head.loo_error_, errors, rtol=SAME_ERROR)
    assert head.alpha_ == expected.alpha_


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("class_weight", [None, {0: 1.0, 1: 4.0}])
def test_ridge_probe__leave_one_out_errors_are_those_of_rows_left_out(
    standardize: bool, class_weight: Any
) -> None:
    X, y = vit_like(40, 8)
    X = X.astype(np.float64)
    head = RidgeProbe(alpha=[3.0], standardize=standardize, class_weight=class_weight).fit(X, y)
    scale = X.std(0) if class_weight is None else collect(ArrayBatches(X, y), [1, 4]).spreads
    scaled, targets = X / scale if standardize else X, 2.0 * y - 1
    weights = np.array([1.0, 4.0 if class_weight else 1.0])[y]
    errors = np.empty(len(y))
    for row in range(len(y)):
        rest = np.arange(len(y)) != row
        model = Ridge(alpha=3.0).fit(scaled[rest], targets[rest], weights[rest])
        errors[row] = targets[row] - model.predict(scaled[[row]])[0]
    expected = np.average(errors**2, weights=weights)
    np.testing.assert_allclose(head.loo_error_, [expected], rtol=1e-9)


def test_ridge_probe__generalised_errors_are_those_of_the_hat_matrix() -> None:
    X, y = vit_like(50, 12)
    head = RidgeProbe(alpha=ALPHAS, selection="gcv").fit(X, y)
    centred = X - X.mean(0, dtype=np.float64)
    n, targets = len(y), 2.0 * y - 1
    for alpha, error in zip(ALPHAS, head.gcv_error_, strict=True):
        inner = np.linalg.inv(centred.T @ centred + alpha * np.eye(12))
        hat = 1 / n + centred @ inner @ centred.T
        residual = targets - hat @ targets
        expected = (residual @ residual / n) / (1 - np.trace(hat) / n) ** 2
        assert error == pytest.approx(expected, rel=1e-9)
    assert head.alpha_ == ALPHAS[int(np.argmin(head.gcv_error_))]


def test_ridge_probe__generalised_errors_are_right_where_every_row_can_be_fitted() -> None:
    X, y = vit_like(30, 60)
    alphas = [0.0, 1e-6, 1e-3, 1.0, 100.0]
    centred, t = X - X.mean(0, dtype=np.float64), 2.0 * y - 1
    values, vectors = np.linalg.eigh(centred @ centred.T)
    shares, values = (vectors.T @ (t - t.mean()))[1:], values[1:]  # but for the constant vector
    expected = [
        np.mean((alpha / (values + alpha) * shares) ** 2)
        * (len(y) - 1)
        / len(y)
        / (np.sum(alpha / (values + alpha)) / len(y)) ** 2
        for alpha in alphas[1:]
    ]
    head = RidgeProbe(alpha=alphas, selection="gcv").fit(X, y)
    assert head.gcv_error_[0] == np.inf
    np.testing.assert_allclose(head.gcv_error_[1:], expected, rtol=1e-5)  # of 1e-6; 1e-9 of others
    assert head.alpha_ == alphas[1 + int(np.argmin(expected))]


@pytest.mark.parametrize("seed", range(8))
def test_ridge_probe__leaving_out_does_not_choose_a_penalty_whose_error_is_rounding(
    seed: int,
) -> None:
    X = np.random.default_rng(seed).normal(size=(30, 60))
    head = RidgeProbe(alpha=[0.0, 1e-15, 1.0]).fit(X, X[:, 0] > 0)
    assert head.loo_error_[:2].tolist() == [np.inf, np.inf]
    assert head.alpha_ == 1


def test_ridge_probe__validation_rows_choose_the_penalty() -> None:
    X, y = three_classes(120, 30)
    new, labels = three_classes(400, 30)
    head = RidgeProbe(alpha=ALPHAS, selection="validation")
    train([head], ArrayBatches(X, y), ArrayBatches(new, labels))
    models = [scikit_learn(X, y, alpha) for alpha in ALPHAS]
    errors = [np.mean((model.predict(new) - targets_of(labels)) ** 2) for model in models]
    np.testing.assert_allclose(head.validation_error_, errors, rtol=SAME_ERROR)
    assert head.alpha_ == ALPHAS[int(np.argmin(errors))]


def test_ridge_probe__heads_that_validate_together_choose_as_if_alone() -> None:
    (X, y), (new, labels) = three_classes(120, 30), three_classes(400, 30)
    points: list[Any] = [
        {"alpha": [1e5, 1.0]},
        {"alpha": 1.0},
        {"alpha": ALPHAS, "standardize": True},
        {"alpha": ALPHAS, "class_weight": {0: 1.0, 1: 3.0, 2: 2.0}},
    ]
    heads = [RidgeProbe(selection="validation", **point) for point in points]
    train(heads, ArrayBatches(X, y), ArrayBatches(new, labels))
    for head, point in zip(heads, points, strict=True):
        single = RidgeProbe(selection="validation", **point)
        train([single], ArrayBatches(X, y), ArrayBatches(new, labels))
        assert head.alpha_ == single.alpha_
        assert_same(head, single)


def test_ridge_probe__selection_on_validation_rows_needs_some() -> None:
    with pytest.raises(ValueError, match=r"without validation rows; pass some, or .* 'loo'"):
        RidgeProbe(alpha=ALPHAS, selection="validation").fit(*vit_like(50, 4))


@pytest.mark.parametrize("alpha", [-1.0, [], [1.0, -1.0], ["a"], [np.nan], [[1.0]]])
def test_ridge_probe__penalties_that_are_none_are_refused(alpha: Any) -> None:
    with pytest.raises(ValueError, match="'alpha'"):
        RidgeProbe(alpha=alpha).fit(*vit_like(50, 4))


def test_ridge_probe__a_second_training_forgets_the_errors_of_the_first() -> None:
    X, y = vit_like(50, 4)
    head = RidgeProbe(alpha=ALPHAS).fit(X, y)
    head.set_params(selection="gcv").fit(X, y)
    assert not hasattr(head, "loo_error_")
    assert len(head.gcv_error_) == len(ALPHAS)


@given(cuts=st.lists(st.integers(1, 119), max_size=20), seed=st.integers(0, 2**32 - 1))
def test_ridge_probe__does_not_depend_on_order_and_batches(cuts: list[int], seed: int) -> None:
    X, y = vit_like(120, 12)
    expected = RidgeProbe(alpha=ALPHAS).fit(X, y)
    order = np.random.default_rng(seed).permutation(len(y))
    head = RidgeProbe(alpha=ALPHAS)
    train([head], CutBatches(X[order], y[order], cuts))
    assert_same(head, expected)
    np.testing.assert_allclose(head.loo_error_, expected.loo_error_, rtol=ROUNDING)


def test_ridge_probe__heads_trained_together_share_one_decomposition() -> None:
    X, y = vit_like(200, 20)
    points: list[Any] = [{"alpha": alpha} for alpha in ALPHAS] + [
        {"alpha": ALPHAS},
        {"alpha": ALPHAS, "selection": "gcv"},
    ]
    heads = [RidgeProbe(**point) for point in points]
    with mock.patch.object(ridge_path, "Spectrum", wraps=ridge_path.Spectrum) as decompose:
        train(heads, ArrayBatches(X, y))
    assert decompose.call_count == 1
    for head, point in zip(heads, points, strict=True):
        assert_same(head, RidgeProbe(**point).fit(X, y))


def test_ridge_probe__reads_rows_once_and_twice_for_leaving_one_out() -> None:
    X, y = vit_like(100, 5)
    for parameters, expected in (
        ({"alpha": 1.0}, 1),
        ({"alpha": ALPHAS, "selection": "gcv"}, 1),
        ({"alpha": ALPHAS}, 2),
    ):
        source = ArrayBatches(X, y)
        with mock.patch.object(source, "batches", wraps=source.batches) as batches:
            train([RidgeProbe(**parameters)], source)
        assert batches.call_count == expected


def test_ridge_probe__layers_and_targets_of_a_store_equal_arrays(tmp_path: Path) -> None:
    store = simulate_store(tmp_path / "s.zarr", n_samples=80)
    rows, held_out = (store.select(split=split) for split in ("train", "val"))
    probes = [RidgeProbe(alpha=ALPHAS, selection=s) for s in ("loo", "validation", "gcv")]
    layers = ["block.0", ["block.1", "block.2"], None]
    fit_many(probes, rows, held_out, layers=layers, targets=["label", "label", "generator"])
    X, X_held_out = (ds["cls"].values.astype(np.float64) for ds in (rows, held_out))
    first = RidgeProbe(alpha=ALPHAS).fit(X[:, 0], rows["label"].values)
    assert_same(probes[0], first)
    second = RidgeProbe(alpha=ALPHAS, selection="validation")
    source = ArrayBatches(X[:, 1:].reshape(len(X), -1), rows["label"].values)
    new = ArrayBatches(X_held_out[:, 1:].reshape(len(X_held_out), -1), held_out["label"].values)
    train([second], source, new)
    assert_same(probes[1], second)
    generators = np.array(rows.attrs["generators"])[rows["generator"].values]
    third = RidgeProbe(alpha=ALPHAS, selection="gcv").fit(X.reshape(len(X), -1), generators)
    np.testing.assert_array_equal(probes[2].classes_, third.classes_)
    assert_same(probes[2], third)
