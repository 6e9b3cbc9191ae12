"""LogisticProbe against scikit-learn, against finite differences, and against itself in pieces."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from support.checks import CutBatches
from support.features import Data, ill_conditioned, vit_like

from heads.logistic import probe as logistic_probe
from heads.logistic.curvatures import Curvatures
from heads.logistic.probe import LogisticProbe
from heads.logistic.row_sums import Evaluation, RowSample
from heads.loop import batch_source as batch_source
from heads.loop.batch_source import ArrayBatches
from heads.loop.passes import train
from heads.loop.views import View

SAME_OPTIMUM = 1e-4  # what is promised against scikit-learn; it is met with room to spare
PATH = [1e-3, 0.1, 1.0, 10.0, 100.0]
ROUNDING = 1e-8  # same arithmetic in another order


def separable(n_samples: int, n_features: int) -> Data:
    X = np.random.default_rng(0).normal(size=(n_samples, n_features))
    return X, (X[:, 0] > 0).astype(int)


def scikit_learn(X: Any, y: Any, **parameters: Any) -> LogisticRegression:
    model = LogisticRegression(solver="newton-cholesky", tol=1e-10, max_iter=500, **parameters)
    return model.fit(np.asarray(X, dtype=np.float64), y)


def assert_same(head: Any, expected: Any, atol: float) -> None:
    np.testing.assert_allclose(head.coef_, expected.coef_, rtol=0, atol=atol)
    np.testing.assert_allclose(head.intercept_, expected.intercept_, rtol=0, atol=atol)


@pytest.fixture
def small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every problem one that is too wide for a Hessian and too long for a full sample."""
    monkeypatch.setattr(logistic_probe, "DENSE_FEATURES", 0)
    monkeypatch.setattr(logistic_probe, "SAMPLE_ROWS", 40)


@pytest.mark.parametrize("C", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        pytest.param(vit_like, (400, 80), id="hessian"),
        pytest.param(vit_like, (80, 300), id="wide"),
        pytest.param(ill_conditioned, (400, 40), id="ill-conditioned"),
        pytest.param(ill_conditioned, (40, 60), id="ill-conditioned-wide"),
        pytest.param(separable, (100, 5), id="separable"),
    ],
)
def test_logistic_probe__equals_scikit_learn(make: Any, shape: Any, C: float) -> None:
    X, y = make(*shape)
    head = LogisticProbe(C=C).fit(X, y)
    assert head.gradient_norm_ <= head.tol
    assert_same(head, scikit_learn(X, y, C=C), SAME_OPTIMUM)


@pytest.mark.usefixtures("small_sample")
@pytest.mark.parametrize("make", [vit_like, ill_conditioned, separable])
def test_logistic_probe__equals_scikit_learn_if_the_sample_is_a_part_of_the_rows(make: Any) -> None:
    X, y = make(300, 60)
    head = LogisticProbe(max_iter=3000).fit(X, y)
    assert head.gradient_norm_ <= head.tol
    assert_same(head, scikit_learn(X, y), SAME_OPTIMUM)


@pytest.mark.parametrize("shape", [(300, 20), (40, 60)])
@pytest.mark.parametrize(
    "parameters",
    [{"fit_intercept": False}, {"class_weight": "balanced"}, {"class_weight": {0: 3.0, 1: 0.5}}],
    ids=str,
)
def test_logistic_probe__options_mean_what_they_mean_in_scikit_learn(
    parameters: Any, shape: tuple[int, int]
) -> None:
    X, y = vit_like(*shape)
    y[: shape[0] // 3] = 0
    head = LogisticProbe(**parameters).fit(X, y)
    assert_same(head, scikit_learn(X, y, **parameters), SAME_OPTIMUM)


@pytest.mark.parametrize("shape", [(300, 20), (40, 60)])
def test_logistic_probe__standardize_equals_a_scaler_before_it(shape: tuple[int, int]) -> None:
    X, y = ill_conditioned(*shape)
    X[:, 3] = 5
    head = LogisticProbe(standardize=True, C=0.1).fit(X, y)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, tol=1e-10, max_iter=1000))
    expected = model.fit(X, y).decision_function(X)
    np.testing.assert_allclose(head.decision_function(X), expected, rtol=0, atol=SAME_OPTIMUM)


def test_logistic_probe__float_types_and_memory_maps_equal_scikit_learn(tmp_path: Path) -> None:
    X, y = vit_like(300, 30)
    X = X.astype(np.float16)
    np.save(tmp_path / "X.npy", X)
    expected = scikit_learn(X, y)
    for given_X in (X, X.astype(np.float32), np.load(tmp_path / "X.npy", mmap_mode="r")):
        assert_same(LogisticProbe().fit(given_X, y), expected, SAME_OPTIMUM)


@given(cuts=st.lists(st.integers(1, 119), max_size=20))
def test_logistic_probe__any_batching_gives_the_same_head(cuts: list[int]) -> None:
    X, y = vit_like(120, 12)
    head = LogisticProbe(C=10)
    train([head], CutBatches(X, y, cuts))
    assert_same(head, LogisticProbe(C=10).fit(X, y), ROUNDING)


@given(cuts=st.lists(st.integers(1, 59), max_size=20))
def test_logistic_probe__any_batching_gives_the_same_head_for_wide_features(
    cuts: list[int],
) -> None:
    X, y = vit_like(60, 90)
    head = LogisticProbe(C=0.1)
    train([head], CutBatches(X, y, cuts))
    assert_same(head, LogisticProbe(C=0.1).fit(X, y), ROUNDING)


@pytest.mark.parametrize("shape", [(200, 20), (40, 60)])
def test_logistic_probe__heads_trained_together_equal_single_fits(shape: tuple[int, int]) -> None:
    X, y = vit_like(*shape)
    grid = [
        {"C": 0.01},
        {"C": 10.0},
        {"fit_intercept": False},
        {"standardize": True},
        {"class_weight": "balanced"},
    ]
    heads = [LogisticProbe(**point) for point in grid]
    train(heads, ArrayBatches(X, y))
    for head, point in zip(heads, grid, strict=True):
        assert_same(head, LogisticProbe(**point).fit(X, y), ROUNDING)


@pytest.mark.parametrize(("n_matrices", "shared"), [(2, RowSample), (3, Curvatures)])
def test_logistic_probe__many_heads_share_the_workspace(
    n_matrices: int, shared: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = vit_like(200, 30)
    monkeypatch.setattr(batch_source, "WORKSPACE", n_matrices * 8 * 31**2)
    monkeypatch.setattr(logistic_probe, "LEAST_WORKSPACE", 0)
    heads = [LogisticProbe(C=C) for C in PATH]
    (trainer,) = LogisticProbe.trainers(heads, ArrayBatches(X, y))
    assert isinstance(trainer._memory, shared)
    train(heads, ArrayBatches(X, y))
    for head in heads:
        assert_same(head, scikit_learn(X, y, C=head.C), SAME_OPTIMUM)


@pytest.mark.parametrize("make", [vit_like, ill_conditioned, separable])
def test_logistic_probe__a_path_equals_scikit_learn(make: Any) -> None:
    X, y = make(500, 40)
    heads = [LogisticProbe(C=C) for C in PATH]
    train(heads, ArrayBatches(X, y))
    for head in heads:
        assert head.gradient_norm_ <= head.tol
        assert_same(head, scikit_learn(X, y, C=head.C), SAME_OPTIMUM)


def test_logistic_probe__a_path_takes_a_few_hessians_and_no_more_passes_than_one_head(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    X, y = vit_like(2000, 64)
    bent: list[Evaluation] = []
    bend = Evaluation.bend
    monkeypatch.setattr(Evaluation, "bend", lambda self: bent.append(self) or bend(self))
    heads = [LogisticProbe(C=C) for C in np.logspace(-3, 2, 10)]
    train(heads, ArrayBatches(X, y))
    assert max(head.n_iter_ for head in heads) <= 12
    assert len(bent) <= 4


def test_logistic_probe__a_path_on_every_layer_equals_single_fits() -> None:
    X, y = vit_like(300, 36)
    source = ArrayBatches(X, y)
    source.layers = (8, 16, 12)
    points = [(layer, C) for layer in range(3) for C in PATH]
    heads = [LogisticProbe(C=C) for _, C in points]
    train(heads, source, views=[View((layer,)) for layer, _ in points])
    edges = np.cumsum([0, *source.layers])
    for head, (layer, C) in zip(heads, points, strict=True):
        single = LogisticProbe(C=C).fit(X[:, edges[layer] : edges[layer + 1]], y)
        assert_same(head, single, ROUNDING)


@pytest.mark.parametrize("seed", range(5))
def test_logistic_probe__ends_where_rounding_allows_on_the_worst_of_features(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_samples, n_features = 40, 30
    scales, offsets = 10 ** rng.uniform(-3, 3, (2, n_features))
    X = rng.normal(size=(n_samples, n_features)) * scales + offsets
    X[:, 1] = X[:, 0]
    y = (rng.random(n_samples) < 0.5).astype(int)
    heads = [LogisticProbe(C=C, fit_intercept=b) for C in (1e-4, 1.0, 1e4) for b in (True, False)]
    train(heads, ArrayBatches(X, y))
    for head in heads:
        assert head.gradient_norm_ <= max(head.tol, 1e-12 * head.C * np.abs(X).sum())


def test_logistic_probe__takes_few_passes_on_features_like_those_of_a_vit() -> None:
    X, y = vit_like(1000, 256)
    assert LogisticProbe().fit(X, y).n_iter_ <= 12
    assert LogisticProbe().fit(X[:200], y[:200]).n_iter_ <= 30


def test_logistic_trainer__scores_are_the_decision_values_of_the_point_reached() -> None:
    X, y = vit_like(200, 10)
    head = LogisticProbe()
    source = ArrayBatches(X, y)
    (trainer,) = LogisticProbe.trainers([head], source)
    assert (trainer.scores(X) == 0).all()
    while (reading := trainer.next_pass()) is not None:
        for batch in source.batches(reading):
            trainer.consume(batch, {})
        trainer.end_pass(None)
    trainer.finish()
    expected = head.decision_function(X)
    np.testing.assert_allclose(trainer.scores(X)[:, 0], expected, rtol=0, atol=ROUNDING)


def test_logistic_probe__gradient_norm_is_that_of_the_stated_objective() -> None:
    X, y = vit_like(200, 10)
    with pytest.warns(ConvergenceWarning, match="raise 'max_iter' or 'tol'"):
        head = LogisticProbe(C=3, max_iter=4).fit(X, y)
    error = head.predict_proba(X)[:, 1] - y
    by_weights, by_intercept = head.coef_[0] + 3 * error @ X, 3 * error.sum()
    gradient = np.append(by_weights - X.mean(0, dtype=float) * by_intercept, by_intercept)
    assert head.gradient_norm_ == pytest.approx(np.linalg.norm(gradient), rel=1e-6)
    assert head.n_iter_ == 4


def test_logistic_probe__ends_where_rounding_allows_no_better() -> None:
    X, y = vit_like(500, 10)
    head = LogisticProbe(tol=0, C=100).fit(X, y)
    assert 0 < head.gradient_norm_ < 1e-7
    assert head.n_iter_ < 20


def test_logistic_probe__refuses_features_that_are_not_finite_in_a_source() -> None:
    X, y = vit_like(50, 4)
    X[7, 1] = np.nan
    with pytest.raises(ValueError, match="features must be finite"):
        train([LogisticProbe()], ArrayBatches(X, y))


def test_logistic_probe__refuses_a_source_of_one_class() -> None:
    X, y = vit_like(50, 4)
    with pytest.raises(ValueError, match="rows of two classes"):
        train([LogisticProbe()], ArrayBatches(X, np.zeros_like(y)))


def test_logistic_probe__says_when_rounding_kept_it_from_the_optimum() -> None:
    # More features than rows, far from zero: the inverse of the Hessian is lost in rounding.
    X = np.random.default_rng(0).normal(size=(30, 200)) + 1e5
    with pytest.warns(ConvergenceWarning, match="scale the features"):
        LogisticProbe(C=1e4).fit(X, np.arange(30) % 2)


def test_logistic_probe__balancing_classes_costs_no_pass() -> None:
    X, y = vit_like(100, 5)
    y[:30] = 0
    weights = {label: len(y) / (2 * np.sum(y == label)) for label in (0, 1)}
    balanced = LogisticProbe(class_weight="balanced").fit(X, y)
    assert balanced.n_iter_ == LogisticProbe(class_weight=weights).fit(X, y).n_iter_
