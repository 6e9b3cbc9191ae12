"""What learners train on, keep, and become."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.neighbors import NearestCentroid
from support.streams import PROBE, config, store_of_many_generators

from continual.config import ContinualConfig, StreamRun
from continual.domains import domains_of, steps_of
from continual.learners import LEARNERS, FineTune
from continual.learners.nearest_mean import NearestMean
from continual.planning import runs_of
from continual.protocol import run_continual
from featstore.simulate import simulate_store
from featstore.store import Store
from heads import HSICProbe, RidgeProbe, fit
from heads.experiments.config import HeadConfig

EXACT = 1e-6  # of the largest weight
ORDER = ("a", "b", "c")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("learners") / "s.zarr"
    return simulate_store(path, datasets=ORDER, n_samples=40, n_layers=1)


def learned(store: Store, study: ContinualConfig, name: str, order: Any = ORDER) -> FineTune:
    selection, keep = (
        (study.selections[0], study.keep[0]) if LEARNERS[name].has_memory else (None, None)
    )
    run = StreamRun(tuple(order), 0, name, selection, keep)
    domains = domains_of(study, store, order, study.train)
    learner = LEARNERS[name](study, run, store, domains)
    for step in steps_of(study, run, domains):
        learner.learn(step)
    return learner


@pytest.mark.parametrize("order", [("a", "b", "c"), ("c", "a", "b")])
@pytest.mark.parametrize(
    "head",
    [
        HeadConfig("ridge_probe"),
        HeadConfig("streaming_lda"),
        HeadConfig("random_feature_ridge", {"n_components": 30}),
    ],
    ids=lambda head: head.name,
)
@pytest.mark.parametrize("changes", [{}, {"blur": 0.4}, {"target": "generator"}])
def test_merge__equals_the_joint_solution_in_any_order(
    store: Store, tmp_path: Path, order: tuple[str, ...], head: HeadConfig, changes: dict[str, Any]
) -> None:
    study = config(store, tmp_path, head=head, **changes)
    merged = learned(store, study, "merge", order).head
    joint = learned(store, study, "joint", ("a", "b", "c")).head
    assert merged.classes_.tolist() == joint.classes_.tolist()
    atol = EXACT * np.abs(joint.coef_).max()
    np.testing.assert_allclose(merged.coef_, joint.coef_, rtol=0, atol=atol)
    np.testing.assert_allclose(merged.intercept_, joint.intercept_, rtol=0, atol=EXACT)


def test_merge__equals_joint_training_where_domains_have_real_images_in_common(
    tmp_path: Path,
) -> None:
    store = store_of_many_generators(tmp_path / "s.zarr")
    study = config(store, tmp_path, head=HeadConfig("ridge_probe"), domain="generator")
    merged, joint = (learned(store, study, name, ("a0", "a1")).head for name in ("merge", "joint"))
    np.testing.assert_allclose(merged.coef_, joint.coef_, atol=EXACT)


def test_joint__is_one_training_on_all_rows(store: Store, tmp_path: Path) -> None:
    found = learned(store, config(store, tmp_path, head=HeadConfig("ridge_probe")), "joint").head
    expected = fit(RidgeProbe(), store.select(dataset=list(ORDER), split="train"))
    np.testing.assert_array_equal(found.coef_, expected.coef_)


def test_fine_tune__goes_on_from_its_weights(store: Store, tmp_path: Path) -> None:
    found = learned(store, config(store, tmp_path), "fine_tune").head
    probe = HSICProbe(**PROBE, random_state=0, warm_start=True)
    for name in ORDER:
        fit(probe, store.select(dataset=name, split="train"))
    np.testing.assert_array_equal(found.coef_, probe.coef_)


@pytest.mark.parametrize("rate", ["1e-1", 0.1])
def test_fine_tune__later_hyper_parameters_hold_after_the_first_step(
    store: Store, tmp_path: Path, rate: Any
) -> None:
    study = config(store, tmp_path, later_params={"learning_rate": rate})
    found = learned(store, study, "fine_tune", ("a", "b")).head
    probe = fit(HSICProbe(**PROBE, random_state=0), store.select(dataset="a", split="train"))
    probe.set_params(warm_start=True, learning_rate=0.1)
    fit(probe, store.select(dataset="b", split="train"))
    np.testing.assert_array_equal(found.coef_, probe.coef_)


def test_lwf__without_weight_is_fine_tuning(store: Store, tmp_path: Path) -> None:
    plain = learned(store, config(store, tmp_path), "fine_tune").head
    params = {"lwf": {"weight": 0.0}}
    taught = learned(store, config(store, tmp_path, learner_params=params), "lwf").head
    np.testing.assert_array_equal(taught.coef_, plain.coef_)
    held = learned(store, config(store, tmp_path), "lwf").head
    assert (held.coef_ != plain.coef_).any()


def test_der_pp__with_replay_alone_is_replay(store: Store, tmp_path: Path) -> None:
    plain = learned(store, config(store, tmp_path), "replay").head
    params = {"der_pp": {"alpha": 0.0, "beta": 1.0}}
    dark = learned(store, config(store, tmp_path, learner_params=params), "der_pp").head
    np.testing.assert_array_equal(dark.coef_, plain.coef_)
    kept = learned(store, config(store, tmp_path), "der_pp").head
    assert (kept.coef_ != plain.coef_).any()


def test_replay__memory_has_the_logits_of_the_head_at_that_time(
    store: Store, tmp_path: Path
) -> None:
    study = config(store, tmp_path)
    learner = learned(store, study, "replay", ("a",))
    kept = learner.memory.select(store)
    X = kept["cls"].values.reshape(kept.sizes["sample"], -1)
    np.testing.assert_array_equal(kept["logit"].values, learner.head.decision_function(X))


def test_replay__memory_holds_rows_of_every_domain_and_class(store: Store, tmp_path: Path) -> None:
    learner = learned(store, config(store, tmp_path, capacity=12), "replay")
    assert learner.memory.rows.groupby(["domain", "label"]).size().tolist() == [2] * 6
    train = store.select(dataset=list(ORDER), split="train")
    assert set(learner.memory.rows["sample_id"]) <= set(train["sample_id"].values)


def test_replay__capacity_is_shared_among_the_generators_of_a_dataset(tmp_path: Path) -> None:
    store = store_of_many_generators(tmp_path / "s.zarr")
    study = config(
        store, tmp_path, head=HeadConfig("ridge_probe"), target="generator", keep=[5.0],
        selections=["random"], capacity=12, tails=["a", "b"],
    )  # fmt: skip
    rows = learned(store, study, "replay", ("a", "b")).memory.rows
    assert rows.groupby(["domain", "generator"]).size().tolist() == [2] * 6


def test_replay__visits_of_one_domain_are_kept_apart(store: Store, tmp_path: Path) -> None:
    learner = learned(store, config(store, tmp_path), "replay", ("a", "b", "a"))
    assert set(learner.memory.rows["domain"]) == {"a", "b", "a (2)"}


@pytest.mark.parametrize("selection", ["random", "reservoir"])
def test_replay__selections_of_labels_read_no_representations(
    store: Store, tmp_path: Path, selection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(LEARNERS["replay"], "representations")
    learner = learned(store, config(store, tmp_path, selections=[selection]), "replay")
    assert len(learner.memory) == 3 * 2 * 2


def test_nearest_mean__does_not_hold_all_representations(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(LEARNERS["replay"], "representations")
    learner = learned(store, config(store, tmp_path, selections=["random"]), "nearest_mean")
    assert len(learner.memory) == 3 * 2 * 2


@pytest.mark.parametrize("learner", ["nearest_mean", "replay"])
@pytest.mark.parametrize("head", ["prototype", "logistic_probe"])
def test_replay__heads_without_warm_start_learn_from_memory_too(
    store: Store, tmp_path: Path, learner: str, head: str
) -> None:
    study = config(
        store, tmp_path, head=HeadConfig(head), learners=[learner], selections=["random"]
    )
    assert run_continual(study).scores["auroc"].between(0, 1).all()


@pytest.mark.parametrize("head", ["rine_head", "hierarchical_contrastive"])
def test_learners__other_heads_trained_by_steps(store: Store, tmp_path: Path, head: str) -> None:
    size = {"proj_dim": 8} if head == "rine_head" else {}
    params = {"max_iter": 2, "device": "cpu", **size}
    study = config(store, tmp_path, head=HeadConfig(head, params), learners=["replay", "fine_tune"])
    assert len(runs_of(study)) == 3
    for name in study.learners:
        learner = learned(store, study, name)
        assert learner.head.classes_.tolist() == [0, 1]


def test_lwf__heads_whose_steps_ignore_decision_values_are_refused(
    store: Store, tmp_path: Path
) -> None:
    head = HeadConfig("hierarchical_contrastive", {"max_iter": 1, "device": "cpu"})
    with pytest.raises(ValueError, match="heads that descend along a loss of their logits"):
        learned(store, config(store, tmp_path, head=head), "lwf")


@pytest.mark.parametrize("n_classes", [2, 4])
def test_nearest_mean__decides_as_the_nearest_centroid_of_scikit_learn(
    n_classes: int, rng: np.random.Generator
) -> None:
    X = rng.normal(size=(200, 5))
    y = np.array([f"g{i}" for i in range(n_classes)])[np.arange(200) % n_classes]
    X += 1.5 * (np.arange(200) % n_classes)[:, None]
    head = type("Identity", (), {"origin_": None})()
    found = NearestMean.of(head, [(X[:70], y[:70]), (X[70:], y[70:])])
    expected = NearestCentroid().fit(X, y).predict(X)
    assert found.predict(X).tolist() == expected.tolist()
    values = found.decision_function(X)
    winner = (values > 0).astype(int) if n_classes == 2 else values.argmax(1)
    assert found.classes_[winner].tolist() == expected.tolist()
    np.testing.assert_allclose(found.predict_proba(X).sum(1), 1)
