"""Studies on a simulated stream of domains whose fakes differ in different directions."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from continual import protocol
from continual.config import ContinualConfig, runs_of
from continual.learners import StreamLearner, rows_of
from continual.protocol import run_continual
from featstore.errors import ConfigError, StoreExistsError
from featstore.simulate import simulate_store
from featstore.store import Store
from heads import RidgeProbe, fit
from heads.experiments.config import HeadConfig

EXACT = 1e-6  # of the largest weight


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("protocol") / "s.zarr"
    return simulate_store(path, datasets=("a", "b", "c"), n_samples=40, n_layers=1)


def config(store: Store, output: Path, **changes: Any) -> ContinualConfig:
    probe = {"n_components": 4, "max_iter": 3, "selection": "last", "device": "cpu"}
    settings: dict[str, Any] = {
        "store": str(store.path),
        "tails": ["a", "b", "c"],
        "head": HeadConfig("hsic_probe", {**probe, "standardize": "zscore", "learning_rate": 0.05}),
        "keep": [0.1],
        "n_orders": 1,
        "output": str(output / "study"),
    }
    return ContinualConfig(**{**settings, **changes})


def test_runs__every_order_seed_learner_selection_and_budget(store: Store, tmp_path: Path) -> None:
    study = config(
        store, tmp_path, base=["a"], tails=["b", "c"], n_orders=None, seeds=[0, 1], keep=[0.1, 5]
    )
    runs = runs_of(study)
    assert len(runs) == 2 * 2 * (2 * 2 + 2)
    assert {run.order for run in runs} == {("a", "b", "c"), ("a", "c", "b")}


def test_run_continual__table_of_all_runs(store: Store, tmp_path: Path) -> None:
    found = run_continual(config(store, tmp_path))
    assert len(found.scores) == 4 * 3 * 3
    assert set(found.summary["learner"]) == {"replay", "fine_tune", "joint"}
    assert "| learner | selection | keep | n | AA |" in found.text()
    assert (tmp_path / "study" / "report.md").exists()


def test_run_continual__goes_on_where_it_was_stopped(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run_continual(config(store, tmp_path / "whole"))
    n_run = 0
    run_stream = protocol.run_stream

    def failing(*arguments: Any) -> None:
        nonlocal n_run
        n_run += 1
        if n_run == 3:
            raise KeyboardInterrupt
        run_stream(*arguments)

    monkeypatch.setattr(protocol, "run_stream", failing)
    with pytest.raises(KeyboardInterrupt):
        run_continual(config(store, tmp_path))
    found = run_continual(config(store, tmp_path))
    assert n_run == 3 + 4 - 2
    pd.testing.assert_frame_equal(found.scores, expected.scores)


def test_run_continual__two_processes_give_the_same_table(store: Store, tmp_path: Path) -> None:
    one = run_continual(config(store, tmp_path / "1", learners=["fine_tune", "replay"]))
    two = run_continual(config(store, tmp_path / "2", learners=["fine_tune", "replay"], n_jobs=2))
    pd.testing.assert_frame_equal(one.scores, two.scores)


@pytest.mark.parametrize("order", [("a", "b", "c"), ("c", "a", "b")])
def test_merge__equals_the_joint_solution_in_any_order(
    store: Store, tmp_path: Path, order: tuple[str, ...]
) -> None:
    study = config(store, tmp_path, head=HeadConfig("ridge_probe", {}), learners=["merge"])
    (run, *_) = runs_of(study)
    learner = StreamLearner(study, run, store)
    for domain in order:
        head = learner.learn(domain)
    joint = fit(RidgeProbe(), rows_of(study, store, ["a", "b", "c"], "train"))
    atol = EXACT * np.abs(joint.coef_).max()
    np.testing.assert_allclose(head.coef_, joint.coef_, rtol=0, atol=atol)


def test_learner__memory_holds_rows_of_every_domain_and_class(store: Store, tmp_path: Path) -> None:
    study = config(store, tmp_path, capacity=12)
    learner = StreamLearner(study, runs_of(study)[0], store)
    for domain in ("a", "b", "c"):
        learner.learn(domain)
    assert learner.memory.rows.groupby(["domain", "label"]).size().tolist() == [2] * 6
    train = rows_of(study, store, ["a", "b", "c"], "train")
    assert set(learner.memory.rows["sample_id"]) <= set(train["sample_id"].values)


@pytest.mark.parametrize("learner", ["nearest_mean", "replay"])
@pytest.mark.parametrize("head", ["prototype", "logistic_probe"])
def test_learner__heads_without_warm_start_learn_from_memory_too(
    store: Store, tmp_path: Path, learner: str, head: str
) -> None:
    study = config(
        store, tmp_path, head=HeadConfig(head), learners=[learner], selections=["random"]
    )
    found = run_continual(study)
    assert found.scores["auroc"].between(0, 1).all()


def test_run_continual__mistakes_are_named(store: Store, tmp_path: Path) -> None:
    for changes, message in (
        ({"learners": ["reply"]}, "unknown learner 'reply'.*did you mean 'replay'"),
        ({"selections": ["hrg"]}, "did you mean 'hgr'"),
        ({"metric": "auc"}, "unknown metric 'auc'"),
        ({"base": ["a"]}, "'base' and 'tails' must differ"),
        ({"learners": ["merge"]}, "needs a closed-form head"),
        ({"tails": ["a", "d"]}, "unknown dataset 'd'"),
        ({"test": "train"}, "must not be those of 'train'"),
    ):
        with pytest.raises(ConfigError, match=message):
            run_continual(config(store, tmp_path / message[:9].strip("'"), **changes))
    run_continual(config(store, tmp_path, learners=["fine_tune"]))
    with pytest.raises(StoreExistsError, match="with other settings"):
        run_continual(config(store, tmp_path, learners=["joint"]))
