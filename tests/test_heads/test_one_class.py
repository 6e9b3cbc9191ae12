"""GaussianOneClass against scikit-learn and dense solves, and the rules of all one-class heads."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.covariance import LedoitWolf
from support.checks import CutBatches
from support.features import ill_conditioned, vit_like

from featstore.config import load_config
from featstore.errors import ConfigError
from featstore.simulate import simulate_store
from heads import HEADS
from heads.closed_form.streaming_lda import shrunk
from heads.evaluation import runs
from heads.experiments.training import TrainConfig, run_train
from heads.fitting import fit, fit_many
from heads.logistic.probe import LogisticProbe
from heads.loop.batch_source import ArrayBatches, Pass
from heads.loop.passes import train
from heads.one_class import training as anomaly_training
from heads.one_class.decision_rule import SLACK
from heads.one_class.gaussian import GaussianOneClass
from heads.one_class.reconstruction import ReconstructionOneClass

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SAME = 1e-8  # what is promised against scikit-learn; it is met with room to spare


class Counted(ArrayBatches):
    """A source that counts its passes."""

    n_passes = 0

    def batches(self, reading: Pass) -> Any:
        self.n_passes += 1
        return super().batches(reading)


def reals(n_samples: int, n_features: int, make: Any = vit_like) -> Any:
    return make(n_samples, n_features)[0].astype(np.float64)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("one_class") / "s.zarr"
    return simulate_store(path, n_samples=120, n_layers=2, n_features=4, shift=4.0)


@pytest.mark.parametrize("make", [vit_like, ill_conditioned])
@pytest.mark.parametrize("shape", [(300, 20), (30, 60), (50, 1)])
def test_gaussian__equals_ledoit_wolf_of_scikit_learn(make: Any, shape: tuple[int, int]) -> None:
    if shape[1] < 4:
        X = np.random.default_rng(0).normal(size=shape) * 3 + 50
    else:
        X = reals(*shape, make)
    head = GaussianOneClass().fit(X, np.zeros(len(X)))
    expected = LedoitWolf().fit(X)
    if shape[1] > 1:  # nothing to shrink one variance to
        assert head.shrinkage_ == pytest.approx(expected.shrinkage_, rel=0, abs=SAME)
    np.testing.assert_allclose(head.location_, expected.location_, rtol=SAME)
    np.testing.assert_allclose(head.anomaly_scores(X), expected.mahalanobis(X), rtol=SAME)


@pytest.mark.parametrize("shrinkage", [0, 0.3, 1])
def test_gaussian__distance_is_that_of_a_dense_solve(shrinkage: float) -> None:
    X = reals(200, 15)
    head = GaussianOneClass(shrinkage=shrinkage).fit(X, np.zeros(len(X)))
    Z = X - X.mean(0)
    covariance = shrunk(np.cov(X.T, bias=True), shrinkage)
    expected = np.einsum("ij,ji->i", Z, np.linalg.solve(covariance, Z.T))
    np.testing.assert_allclose(head.anomaly_scores(X), expected, rtol=SAME)


def test_gaussian__distance_does_not_depend_on_the_scale_of_features() -> None:
    X = reals(300, 12)
    scales = np.logspace(-4, 4, 12)
    first, second = (GaussianOneClass(shrinkage=0).fit(Z, np.zeros(300)) for Z in (X, X * scales))
    np.testing.assert_allclose(
        second.anomaly_scores(X * scales), first.anomaly_scores(X), rtol=SAME
    )


@given(cuts=st.lists(st.integers(1, 79), max_size=20))
def test_gaussian__any_batching_gives_the_same_head(cuts: list[int]) -> None:
    X, y = vit_like(80, 6)
    head = GaussianOneClass()
    train([head], CutBatches(X, y, cuts))
    expected = LedoitWolf().fit(X[y == 0].astype(np.float64))
    assert head.shrinkage_ == pytest.approx(expected.shrinkage_, abs=SAME)
    np.testing.assert_allclose(head.anomaly_scores(X), expected.mahalanobis(X), rtol=SAME)


def test_gaussian__never_looks_at_fakes() -> None:
    X, y = vit_like(200, 6)
    head = GaussianOneClass().fit(X, y)
    X[y == 1] *= 1e3
    again, alone = GaussianOneClass().fit(X, y), GaussianOneClass().fit(X[y == 0], y[y == 0])
    for other in (again, alone):
        np.testing.assert_array_equal(other.classes_, [0, 1])
        np.testing.assert_allclose(other.whitening_, head.whitening_, rtol=SAME, atol=SAME)
        assert other.threshold_ == pytest.approx(head.threshold_)


def test_gaussian__a_grid_shares_its_passes_and_equals_single_fits() -> None:
    X, y = vit_like(100, 8)
    grid = [{"shrinkage": a, "fpr": f} for a in (0.0, 0.5, "ledoit_wolf") for f in (0.01, 0.1)]
    heads = [GaussianOneClass(**point) for point in grid]
    source = Counted(X, y)
    train(heads, source)
    assert source.n_passes == 3
    for head, point in zip(heads, grid, strict=True):
        single = GaussianOneClass(**point).fit(X, y)
        np.testing.assert_array_equal(head.decision_function(X), single.decision_function(X))


def test_gaussian__singular_covariance_is_refused() -> None:
    X = reals(50, 5)
    for broken in (X[:4], np.column_stack((X, X[:, 0] + X[:, 1])), X * [1, 1, 0, 1, 1]):
        with pytest.raises(ValueError, match="shrinkage > 0"):
            GaussianOneClass(shrinkage=0).fit(broken, np.zeros(len(broken)))


def test_gaussian__a_covariance_beyond_the_workspace_is_refused() -> None:
    X, y = vit_like(20, 40)
    source = ArrayBatches(X, y)
    source.workspace = 8 * 39**2
    with pytest.raises(ValueError, match="workspace"):
        train([GaussianOneClass()], source)


def test_gaussian__refuses_features_that_are_not_finite_in_a_source() -> None:
    X, y = vit_like(50, 4)
    X[np.flatnonzero(y == 0)[3], 1] = np.nan
    with pytest.raises(ValueError, match="features must be finite"):
        train([GaussianOneClass()], ArrayBatches(X, y))


@pytest.mark.parametrize(
    "head",
    [GaussianOneClass(), ReconstructionOneClass(n_components=4)],
    ids=["gaussian", "reconstruction"],
)
def test_one_class__memory_does_not_grow_with_the_rows(
    head: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anomaly_training, "BATCH_NUMBERS", 2**14)
    X = np.random.default_rng(0).normal(size=(40_000, 128)).astype(np.float32)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    source = ArrayBatches(mapped, np.zeros(len(X), np.int8), np.array([0, 1]))
    tracemalloc.start()
    train([head], source)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    scores = 2 * 8 * len(X)  # kept for the threshold, in pieces and as a whole
    sorting = 3 * 8 * len(X)
    assert peak < scores + sorting + 2**20 < X.nbytes / 2


def test_one_class__trains_from_its_configuration(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(HEADS, "gaussian_one_class", GaussianOneClass)
    for name in ("plot_roc", "plot_scores"):
        monkeypatch.setattr(runs, name, lambda scores, path: None)
    own = [f"store={store.path}", f"output={tmp_path / 'run'}", "bootstrap=0"]
    run = run_train(load_config(CONFIGS / "train" / "one_class.yaml", TrainConfig, own))
    assert run.record["rows"]["train"][0]["n_fake"] == 0
    assert run.head.n_threshold_rows_ == 120  # the real validation rows of both datasets
    reals = run.validation[run.validation["label"] == 0]
    assert (reals["score"] > 0).mean() == run.head.rate_ == 0.05
    assert run.metrics.set_index("dataset").loc["MEAN", "auroc"] > 0.7
    own = "threshold 0.5: the head's own, set on real validation rows, of which at most 0.05"
    assert run.record["chosen"][0].startswith(own)


def test_one_class__real_rows_alone_must_be_labelled_zero() -> None:
    X = reals(50, 4)
    with pytest.raises(ValueError, match="one class only"):
        GaussianOneClass().fit(X, np.full(len(X), "real"))
    head = GaussianOneClass().fit(X, np.full(len(X), False))
    np.testing.assert_array_equal(head.classes_, [False, True])


@pytest.mark.parametrize("direction", ["high", "low", "two_sided"])
@pytest.mark.parametrize(
    "kind", [GaussianOneClass, lambda **chosen: ReconstructionOneClass(n_components=1, **chosen)]
)
def test_one_class__the_rate_holds_whatever_rows_are_scored_together(
    kind: Any, direction: Any
) -> None:
    """Scores change by rounding with the rows beside them, and that of the threshold is a score."""
    for seed in range(20):
        X = np.random.default_rng(seed).normal(size=(60 + seed, 30))
        head = kind(direction=direction, fpr=0.05).fit(X, np.zeros(len(X)))
        alone = np.concatenate([head.decision_function(row) for row in X[:, None]])
        for decisions in (alone, head.decision_function(X[::-1]), head.decision_function(X)):
            assert np.count_nonzero(decisions > 0) <= 0.05 * len(X)


def test_one_class__needs_two_real_rows() -> None:
    X, y = reals(10, 4), np.arange(10) > 0
    with pytest.raises(ValueError, match="at least two rows"):
        GaussianOneClass().fit(X, y)


@pytest.mark.parametrize("fpr", [0.0, 0.05, 0.3])
def test_one_class__threshold_keeps_the_rate_on_validation_reals(store: Any, fpr: float) -> None:
    rows, val = (store.select(split=split, generator="real") for split in ("train", "val"))
    head = fit(GaussianOneClass(fpr=fpr), rows, val)
    X = val["cls"].values.reshape(val.sizes["sample"], -1)
    scores = head.anomaly_scores(X)
    assert np.mean(scores > head.threshold_) == pytest.approx(fpr, abs=1 / len(X))
    assert np.mean(scores > head.threshold_) <= fpr
    assert head.rate_ == np.mean(head.decision_function(X) > 0)
    assert head.n_threshold_rows_ == len(X)


@pytest.mark.parametrize(("shrinkage", "n_passes"), [(0.1, 1), ("ledoit_wolf", 2)])
def test_one_class__validation_rows_spare_a_pass(shrinkage: Any, n_passes: int) -> None:
    X, y = vit_like(100, 6)
    source, val = Counted(X[:50], y[:50]), Counted(X[50:], y[50:])
    train([GaussianOneClass(shrinkage=shrinkage)], source, val)
    assert (source.n_passes, val.n_passes) == (n_passes, 1)


def test_one_class__threshold_from_training_rows_where_asked_for(store: Any) -> None:
    rows, val = (store.select(split=split, generator="real") for split in ("train", "val"))
    kinds = {"selection": "training"}, {"selection": "validation"}
    first, second = (GaussianOneClass(**kind) for kind in kinds)
    fit_many([second, first], rows, val)
    alone = fit(GaussianOneClass(), rows)
    assert first.threshold_ == alone.threshold_ != second.threshold_
    scores = first.anomaly_scores(rows["cls"].values.reshape(len(rows.label), -1))
    assert np.isclose(first.threshold_, scores, rtol=2 * SLACK, atol=0).any()


def test_one_class__rows_of_the_store_may_be_real_only_but_for_these_heads_alone(
    store: Any,
) -> None:
    rows = store.select(split="train", generator="real")
    test = store.select(split="test")
    head = fit(GaussianOneClass(), rows)
    X = test["cls"].values.reshape(test.sizes["sample"], -1)
    assert head.score(X, test["label"].values) > 0.7
    for others in ([LogisticProbe()], [GaussianOneClass(), LogisticProbe()]):
        with pytest.raises(ConfigError, match="two classes"):
            fit_many(others, rows)
    with pytest.raises(ConfigError, match="two classes"):
        fit(GaussianOneClass(), store.select(split="train", generator="a"))


def test_one_class__validation_without_reals_is_refused(store: Any) -> None:
    rows = store.select(split="train", generator="real")
    with pytest.raises(ValueError, match="at least one real row"):
        fit(GaussianOneClass(), rows, store.select(split="val", generator="a"))


def test_one_class__direction_is_chosen_on_validation(store: Any) -> None:
    rows, val = store.select(split="train"), store.select(split="val")
    head = fit(GaussianOneClass(direction="validation"), rows, val)
    assert head.direction_ == "high"
    X = rows["cls"].values.reshape(rows.sizes["sample"], -1)
    with pytest.raises(ValueError, match="needs validation rows"):
        GaussianOneClass(direction="validation").fit(X, rows["label"].values)
    with pytest.raises(ConfigError, match="both classes"):
        fit(GaussianOneClass(direction="validation"), rows, val.isel(sample=val.label == 0))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("spread_", 0.0),
        ("threshold_", float("inf")),
        ("n_threshold_rows_", 0),
        ("direction_", "up"),
        ("whitening_", np.eye(3)),
        ("rate_", "0.05"),
    ],
)
def test_check_learned__refuses_what_training_cannot_have_left(name: str, value: Any) -> None:
    X, y = vit_like(50, 4)
    head = GaussianOneClass().fit(X, y)
    head.check_learned()
    setattr(head, name, value)
    with pytest.raises(ValueError, match=name):
        head.check_learned()
