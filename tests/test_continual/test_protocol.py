"""Studies on a simulated stream of domains whose fakes differ in different directions."""

import multiprocessing
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.streams import PROBE, config

import heads
from continual import protocol
from continual.comparison import compare
from continual.config import ContinualConfig
from continual.memory import ReplayMemory
from continual.planning import runs_of
from continual.protocol import run_continual
from continual.running import Job, train_start
from featstore.errors import ConfigError, SchemaError, StoreExistsError
from featstore.simulate import simulate_store
from featstore.store import Store
from heads.experiments.config import HeadConfig, RowsConfig, TrainConfig
from heads.experiments.training import run_train

N_KILLS = 6


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("protocol") / "s.zarr"
    return simulate_store(path, datasets=("a", "b", "c"), n_samples=40, n_layers=1)


def results(found: protocol.Continual) -> pd.DataFrame:
    """Return all scores; how long steps took is no result."""
    return found.scores.drop(columns="seconds")


def test_run_continual__tables_pictures_and_report_of_all_runs(
    store: Store, tmp_path: Path
) -> None:
    found = run_continual(config(store, tmp_path))
    assert len(found.scores) == 4 * 3 * 3
    assert set(found.summary["learner"]) == {"replay", "fine_tune", "joint"}
    assert "fine_tune" in found.text()
    names = {path.name for path in (tmp_path / "study").iterdir()}
    assert names >= {
        "report.md", "scores.parquet", "summary.csv", "domains.csv", "matrix.png", "over-time.png",
    }  # fmt: skip
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "study" / "scores.parquet"), found.scores
    )


def test_run_continual__goes_on_where_it_was_stopped(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run_continual(config(store, tmp_path / "whole"))
    n_run = 0
    run_stream = protocol.run_stream

    def failing(*arguments: Any) -> Any:
        nonlocal n_run
        n_run += 1
        if n_run == 3:
            raise KeyboardInterrupt
        return run_stream(*arguments)

    monkeypatch.setattr(protocol, "run_stream", failing)
    with pytest.raises(KeyboardInterrupt):
        run_continual(config(store, tmp_path))
    found = run_continual(config(store, tmp_path))
    assert n_run == 3 + 4 - 2
    pd.testing.assert_frame_equal(results(found), results(expected))


def run_quietly(study: ContinualConfig) -> None:
    """Entry point of a child process."""
    run_continual(study)


def n_runs(study: ContinualConfig) -> int:
    """Return how many runs of a study are finished."""
    return len(list(Path(study.output, "runs").glob("*.parquet")))


def test_run_continual__killed_at_any_time_gives_the_same_table(
    store: Store, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"selections": ["hgr", "random", "herding"], "n_orders": 3}
    expected = run_continual(config(store, tmp_path / "whole", **changes))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["test_continual.test_protocol", "heads.hsic.training"])
    rng = np.random.default_rng(0)
    study = config(store, tmp_path, **changes)
    finished: list[int] = [0]
    for _ in range(N_KILLS):
        child = context.Process(target=run_quietly, args=(study,))
        child.start()
        while n_runs(study) == finished[-1] and child.is_alive():
            time.sleep(0.002)
        child.join(rng.uniform(0, 0.1))
        child.kill()
        child.join()
        finished.append(n_runs(study))
    assert finished == sorted(set(finished))  # runs that were finished stayed
    assert finished[-1] < 3 * (3 + 2)
    found = run_continual(study)
    pd.testing.assert_frame_equal(results(found), results(expected))


@pytest.mark.usefixtures("fresh_workers")
def test_run_continual__two_processes_give_the_same_table(store: Store, tmp_path: Path) -> None:
    one = run_continual(config(store, tmp_path / "1", learners=["fine_tune", "replay"]))
    two = run_continual(config(store, tmp_path / "2", learners=["fine_tune", "replay"], n_jobs=2))
    pd.testing.assert_frame_equal(results(one), results(two))


def test_run_continual__runs_that_begin_alike_share_the_first_head(
    store: Store, tmp_path: Path
) -> None:
    found = run_continual(config(store, tmp_path, n_orders=None, learners=["fine_tune", "joint"]))
    assert len(list((tmp_path / "study" / "starts").iterdir())) == 3
    first = found.scores[found.scores["step"] == 0]
    assert (first.groupby(["learned", "domain"])["auroc"].nunique() == 1).all()


def test_run_continual__a_given_base_head_stands_for_the_first_step(
    store: Store, tmp_path: Path
) -> None:
    head = HeadConfig("hsic_probe", {**PROBE, "random_state": 0})
    rows = [RowsConfig(split, "a") for split in ("train", "test")]
    run_train(TrainConfig(str(store.path), head, *rows, str(tmp_path / "base"), bootstrap=0))
    changes: dict[str, Any] = {"base": ["a"], "tails": ["b", "c"], "learners": ["replay", "joint"]}
    trained = run_continual(config(store, tmp_path / "1", **changes))
    given = run_continual(
        config(store, tmp_path / "2", **changes, base_head=str(tmp_path / "base"))
    )
    pd.testing.assert_frame_equal(results(given), results(trained))
    assert not (tmp_path / "2" / "study" / "starts").exists()


def test_run_continual__base_heads_that_know_reported_images_are_refused(
    store: Store, tmp_path: Path
) -> None:
    head = HeadConfig("hsic_probe", PROBE)
    rows = [RowsConfig(split, "a") for split in ("train", "test")]
    run_train(TrainConfig(str(store.path), head, *rows, str(tmp_path / "base"), bootstrap=0))
    changes: dict[str, Any] = {"base": ["a"], "tails": ["b"], "base_head": str(tmp_path / "base")}
    with pytest.raises(ConfigError, match="one of 'base_head'"):
        run_continual(config(store, tmp_path, **changes, train="val", test="train"))
    with pytest.raises(ConfigError, match="has not seen 40 of 40"):
        run_continual(config(store, tmp_path, **{**changes, "base": ["c"]}))
    with pytest.raises(ConfigError, match="must be a training of 'rine_head'"):
        run_continual(config(store, tmp_path, **changes, head=HeadConfig("rine_head")))


def test_run_continual__another_base_head_is_another_study(store: Store, tmp_path: Path) -> None:
    def train_base(alpha: float) -> None:
        head = HeadConfig("ridge_probe", {"alpha": alpha})
        rows = [RowsConfig(split, "a") for split in ("train", "test")]
        out = str(tmp_path / "base")
        run_train(TrainConfig(str(store.path), head, *rows, out, bootstrap=0, overwrite=True))

    changes: dict[str, Any] = {
        "base": ["a"], "tails": ["b"], "base_head": str(tmp_path / "base"),
        "head": HeadConfig("ridge_probe"), "learners": ["fine_tune"],
    }  # fmt: skip
    train_base(1.0)
    run_continual(config(store, tmp_path, **changes))
    run_continual(config(store, tmp_path, **changes))
    train_base(1000.0)
    with pytest.raises(StoreExistsError, match="same settings and rows"):
        run_continual(config(store, tmp_path, **changes))
    with pytest.raises(ConfigError, match="must tell apart what the study does, 'generator'"):
        run_continual(config(store, tmp_path / "2", **changes, target="generator"))


def test_run_continual__damaged_files_are_named(store: Store, tmp_path: Path) -> None:
    study = config(store, tmp_path, learners=["merge"], head=HeadConfig("ridge_probe"))
    run_continual(study)
    (scores,) = Path(study.output, "runs").glob("*.parquet")
    for path, content in ((scores, ""), (Path(study.output, "study.json"), "[]")):
        path.write_text(content)
        with pytest.raises(SchemaError, match=f"must be there and whole, got .*{path.name}"):
            run_continual(study)


def test_train_start__another_process_may_have_been_quicker(store: Store, tmp_path: Path) -> None:
    study = config(store, tmp_path)
    (tmp_path / "study").mkdir()
    job = Job(study, runs_of(study)[0], tmp_path / "study")
    assert job.start is not None
    for _ in range(2):
        assert train_start(job) is None
    (job.start / "head.json").write_text("as it was")
    assert train_start(job) is None
    assert (job.start / "head.json").read_text() == "as it was"


def test_run_continual__variants_need_their_own_domains_alone(store: Store, tmp_path: Path) -> None:
    vary: Any = [
        {"domain": ["dataset"], "tails": [["a", "b"]]},
        {"domain": ["generator"], "tails": [["c"]], "train": ["val"]},
    ]
    head = HeadConfig("ridge_probe")
    found = run_continual(config(store, tmp_path, vary=vary, head=head, learners=["merge"]))
    assert found.scores["variant"].nunique() == 2


def test_run_continual__variants_are_ways_of_one_table(store: Store, tmp_path: Path) -> None:
    vary: Any = [{"head.params.lambda_x": [0, 300]}, {"selection_params.hgr.lambda_kc": [0.5]}]
    found = run_continual(
        config(store, tmp_path, vary=vary, learners=["replay"], selections=["hgr"])
    )
    assert len(list((tmp_path / "study" / "starts").iterdir())) == 3
    assert set(found.summary["variant"]) == {"lambda_x=0", "lambda_x=300", "lambda_kc=0.5"}


def test_run_continual__memory_of_every_run_is_kept(store: Store, tmp_path: Path) -> None:
    run_continual(config(store, tmp_path, learners=["replay"], selections=["hgr"]))
    (folder,) = (tmp_path / "study" / "runs").glob("*.memory")
    memory = ReplayMemory.load(folder)
    assert len(memory) == 3 * 2 * 2
    assert np.isfinite(memory.rows[["score", "sigma", "logit"]]).all(axis=None)
    assert memory.choices["a"]["encoder"] != memory.choices["b"]["encoder"]


def test_run_continual__runs_that_fail_are_named_and_the_others_finished(
    store: Store, tmp_path: Path
) -> None:
    probe = HeadConfig("hsic_probe", {**PROBE, "n_components": 4, "warm_start": True})
    study = config(
        store, tmp_path, head=probe, learners=["fine_tune", "replay"], selections=["random"],
        later_params={"n_components": 5},
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"2 of 3 that did not, the first: .*fine_tune.*shape"):
        run_continual(study)
    study = config(
        store, tmp_path / "2", learners=["joint", "replay"], selections=["k_center", "random"],
        selection_params={"k_center": {"start": 1000}},
    )  # fmt: skip
    with pytest.raises(ConfigError, match="1 of 4 that did not, the first: replay k_center"):
        run_continual(study)
    assert len(list(Path(study.output, "runs").glob("*.parquet"))) == 2


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_run_continual__runs_go_on_beside_a_first_head_that_failed(
    store: Store, tmp_path: Path
) -> None:
    probe = HeadConfig("hsic_probe", {**PROBE, "standardize": "none"})
    vary: Any = [{"head.params.learning_rate": [1e30, 0.01]}]
    study = config(store, tmp_path, head=probe, learners=["fine_tune"], vary=vary)
    with pytest.raises(ConfigError, match=r"1 of 3 that .* learning_rate=1e\+30 on .*finite"):
        run_continual(study)
    assert len(list(Path(study.output, "runs").glob("*.parquet"))) == 1


def test_run_continual__other_studies_stay(store: Store, tmp_path: Path) -> None:
    run_continual(config(store, tmp_path, learners=["fine_tune"]))
    with pytest.raises(StoreExistsError, match="same settings and rows"):
        run_continual(config(store, tmp_path, learners=["joint"]))
    run_continual(config(store, tmp_path, learners=["joint"], overwrite=True))
    assert (tmp_path / "study.old-1" / "report.md").exists()


def test_run_continual__reported_rows_must_not_be_learned_from(
    store: Store, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="must not be those of 'train'"):
        run_continual(config(store, tmp_path, test="train"))
    with pytest.raises(ConfigError, match="unknown dataset 'd'"):
        run_continual(config(store, tmp_path, tails=["a", "d"]))
    assert not (tmp_path / "study").exists()


def test_run_continual__generators_are_told_apart(store: Store, tmp_path: Path) -> None:
    study = config(
        store, tmp_path, domain="generator", target="generator", head=HeadConfig("ridge_probe"),
        learners=["merge", "joint", "replay", "nearest_mean"], selections=["random"], keep=[0.5],
    )  # fmt: skip
    found = run_continual(study).scores
    last = found[found["step"] == 2].groupby("learner")["accuracy"].mean()
    assert last["merge"] == last["joint"]
    assert (last > 1 / 4).all()
    assert heads.HEADS["ridge_probe"].multiclass


def test_run_continual__joint_replay_and_fine_tuning_are_in_order_beyond_their_intervals(
    tmp_path: Path,
) -> None:
    drifting = simulate_store(
        tmp_path / "d.zarr", datasets=("a", "b", "c", "d"), n_samples=120, n_layers=2,
        own=3.0, offset=6.0, shift=2.5, splits=("train", "test"),
    )  # fmt: skip
    study = config(
        drifting, tmp_path, tails=["a", "b", "c", "d"], layer="block.1", n_orders=6,
        head=HeadConfig("ridge_probe", {"alpha": 10.0}), selections=["random"], metric="auroc",
    )  # fmt: skip
    found = compare(run_continual(study).scores, "auroc").query("number == 'AA'")
    verdicts = found.set_index(["learner", "against"])["verdict"]
    assert verdicts["replay", "joint"] == "worse"
    assert verdicts["replay", "fine_tune"] == "better"
