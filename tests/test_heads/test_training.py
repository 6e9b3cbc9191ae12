"""From configuration to run folder, on simulated stores."""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

import featstore
from featstore.config import load_config
from featstore.errors import ConfigError, FingerprintError, SchemaError, StoreExistsError
from featstore.simulate import simulate_store
from heads.evaluation import runs
from heads.evaluation.metrics import balanced_accuracy
from heads.evaluation.runs import Run, read_run
from heads.evaluation.thresholds import best_threshold
from heads.experiments import training as training
from heads.experiments.config import make_heads
from heads.experiments.grids import grid_points
from heads.experiments.training import (
    EvalConfig,
    HeadConfig,
    RowsConfig,
    TrainConfig,
    run_eval,
    run_train,
)
from heads.experiments.transfer import run_transfer
from heads.loop.batch_source import Pass, RowBatch
from heads.store_batches import StoreBatches

SAME_HEAD = 1e-6  # two trainings that end within 1e-8 of one optimum
SAME_OPTIMUM = 1e-3  # AUROC of two solvers of one convex problem
GRID = {"lambda_x": [0, 500], "lambda_y": [0, 500]}
HSIC = HeadConfig("hsic_probe", {"max_iter": 3, "n_components": 4, "device": "cpu"})


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("training") / "s.zarr"
    simulate_store(path, n_samples=80)
    return path


@pytest.fixture(autouse=True)
def without_plots(monkeypatch) -> None:
    """Draw nothing: the plots of a run are tested with its folder."""
    for name in ("plot_roc", "plot_scores"):
        monkeypatch.setattr(runs, name, lambda scores, path: None)


@pytest.fixture
def config(store: Path, tmp_path: Path) -> TrainConfig:
    return TrainConfig(
        store=str(store),
        head=HeadConfig("logistic_probe"),
        train=RowsConfig("train", ["a"]),
        val=RowsConfig("val", ["a"]),
        test=RowsConfig("test"),
        output=str(tmp_path / "run"),
        bootstrap=100,
    )


def test_run_train__equals_the_steps_by_hand(config: TrainConfig) -> None:
    run = run_train(config)
    store = featstore.open(config.store)

    def rows(split: str, dataset: str) -> tuple[np.ndarray, np.ndarray]:
        ds = store.select(split=split, dataset=dataset)
        X = ds["cls"].values.astype(np.float64)
        return X.reshape(len(X), -1), ds["label"].values

    reference = LogisticRegression(**_reference_params(run.head)).fit(*rows("train", "a"))
    table = run.metrics.set_index("dataset")
    for dataset in ("a", "b"):
        X, y = rows("test", dataset)
        expected = roc_auc_score(y, reference.decision_function(X))
        assert table.loc[dataset, "auroc"] == pytest.approx(expected, abs=SAME_OPTIMUM)
    X, y = rows("val", "a")
    threshold = best_threshold(run.head.decision_function(X), y)
    assert run.record["thresholds"] == {"0.5": 0.0, "val": pytest.approx(threshold, abs=1e-4)}


def _reference_params(head) -> dict:
    return {"C": head.get_params().get("C", 1.0), "tol": 1e-8, "max_iter": 1000}


def test_run_train__folder_holds_the_run(config: TrainConfig) -> None:
    run = run_train(config)
    back = read_run(config.output)
    pd.testing.assert_frame_equal(back.scores, run.scores)
    assert back.record["store"]["fingerprint"] == run.record["store"]["fingerprint"]
    assert back.record["rows"]["train"] == [
        {"dataset": "a", "split": "train", "n_real": 40, "n_fake": 40}
    ]
    assert back.config["overwrite"] is False


def test_run_train__every_test_dataset_when_none_is_named(config: TrainConfig) -> None:
    assert run_train(config).metrics["dataset"].tolist() == ["a", "b", "MEAN"]


def test_run_train__layers_are_chosen_by_glob(config: TrainConfig) -> None:
    run = run_train(replace(config, layer="block.[12]"))
    assert run.record["store"]["layers"] == ["block.1", "block.2"]
    assert run.head.n_features_in_ == 32


def test_run_train__same_seed_same_scores(config: TrainConfig) -> None:
    runs = [
        run_train(replace(config, head=HSIC, output=f"{config.output}-{i}", seed=seed))
        for i, seed in enumerate((1, 1, 2))
    ]
    scores = [run.scores["score"].to_numpy() for run in runs]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert (scores[0] != scores[2]).any()


def test_run_train__grid_keeps_the_best_on_validation_rows(config: TrainConfig) -> None:
    run = run_train(replace(config, head=HSIC, grid=GRID))
    assert run.grid is not None
    assert len(run.grid) == 4
    best = run.grid.loc[run.grid["val_auroc"].idxmax()]
    assert best["chosen"]
    assert run.grid["chosen"].sum() == 1
    assert run.head.get_params()["lambda_x"] == best["lambda_x"]
    assert not [name for name in run.grid if "ORACLE" in name]
    assert "best of 4 by auroc" in " ".join(run.record["chosen"])


def test_run_train__grid_is_trained_in_one_go(config: TrainConfig, monkeypatch) -> None:
    calls = []
    fit_many = training.fit_many
    monkeypatch.setattr(
        training,
        "fit_many",
        lambda heads, *a, **k: calls.append(len(heads)) or fit_many(heads, *a, **k),
    )
    run_train(replace(config, head=HSIC, grid=GRID))
    assert calls == [4]


def test_run_train__layers_of_a_grid_are_chosen_on_validation_rows(config: TrainConfig) -> None:
    layers = ["block.0", "block.2", ["block.2", "block.0"]]
    grid = {"C": [1e-3, 1.0], "layer": layers}
    run = run_train(replace(config, grid=grid))
    assert run.grid is not None
    assert run.grid["layer"].tolist() == ["block.0", "block.2", "block.2 block.0"] * 2
    best = run.grid.loc[run.grid["val_auroc"].idxmax()]
    assert best["chosen"]
    assert run.record["store"]["layers"] == best["layer"].split()
    alone = run_train(
        replace(
            config,
            head=HeadConfig("logistic_probe", {"C": float(best["C"])}),
            layer=best["layer"].split(),
            output=config.output + "-alone",
        )
    )
    np.testing.assert_allclose(run.scores["score"], alone.scores["score"], atol=SAME_HEAD)
    evaluated = run_eval(EvalConfig(config.output, config.test, config.output + "-eval"))
    np.testing.assert_array_equal(evaluated.scores["score"], run.scores["score"])


def test_run_train__layers_of_a_grid_must_be_names(config: TrainConfig) -> None:
    with pytest.raises(ConfigError, match=r"'layer' must be .*got int 3"):
        run_train(replace(config, grid={"layer": [3]}))
    with pytest.raises(ConfigError, match=r"unknown layer .block\.9"):
        run_train(replace(config, grid={"layer": ["block.9"]}))


def test_run_train__exact_heads_leave_nothing_behind_when_interrupted(
    config: TrainConfig, monkeypatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(training, "choose", killed)
        with pytest.raises(Killed):
            run_train(config)
    assert not list(Path(config.output).parent.iterdir())
    run_train(replace(config, head=HeadConfig("logistic_probe", {"C": 2.0})))


class Killed(BaseException):
    """The process was interrupted."""


def killed(*_: object) -> None:
    raise Killed


def test_run_train__goes_on_after_an_interruption(config: TrainConfig, monkeypatch) -> None:
    config = replace(config, head=HSIC, grid=GRID)
    expected = run_train(replace(config, output=config.output + "-uninterrupted"))
    readings: list[int] = []
    batches = StoreBatches.batches

    def interrupted(source: StoreBatches, reading: Pass) -> Iterator[RowBatch]:
        if reading.seed is not None:
            readings.append(reading.epoch)
        if readings == [0, 1]:
            raise Killed
        return batches(source, reading)

    monkeypatch.setattr(StoreBatches, "batches", interrupted)
    with pytest.raises(Killed):
        run_train(config)
    assert not Path(config.output).exists()
    run = run_train(config)
    assert readings == [0, 1, 1, 2]
    np.testing.assert_array_equal(run.scores["score"], expected.scores["score"])
    assert sorted(path.name for path in Path(config.output).parent.iterdir()) == [
        "run",
        "run-uninterrupted",
    ]


def test_run_train__another_configuration_does_not_go_on(config: TrainConfig, monkeypatch) -> None:
    config = replace(config, head=HSIC)
    monkeypatch.setattr("heads.fitting.Checkpoint.remove", killed)
    with pytest.raises(Killed):
        run_train(config)
    with pytest.raises(ConfigError, match=r"of the same heads and rows.*run\.checkpoint.*remove"):
        run_train(replace(config, seed=1))


def test_run_train__oracle_shows_both_numbers_and_chooses_by_neither(config: TrainConfig) -> None:
    honest = run_train(replace(config, head=HSIC, grid=GRID, output=config.output + "-honest"))
    run = run_train(replace(config, head=HSIC, grid=GRID, selection="oracle"))
    assert run.grid is not None
    pd.testing.assert_frame_equal(run.scores, honest.scores)
    assert run.grid["ORACLE_test_auroc"].between(0, 1).all()
    best = run.metrics["balanced_accuracy@ORACLE"]
    assert (best >= run.metrics["balanced_accuracy@val"] - 1e-12).all()


def test_run_train__threshold_is_best_on_validation_rows_not_on_test(config: TrainConfig) -> None:
    run = run_train(config)
    assert run.validation is not None
    scores, labels = (run.validation[name].to_numpy() for name in ("score", "label"))
    best = max(balanced_accuracy(scores, labels, t) for t in [scores.min() - 1, *scores])
    assert balanced_accuracy(scores, labels, run.record["thresholds"]["val"]) == best
    assert set(run.validation["split"]) == {"val"}


def test_run_train__without_validation_rows_nothing_is_chosen(config: TrainConfig) -> None:
    run = run_train(replace(config, val=None))
    assert run.record["thresholds"] == {"0.5": 0.0}
    assert "no validation rows" in " ".join(run.record["chosen"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": HeadConfig("hsic_prob")}, "unknown head 'hsic_prob' .did you mean 'hsic_probe'"),
        (
            {"head": HeadConfig("hsic_probe", {"lambdax": 1})},
            "unknown parameter of 'hsic_probe' 'lambdax' .did you mean 'lambda_x'",
        ),
        ({"head": HeadConfig("hsic_probe", {"lambda_x": -1})}, "'lambda_x' parameter of HSICProbe"),
        (
            {"head": HeadConfig("hsic_probe", {"lambda_x": "much"})},
            "'params.lambda_x' must be float, got str 'much'",
        ),
        ({"select_by": "auc"}, "unknown number in 'select_by' 'auc'"),
        ({"head": HSIC, "grid": GRID, "val": None}, "a grid of 4 combinations must be chosen on"),
        ({"grid": {"C": 1}}, "'grid.C' must be a list of values to try, got 1"),
        ({"train": RowsConfig("test", ["a"])}, r"the weights of a head must be chosen.*\['test'\]"),
        ({"val": RowsConfig("test", ["a"])}, r"thresholds and hyper-parameters .*\['test'\]"),
        ({"val": RowsConfig("train", ["a"])}, "those of 'train', got 80 common rows"),
        ({"test": RowsConfig("val")}, "those of 'val', got 80 common rows of dataset 'a'"),
        ({"train": RowsConfig("train", ["c"])}, "unknown dataset 'c'"),
        ({"val": RowsConfig("val", ["a"], "real")}, "hold both classes|needs real and fake"),
    ],
)
def test_run_train__mistakes_are_named(config: TrainConfig, changes, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_train(replace(config, **changes))
    assert not Path(config.output).exists()


def test_run_train__existing_output_is_found_before_training(
    config: TrainConfig, monkeypatch
) -> None:
    Path(config.output).mkdir()
    monkeypatch.setattr(training, "fit_many", pytest.fail)
    with pytest.raises(StoreExistsError, match="choose another 'output'"):
        run_train(config)


def test_run_train__absent_tensorboard_is_found_before_training(
    config: TrainConfig, monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.summary", None)
    monkeypatch.setattr(training, "fit_many", pytest.fail)
    with pytest.raises(ConfigError, match="needs the package tensorboard"):
        run_train(replace(config, tensorboard=True))


def test_run_train__overwrite_keeps_the_old_run(config: TrainConfig) -> None:
    run_train(config)
    run_train(replace(config, overwrite=True, seed=1))
    assert read_run(f"{config.output}.old-1").config["seed"] == 0
    assert read_run(config.output).config["seed"] == 1


def test_run_train__reports_progress_over_the_rows(config: TrainConfig) -> None:
    seen: list[tuple[int, int]] = []
    run_train(config, progress=lambda done, total: seen.append((done, total)))
    assert max(seen) == (80, 80)


def test_run_eval__equals_the_training_on_the_same_rows(config: TrainConfig) -> None:
    trained = run_train(replace(config, layer=["block.2", "block.0"]))
    evaluated = run_eval(
        EvalConfig(config.output, config.test, config.output + "-eval", bootstrap=100)
    )
    pd.testing.assert_frame_equal(evaluated.scores, trained.scores)
    pd.testing.assert_frame_equal(evaluated.metrics, trained.metrics)
    assert evaluated.head.origin_ == trained.head.origin_
    assert evaluated.trained_on is None
    assert (
        evaluated.record["chosen"][0] == f"head and thresholds: those of the run {config.output!r}"
    )


def test_run_eval__other_features_are_refused(config: TrainConfig, tmp_path: Path) -> None:
    run_train(config)
    other = simulate_store(tmp_path / "other.zarr", n_samples=10, seed=1)
    wrong = EvalConfig(config.output, config.test, config.output + "-eval", store=str(other.path))
    with pytest.raises(FingerprintError, match=r"'simulated' of .*s\.zarr.*other\.zarr"):
        run_eval(wrong)


def test_run_eval__unknown_feature_set_names_a_close_one(config: TrainConfig) -> None:
    run_train(config)
    wrong = EvalConfig(config.output, config.test, config.output + "-eval", features="simulate")
    with pytest.raises(
        ConfigError, match=r"unknown feature set 'simulate' .did you mean 'simulated"
    ):
        run_eval(wrong)


def test_run_eval__reports_when_all_rows_are_scored(config: TrainConfig) -> None:
    run_train(config)
    seen: list[tuple[int, int]] = []
    run_eval(
        EvalConfig(config.output, config.test, config.output + "-eval", bootstrap=0),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(160, 160)]


def test_run_eval__rows_of_the_training_are_refused(config: TrainConfig) -> None:
    run_train(config)
    with pytest.raises(ConfigError, match=r"be one of 'train', got 80 images that are .such as"):
        run_eval(EvalConfig(config.output, RowsConfig("train"), config.output + "-eval"))


def test_run_eval__images_of_the_training_are_refused_in_another_store(
    config: TrainConfig, tmp_path: Path
) -> None:
    run_train(config)
    copy = shutil.copytree(config.store, tmp_path / "copy.zarr")
    moved = EvalConfig(config.output, RowsConfig("val"), config.output + "-eval", store=str(copy))
    with pytest.raises(ConfigError, match="be one of 'val', got 80 images"):
        run_eval(moved)


def test_run_train__the_images_that_were_used_are_written_down(config: TrainConfig) -> None:
    run_train(config)
    known = read_run(config.output).trained_on
    assert known is not None
    store = featstore.open(config.store)
    for role in ("train", "val"):
        ds = store.select(dataset="a", split=role)
        rows = known[known["role"] == role]
        assert rows["sample_id"].tolist() == sorted(ds["sample_id"].values)
        assert sorted(rows["pair"]) == sorted(ds["pair"].values)


def test_run_eval__needs_the_images_that_were_used(config: TrainConfig) -> None:
    run_train(config)
    (Path(config.output) / "trained_on.parquet").unlink()
    with pytest.raises(SchemaError, match=r"must hold 'trained_on\.parquet'"):
        run_eval(EvalConfig(config.output, config.test, config.output + "-eval"))


def test_run_train__a_diverged_member_of_a_grid_is_marked_and_not_chosen(
    config: TrainConfig,
) -> None:
    grid = {"learning_rate": [1e30, 0.01]}
    with pytest.warns(ConvergenceWarning, match="diverged"):
        run = run_train(replace(config, head=HSIC, grid=grid, selection="oracle"))
    back = read_run(config.output).grid
    assert run.grid is not None
    assert back is not None
    assert back["problem"].tolist() == ["weights are not finite: its training diverged", ""]
    assert back["chosen"].tolist() == [False, True]
    assert back["val_auroc"].isna().tolist() == [True, False]
    assert "best of 1 by auroc" in " ".join(run.record["chosen"])


@pytest.mark.parametrize("with_val", [True, False])
def test_run_train__a_diverged_head_is_named(config: TrainConfig, with_val: bool) -> None:
    params = {**HSIC.params, "learning_rate": 1e30}
    wild = replace(config, head=HeadConfig("hsic_probe", params))
    expected = pytest.raises(ConfigError, match=r"HSICProbe must be finite|hsic_probe")
    with pytest.warns(ConvergenceWarning, match="diverged"), expected:
        run_train(wild if with_val else replace(wild, val=None))


def test_run_train__mistakes_an_estimator_finds_name_the_head(
    config: TrainConfig, monkeypatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("too few rows")

    monkeypatch.setattr(training, "fit_many", refuse)
    with pytest.raises(ConfigError, match="head 'logistic_probe': too few rows") as caught:
        run_train(config)
    assert type(caught.value.__cause__) is ValueError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, "'seed' must be 0 or more, got -1"),
        ({"bootstrap": 99}, "'bootstrap' must be at least 100 resamples, or 0"),
        ({"bootstrap": -1}, "'bootstrap' must be at least 100"),
        ({"max_memory": "much"}, "'max_memory' must be a size such as '2GB'.*got 'much'"),
        ({"max_memory": "0MB"}, "'max_memory' must be more than nothing"),
        ({"test": RowsConfig(["test", "val"])}, r"must be of one split, got \['test', 'val'\]"),
        (
            {"head": HeadConfig("hsic_probe", {"device": "gpu"})},
            "head 'hsic_probe': 'device' must be 'auto', 'cpu', 'cuda' or 'cuda:<n>', got 'gpu'",
        ),
        (
            {"head": HeadConfig("hsic_probe", {"device": "cuda:99"})},
            "'device' must be there, got 'cuda:99'",
        ),
        (
            {"head": HeadConfig("logistic_probe", {"class_weight": {0: 1.0, 2: 1.0}})},
            r"'class_weight' must have the keys 0 .real. and 1 .fake., got \[0, 2\]",
        ),
        (
            {"head": HeadConfig("logistic_probe", {"class_weight": {0: 1.0, 1: -2.0}})},
            "'class_weight' of 1 must be a number > 0, got -2.0",
        ),
    ],
)
def test_run_train__illegal_settings_are_found_before_training(
    config: TrainConfig, changes, message: str, monkeypatch
) -> None:
    monkeypatch.setattr("heads.hsic.training.HSICTrainer.consume", pytest.fail)
    monkeypatch.setattr("heads.logistic.training.LogisticTrainer.consume", pytest.fail)
    with pytest.raises(ConfigError, match=message):
        run_train(replace(config, **changes))


def test_run_eval__illegal_settings_are_found(config: TrainConfig) -> None:
    with pytest.raises(ConfigError, match="'seed' must be 0 or more"):
        run_eval(EvalConfig(config.output, config.test, config.output + "-eval", seed=-1))


def test_run_train__output_below_a_file_is_refused(config: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"'output' must be in a folder, got .*file' is a file"):
        run_train(replace(config, output=str(tmp_path / "file" / "deep" / "run")))


def test_run_train__without_resamples_there_are_no_intervals(config: TrainConfig) -> None:
    table = run_train(replace(config, bootstrap=0)).metrics
    assert table["auroc_low"].isna().all()


def test_run_transfer__splits_may_be_globs(config: TrainConfig) -> None:
    rows = RowsConfig("tr*")
    done = run_transfer(replace(config, train=rows, val=None, bootstrap=0))
    assert list(done.runs) == ["a", "b"]


def test_run_transfer__unknown_split_names_a_close_one(config: TrainConfig) -> None:
    with pytest.raises(ConfigError, match=r"unknown split 'trian' .did you mean 'train'"):
        run_transfer(replace(config, train=RowsConfig("trian")))


def test_run_transfer__existing_output_is_found_before_training(
    config: TrainConfig, monkeypatch
) -> None:
    Path(config.output).mkdir()
    Path(config.output, "notes.txt").touch()
    monkeypatch.setattr("heads.experiments.transfer.run_train", pytest.fail)
    with pytest.raises(StoreExistsError, match="choose another 'output'"):
        run_transfer(config)


def test_run_transfer__interrupted_it_goes_on(config: TrainConfig, monkeypatch) -> None:
    def interrupted_at_b(own: TrainConfig) -> Run:
        if own.train.dataset == "b":
            raise KeyboardInterrupt
        return run_train(own)

    config = replace(config, train=RowsConfig("train"), val=None, bootstrap=0)
    whole = run_transfer(replace(config, output=config.output + "-whole"))
    with monkeypatch.context() as patch:
        patch.setattr("heads.experiments.transfer.run_train", interrupted_at_b)
        with pytest.raises(KeyboardInterrupt):
            run_transfer(config)
    other = replace(config, seed=config.seed + 1)
    with pytest.raises(StoreExistsError, match="continued with the same configuration"):
        run_transfer(other)
    finished = Path(config.output, "a", "run.json").read_bytes()
    pd.testing.assert_frame_equal(run_transfer(config).table, whole.table)
    assert Path(config.output, "a", "run.json").read_bytes() == finished
    with pytest.raises(StoreExistsError, match="choose another 'output'"):
        run_transfer(config)


def test_run_eval__needs_the_folder_of_a_training(config: TrainConfig) -> None:
    run_train(config)
    again = EvalConfig(config.output, config.test, config.output + "-eval", bootstrap=0)
    run_eval(again)
    with pytest.raises(ConfigError, match="'run' must be the folder of a training"):
        run_eval(replace(again, run=again.output, output=config.output + "-twice"))


def test_make_heads__seed_is_the_run_s_unless_given() -> None:
    heads = make_heads(HSIC, [{}, {"random_state": 5}], seed=3)
    assert [head.random_state for head in heads] == [3, 5]


def test_grid_points__empty_grid_is_one_point() -> None:
    assert grid_points({}) == [{}]


def test_make_heads__numbers_that_yaml_reads_as_text() -> None:
    assert make_heads(HeadConfig("hsic_probe", {"learning_rate": "1e-3"}), [{}], 0)[
        0
    ].learning_rate == pytest.approx(1e-3)


CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("train/*.yaml")), ids=lambda p: p.stem)
def test_configs__train_files_make_heads(path: Path) -> None:
    config = load_config(path, TrainConfig)
    points = grid_points(config.grid)
    assert len(make_heads(config.head, points, config.seed)) == len(points)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("eval/*.yaml")), ids=lambda p: p.stem)
def test_configs__eval_files_load(path: Path) -> None:
    assert load_config(path, EvalConfig).test.split == "test"
