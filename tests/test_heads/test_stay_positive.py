"""StayPositiveProbe: the published optima and training steps, and what follows from its definition.

``tests/data/stay_positive.npz`` holds what the public training code of Stay-Positive did
(AlignedForensics at commit e4cc011, run on the CPU): ``a_*`` on 256 rows of 16 ReLU features, all
in every step; ``b_*`` five steps on features of a ResNet that differ from step to step. ``kkt_*``
are exact optima of the same 256 rows.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks
from support.checks import CutBatches, check_interrupted_training_goes_on_to_the_same_head
from support.features import Data, vit_like

from heads.loop.batch_source import ArrayBatches, Pass, RowBatch
from heads.loop.passes import train
from heads.stay_positive import training as stay_positive_training
from heads.stay_positive.probe import StayPositiveProbe
from heads.stay_positive.relu_layer import ReluLayer

PARITY = 1e-6  # absolute, with the original's float32
SAME_OPTIMUM = 1e-6  # weights of problems solved to a KKT residual of 1e-8
ROUNDING = 1e-9  # same arithmetic in another order


@pytest.fixture(scope="module")
def vectors() -> Any:
    with np.load(Path(__file__).parents[1] / "data" / "stay_positive.npz") as file:
        return dict(file)


def relu_like(n_samples: int = 200, n_features: int = 12, seed: int = 0) -> Data:
    X, y = vit_like(n_samples, n_features, seed)
    return np.maximum(X - X.mean(0), 0), y


def published(**parameters: Any) -> StayPositiveProbe:
    return StayPositiveProbe(**({"solver": "adam_clamp", "device": "cpu"} | parameters))


def two_stages(**parameters: Any) -> StayPositiveProbe:
    """Return a probe whose hidden layer learns quickly."""
    defaults = {"hidden": 6, "hidden_learning_rate": 0.05, "hidden_epochs": 4, "batch_size": 50}
    return StayPositiveProbe(**({"device": "cpu"} | defaults | parameters))


def centred(n_samples: int = 150, n_features: int = 8, seed: int = 0) -> Data:
    X, y = vit_like(n_samples, n_features, seed)
    return X - X.mean(0), y


def marked(n_samples: int = 200, seed: int = 0) -> Data:
    """Features of which fakes have more."""
    y = np.arange(n_samples) % 2
    return np.random.default_rng(seed).exponential(size=(n_samples, 4)) + 2.0 * y[:, None], y


def weights(head: StayPositiveProbe) -> Any:
    return np.append(head.coef_, head.intercept_)


def objective(head: StayPositiveProbe, X: Any, y: Any, costs: Any = (1, 1)) -> float:
    """Return what the docstring says is minimised."""
    z, w = X @ head.coef_[0] + head.intercept_, head.coef_[0]
    loss = np.asarray(costs)[y] * (np.logaddexp(0, z) - y * z)
    return float(loss.mean() + head.ridge / 2 * w @ w + head.l1 * w.sum())


class CountedBatches(ArrayBatches):
    """Rows in memory that note how often they are read."""

    n_readings = 0

    def batches(self, reading: Pass) -> Iterator[RowBatch]:
        self.n_readings += 1
        yield from super().batches(reading)


# ---------------------------------------------------------------------------- the published code


@pytest.mark.parametrize(
    ("l2", "l1"), [("0", "0"), ("0.0001", "0"), ("0.001", "0"), ("0.1", "0"), ("0", "0.001")]
)
def test_exact__reaches_the_published_optimum(vectors: Any, l2: str, l1: str) -> None:
    prefix = f"kkt_lam{l2}_l1{l1}_"
    head = StayPositiveProbe(l2=float(l2), l1=float(l1)).fit(vectors["a_X"], vectors["a_y"])
    expected = np.append(vectors[prefix + "w"], vectors[prefix + "b"])
    assert_allclose(weights(head), expected, rtol=0, atol=SAME_OPTIMUM)
    assert_allclose(head.objective_, vectors[prefix + "obj"], rtol=1e-12)
    assert max(head.kkt_residual_, head.duality_gap_) <= 1e-8


Step = tuple[Any, float, float]


def steps_of(features: Any, y: Any, wanted: Any) -> list[Step]:
    """Return weights, intercept and the loss before, of some steps on all rows of each array."""
    (trainer,) = StayPositiveProbe.trainers([published()], ArrayBatches(features[0], y))
    found = []
    for number, X in enumerate(features, 1):
        trainer.consume(RowBatch(X, y, np.arange(len(y))), {})
        trainer.end_pass(None)
        if number in wanted:
            state = trainer.state()
            assert state is not None
            loss = float(state["history"][-1, 0])
            found.append((state["module/weight"][0].copy(), float(state["module/bias"][0]), loss))
    return found


def assert_steps(found: list[Step], w: Any, b: Any, loss: Any) -> None:
    for own, expected in zip(zip(*found, strict=True), (w, b, loss), strict=True):
        assert_allclose(np.array(own), expected, rtol=0, atol=PARITY)


def test_adam_clamp__follows_the_original_step_by_step(vectors: Any) -> None:
    X, y, steps = vectors["a_X"], vectors["a_y"].astype(np.intp), vectors["a_lr1e-4_steps"]
    found = steps_of([X] * int(steps[-1]), y, set(steps))
    expected = [vectors[f"a_lr1e-4_{name}"] for name in ("w", "b", "loss_before_step")]
    assert_steps(found, *expected)


def test_adam_clamp__follows_the_original_on_features_that_change(vectors: Any) -> None:
    y = vectors["b_label"].astype(np.intp)
    found = steps_of(vectors["b_feat_trainmode"], y, range(1, 6))
    assert_steps(found, vectors["b_w"], vectors["b_b"], vectors["b_loss"])


def test_adam_clamp__fit_takes_those_steps(vectors: Any) -> None:
    X, y = vectors["a_X"], vectors["a_y"]
    head = published(batch_size=len(y), max_iter=10).fit(X, y)
    expected = np.append(vectors["a_lr1e-4_w"][4], vectors["a_lr1e-4_b"][4])
    assert_allclose(weights(head), expected, rtol=0, atol=PARITY)


def test_adam_clamp__its_first_step_says_which_means_are_larger_in_fakes() -> None:
    X, y = relu_like(100)
    y = np.arange(100) % 2
    head = published(batch_size=100, max_iter=1, learning_rate=0.01).fit(X, y)
    expected = 0.01 * (X[y == 1].mean(0) > X[y == 0].mean(0))
    assert_allclose(head.coef_[0], expected, rtol=1e-5)


def test_adam_clamp__comes_to_the_exact_optimum() -> None:
    X, y = relu_like(100, 5)
    exact = StayPositiveProbe(l2=0.01, l1=0.001).fit(X, y)
    head = published(l2=0.01, l1=0.001, learning_rate=0.02, batch_size=100, max_iter=800)
    assert_allclose(weights(head.fit(X, y)), weights(exact), rtol=0, atol=1e-3)
    assert (head.coef_ >= 0).all()


# ------------------------------------------------------------------- what follows from optimality


@given(seed=st.integers(0, 500), balanced=st.booleans())
def test_exact__mean_probability_is_the_prior(seed: int, balanced: bool) -> None:
    X, y = relu_like(60, 5, seed)
    head = StayPositiveProbe(class_weight="balanced" if balanced else None).fit(X, y)
    costs = np.where(y, 0.5 / y.mean(), 0.5 / (1 - y).mean()) if balanced else np.ones(len(y))
    error = np.average(head.predict_proba(X)[:, 1] - y, weights=costs)
    assert abs(error) <= 1e-7


@given(seed=st.integers(0, 500), factor=st.sampled_from([0.5, 0.999, 1.001, 2.0]))
def test_exact__weights_appear_where_l1_falls_below_its_largest_value(
    seed: int, factor: float
) -> None:
    X, y = relu_like(60, 5, seed)
    largest = ((y - y.mean()) @ X.astype(np.float64) / len(y)).max()
    if largest > 0:
        head = StayPositiveProbe(l1=factor * largest, l2=0).fit(X, y)
        assert head.coef_.any() == (factor < 1)


def test_exact__equals_logistic_regression_where_that_has_no_negative_weight() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(300) % 2
    X = rng.exponential(size=(300, 3)) * (1 + y[:, None] * [1, 2, 0.5])
    free = LogisticRegression(C=1 / (300 * 1e-3), tol=1e-10).fit(X, y)
    assert (free.coef_ > 0).all()
    head = StayPositiveProbe(l2=1e-3).fit(X, y)
    assert_allclose(weights(head), np.append(free.coef_, free.intercept_), rtol=0, atol=1e-5)


@given(seed=st.integers(0, 500))
def test_exact__is_never_better_than_without_the_bound(seed: int) -> None:
    X, y = relu_like(60, 5, seed)
    X = X.astype(np.float64)
    free = LogisticRegression(C=1 / (60 * 1e-2), solver="newton-cholesky", tol=1e-10).fit(X, y)
    z = free.decision_function(X)
    unbounded = (np.logaddexp(0, z) - y * z).mean() + 1e-2 / 2 * (free.coef_**2).sum()
    assert StayPositiveProbe(l2=1e-2).fit(X, y).objective_ >= unbounded - ROUNDING


@given(seed=st.integers(0, 500))
def test_exact__equal_features_share_a_weight_equally(seed: int) -> None:
    X, y = relu_like(60, 4, seed)
    doubled = StayPositiveProbe(l2=2e-3).fit(np.column_stack((X, X[:, 0])), y)
    assert_allclose(doubled.coef_[0, 0], doubled.coef_[0, 4], rtol=0, atol=SAME_OPTIMUM)
    unpenalised = StayPositiveProbe(l2=0, l1=0.01)
    alone = unpenalised.fit(X, y).coef_[0].copy()
    shared = unpenalised.fit(np.column_stack((X, X[:, 0])), y).coef_[0]
    assert_allclose(shared[0] + shared[4], alone[0], rtol=0, atol=1e-5)


@given(seed=st.integers(0, 500))
def test_exact__shifts_move_the_intercept_and_scales_the_weights(seed: int) -> None:
    X, y = relu_like(60, 4, seed)
    X = X.astype(np.float64)
    shift, scale = np.array([0, 3, 0.5, 10]), np.array([1, 4, 0.25, 1])
    plain = StayPositiveProbe(l2=0, l1=0.01).fit(X, y)
    moved = StayPositiveProbe(l2=0, l1=0.01).fit(X + shift, y)
    assert_allclose(moved.coef_, plain.coef_, rtol=0, atol=1e-5)
    assert_allclose(moved.intercept_, plain.intercept_ - plain.coef_[0] @ shift, atol=1e-4)
    free = StayPositiveProbe(l2=0)
    expected, scores = free.fit(X, y).coef_.copy(), free.decision_function(X)
    assert_allclose(free.fit(X * scale, y).coef_ * scale, expected, rtol=0, atol=1e-4)
    assert_allclose(free.decision_function(X * scale), scores, rtol=0, atol=1e-4)


@settings(max_examples=10)
@given(seed=st.integers(0, 500), index=st.integers(0, 2))
def test_probe__more_of_a_feature_never_lowers_the_score(seed: int, index: int) -> None:
    X, y = relu_like(60, 5, seed)
    head = (
        StayPositiveProbe(),
        published(learning_rate=0.1, max_iter=5, batch_size=20),
        StayPositiveProbe(class_weight="balanced", l1=0.01),
    )[index].fit(X, y)
    more = X + np.random.default_rng(seed).exponential(size=X.shape)
    assert (head.decision_function(more) >= head.decision_function(X)).all()
    assert (head.decision_function(X) >= head.intercept_ - ROUNDING).all()
    assert (head.predict_proba(X)[:, 0] <= 1 - expit(head.intercept_) + PARITY).all()


# --------------------------------------------------------------------------------- many and few


@given(cuts=st.lists(st.integers(1, 79), max_size=10), wide=st.booleans())
def test_exact__any_batching_gives_the_same_head(cuts: list[int], wide: bool) -> None:
    X, y = relu_like(80, 100 if wide else 8)
    head = StayPositiveProbe(l2=1e-2)
    train([head], CutBatches(X, y, cuts))
    assert_allclose(weights(head), weights(StayPositiveProbe(l2=1e-2).fit(X, y)), atol=1e-8)


@pytest.mark.parametrize("n_features", [10, 150])
def test_exact__a_grid_equals_single_fits_and_shares_every_pass(n_features: int) -> None:
    X, y = relu_like(100, n_features)
    points = [{"l2": l2, "l1": l1} for l2 in (1e-3, 0.1) for l1 in (0.0, 1e-2)]
    points.append({"class_weight": {0: 1.0, 1: 3.0}})
    grid = [StayPositiveProbe(**point) for point in points]
    source = CountedBatches(X, y)
    train(grid, source)
    assert source.n_readings == max(head.n_iter_ for head in grid)
    for head, point in zip(grid, points, strict=True):
        single = StayPositiveProbe(**point).fit(X, y)
        assert_allclose(weights(head), weights(single), rtol=0, atol=1e-6)
        assert max(head.kkt_residual_, head.duality_gap_) <= head.tol


def test_exact__heads_wait_for_room_for_their_hessians() -> None:
    X, y = relu_like(100, 20)
    source = ArrayBatches(X, y)
    source.workspace = 4 * 8 * 21**2
    heads = [StayPositiveProbe(l2=l2) for l2 in np.logspace(-5, -1, 5)]
    train(heads, source)
    for head in heads:
        alone = StayPositiveProbe(l2=head.l2).fit(X, y)
        assert head.n_iter_ == alone.n_iter_
        assert_allclose(head.coef_, alone.coef_, atol=ROUNDING)


def test_exact__wide_features_do_not_need_a_hessian(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = relu_like(200, 20)
    dense = StayPositiveProbe().fit(X, y)
    monkeypatch.setattr(stay_positive_training, "DENSE_FEATURES", 0)
    monkeypatch.setattr(stay_positive_training, "SAMPLE_ROWS", 40)
    wide = StayPositiveProbe().fit(X, y)
    assert_allclose(weights(wide), weights(dense), rtol=0, atol=1e-4)
    assert max(wide.kkt_residual_, wide.duality_gap_) <= 1e-8


def test_exact__a_weight_counts_as_that_many_rows() -> None:
    X, y = relu_like(100, 6)
    weighted = StayPositiveProbe(class_weight={0: 1, 1: 2}, l2=1e-2).fit(X, y)
    often = np.repeat(np.arange(100), 1 + y)
    repeated = StayPositiveProbe(l2=1e-2 * 100 / len(often)).fit(X[often], y[often])
    assert_allclose(weights(weighted), weights(repeated), rtol=0, atol=SAME_OPTIMUM)
    assert_allclose(weighted.objective_, objective(weighted, X, y, (1, 2)), rtol=1e-12)


def test_exact__balanced_weights_equal_those_written_out() -> None:
    X, y = relu_like(100, 6)
    y[:40] = 0
    written = {k: 100 / (2 * int((y == k).sum())) for k in (0, 1)}
    balanced = StayPositiveProbe(class_weight="balanced").fit(X, y)
    assert_allclose(weights(balanced), weights(StayPositiveProbe(class_weight=written).fit(X, y)))


def test_trainer__scores_are_the_decision_values_of_the_point_reached() -> None:
    X, y = relu_like(100, 6)
    head, source = StayPositiveProbe(), ArrayBatches(X, y)
    (trainer,) = StayPositiveProbe.trainers([head], source)
    assert (trainer.scores(X) == 0).all()
    while (reading := trainer.next_pass()) is not None:
        for batch in source.batches(reading):
            trainer.consume(batch, {})
        trainer.end_pass(None)
    trainer.finish()
    assert_allclose(trainer.scores(X)[:, 0], head.decision_function(X), rtol=0, atol=ROUNDING)


# --------------------------------------------------------------------------------- two stages


def test_two_stages__learn_what_no_bounded_probe_can() -> None:
    X = np.random.default_rng(0).normal(size=(400, 2))
    y = (np.abs(X).max(1) > 1).astype(int)
    plain = StayPositiveProbe(allow_signed=True).fit(X, y)
    head = two_stages(hidden=32, hidden_epochs=40).fit(X, y)
    assert head.score(X, y) > 0.9 > plain.score(X, y) + 0.15
    assert (head.coef_ >= 0).all()


@pytest.mark.parametrize("solver", ["exact", "adam_clamp"])
def test_two_stages__have_a_convex_score(solver: Any) -> None:
    X, y = centred()
    head = two_stages(solver=solver, learning_rate=0.05, max_iter=50).fit(X, y)
    left, right = X[:75].astype(np.float64), X[75:].astype(np.float64)
    mean = (head.decision_function(left) + head.decision_function(right)) / 2
    assert (head.decision_function((left + right) / 2) <= mean + ROUNDING).all()
    assert (head.coef_ > 0).any()


def test_two_stages__are_a_probe_on_the_hidden_features() -> None:
    X, y = centred()
    head = two_stages(l2=1e-3).fit(X, y)
    hidden = ReluLayer(head.hidden_weight_, head.hidden_bias_)(X)
    assert (hidden >= 0).all()
    assert (hidden > 0).any()
    expected = StayPositiveProbe(l2=1e-3).fit(hidden, y)
    assert_allclose(weights(head), weights(expected), rtol=0, atol=SAME_OPTIMUM)
    assert_allclose(head.decision_function(X), expected.decision_function(hidden), atol=1e-5)
    assert head.n_features_in_ == 8


@pytest.mark.parametrize("solver", ["exact", "adam_clamp"])
def test_two_stages__a_grid_shares_the_hidden_layer(solver: Any) -> None:
    X, y = marked()
    points: list[dict[str, Any]] = [{"l2": 1e-3}, {"l2": 0.1}, {"l1": 0.01}]
    fixed = {"solver": solver, "learning_rate": 0.05, "max_iter": 50, "patience": 3}
    grid = [two_stages(**fixed, **point) for point in points]
    assert len(StayPositiveProbe.trainers(grid, ArrayBatches(X, y))) == 1
    validation = ArrayBatches(*marked(60, seed=1))
    train(grid, ArrayBatches(X, y), validation)
    for head, point in zip(grid, points, strict=True):
        single = two_stages(**fixed, **point)
        train([single], ArrayBatches(X, y), validation)
        assert_array_equal(head.hidden_weight_, grid[0].hidden_weight_)
        assert_allclose(weights(head), weights(single), rtol=0, atol=1e-5)


@pytest.mark.parametrize("solver", ["exact", "adam_clamp"])
def test_two_stages__go_on_where_either_was_interrupted(solver: Any, tmp_path: Path) -> None:
    head = two_stages(solver=solver, hidden_epochs=2, max_iter=50)
    check_interrupted_training_goes_on_to_the_same_head(head, tmp_path)


def test_two_stages__a_hidden_layer_that_diverges_is_reported() -> None:
    X, y = centred()
    with pytest.raises(ValueError, match="'hidden_learning_rate' 1e\\+30"):
        two_stages(hidden_learning_rate=1e30).fit(X, y)


def test_two_stages__leave_nothing_behind_when_fitted_again_without() -> None:
    X, y = relu_like(60, 5)
    head = two_stages().fit(X, y)
    head.set_params(hidden=None).fit(X, y)
    assert not hasattr(head, "hidden_weight_")
    head.check_learned()
    assert_array_equal(
        head.decision_function(X), StayPositiveProbe().fit(X, y).decision_function(X)
    )


# --------------------------------------------------------------------------------- validation


def test_adam_clamp__ends_when_its_patience_has_run_out() -> None:
    X, y = marked()
    validation = ArrayBatches(*marked(100, seed=1))
    head = published(learning_rate=0.05, patience=4, batch_size=50)
    train([head], ArrayBatches(X, y), validation)
    accuracy = head.history_[:, -1]
    assert head.n_iter_ < 1000
    assert head.selected_epoch_ == 1 + int(np.argmax(accuracy > accuracy.max() - 0.001))
    assert head.n_iter_ >= head.selected_epoch_ + head.patience


def test_adam_clamp__that_never_beats_chance_keeps_the_last_epoch_and_says_so() -> None:
    X, y = relu_like(100, 6)
    head = published(learning_rate=1e-6, patience=1, batch_size=100)
    mirrored = ArrayBatches(np.zeros_like(X), y)
    with pytest.warns(ConvergenceWarning, match="better than chance"):
        train([head], ArrayBatches(X, y), mirrored)
    assert head.selected_epoch_ == head.n_iter_ == 1


def test_adam_clamp__selects_nothing_if_not_asked_to() -> None:
    X, y = relu_like(100, 6)
    head = published(selection="last", max_iter=3)
    train([head], ArrayBatches(X, y), ArrayBatches(X, y))
    assert head.selected_epoch_ == head.n_iter_ == 3
    assert np.isnan(head.history_[:, -1]).all()


# ------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("solver", ["exact", "adam_clamp"])
def test_probe__refuses_signed_features_unless_told(solver: Any) -> None:
    X, y = vit_like(60, 5)
    head = StayPositiveProbe(solver=solver, max_iter=5, device="cpu", tol=1)
    with pytest.raises(ValueError, match=r"features must be >= 0, got -.*allow_signed=True"):
        head.fit(X, y)
    assert (head.set_params(allow_signed=True).fit(X, y).coef_ >= 0).all()


def test_exact__without_a_penalty_refuses_rows_that_weights_separate() -> None:
    X, y = relu_like(60, 5)
    X[:, 0] = y * (1 + X[:, 0])
    with pytest.raises(ValueError, match="there is no optimum; set l2 > 0"):
        StayPositiveProbe(l2=0).fit(X, y)
    assert StayPositiveProbe(l2=1e-8).fit(X, y).kkt_residual_ <= 1e-8


def test_exact__says_when_it_stopped_too_early() -> None:
    X, y = relu_like(100, 5)
    with pytest.warns(ConvergenceWarning, match="after 2 passes with KKT residual"):
        head = StayPositiveProbe(max_iter=2).fit(X, y)
    assert head.duality_gap_ > 1e-8
    assert_allclose(head.objective_, objective(head, X, y), rtol=1e-6)


def test_probe__refuses_features_that_are_not_finite_in_a_source() -> None:
    X, y = relu_like(50, 4)
    X[7, 1] = np.nan
    with pytest.raises(ValueError, match="features must be finite"):
        train([StayPositiveProbe()], ArrayBatches(X, y))


def test_probe__refuses_class_weights_of_zero() -> None:
    X, y = relu_like(50, 4)
    with pytest.raises(ValueError, match="class weights must be > 0"):
        StayPositiveProbe(class_weight={0: 0.0, 1: 1.0}).fit(X, y)


def test_check_learned__refuses_negative_weights() -> None:
    X, y = relu_like(50, 4)
    head = StayPositiveProbe().fit(X, y)
    head.check_learned()
    head.coef_[0, 2] = -1e-3
    with pytest.raises(ValueError, match=r"'coef_' must be >= 0, got -0\.001"):
        head.check_learned()


@parametrize_with_checks(
    [
        StayPositiveProbe(allow_signed=True),
        published(allow_signed=True, learning_rate=0.1, batch_size=64, max_iter=4),
    ]
)
def test_probe__passes_scikit_learns_checks(estimator: Any, check: Any) -> None:
    check(estimator)
