"""Sweeps equal their members fitted one by one, whatever they are grouped, killed or continued."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

import featstore
import heads
from featstore.config import load_config
from featstore.errors import ConfigError, SchemaError, StoreExistsError
from featstore.simulate import simulate_store
from heads.experiments import training as training
from heads.experiments.config import RowsConfig
from heads.loop.batch_source import Pass, RowBatch
from heads.store_batches import StoreBatches
from heads.sweep import run as sweep
from heads.sweep.config import SweepConfig, SweptHead, TrainPart, check_sweep, members_of
from heads.sweep.rows import drawn
from heads.sweep.run import run_sweep

SAME_OPTIMUM = 1e-3  # AUROC of two solvers of one convex problem
SAME_SCORES = 1e-12  # the same weights, written and read
LOGISTIC = SweptHead("logistic_probe", grid={"C": [0.01, 1.0]})
HSIC = SweptHead(
    "hsic_probe", {"max_iter": 2, "n_components": 4, "device": "cpu"}, {"lambda_x": [0, 500]}
)
CONFIGS = Path(__file__).parents[2] / "configs/sweep"


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sweep") / "s.zarr"
    simulate_store(path, n_samples=60)
    return path


@pytest.fixture
def config(store: Path, tmp_path: Path) -> SweepConfig:
    return SweepConfig(
        store=str(store),
        heads=[LOGISTIC],
        train=RowsConfig("train"),
        val=RowsConfig("val"),
        test=RowsConfig("test"),
        output=str(tmp_path / "sweep"),
        layers=["block.0", ["block.1", "block.2"], None],
        bootstrap=0,
    )


@pytest.fixture
def trained(monkeypatch) -> list[int]:
    """Return the numbers of heads of all trainings to come."""
    numbers: list[int] = []
    fit_many = training.fit_many
    monkeypatch.setattr(
        training,
        "fit_many",
        lambda own, *a, **k: numbers.append(len(own)) or fit_many(own, *a, **k),
    )
    return numbers


class Killed(BaseException):
    """The process was killed."""


def rows(store: str, split: str, dataset: str, layer: Any) -> tuple[Any, Any]:
    ds = featstore.open(store).select(split=split, dataset=dataset, layer=layer)
    X = ds["cls"].values.astype(np.float64)
    return X.reshape(len(X), -1), ds["label"].values


def test_run_sweep__members_do_as_scikit_learn_does(config: SweepConfig) -> None:
    table = run_sweep(config).table.set_index(["layer", "C"])
    assert len(table) == 6
    for layer, C in table.index:
        names = None if layer == "all" else layer.split()
        parts = [rows(config.store, "train", dataset, names) for dataset in "ab"]
        X, y = (np.concatenate(both) for both in zip(*parts, strict=True))
        model = LogisticRegression(C=C, tol=1e-8, max_iter=1000).fit(X, y)
        values = []
        for dataset in "ab":
            X, y = rows(config.store, "val", dataset, names)
            values.append(roc_auc_score(y, model.decision_function(X)))
        expected = pytest.approx(np.mean(values), abs=SAME_OPTIMUM)
        assert table.loc[(layer, C), "val_auroc"] == expected


def test_run_sweep__the_best_on_validation_rows_is_chosen_saved_and_tested(
    config: SweepConfig,
) -> None:
    result = run_sweep(config)
    table = result.table
    assert table["val_auroc"].is_monotonic_decreasing
    assert table["chosen"].tolist() == [True] + [False] * 5
    assert not [name for name in table if "test" in name or "ORACLE" in name]
    saved = heads.load(Path(config.output) / "best")
    assert table.loc[0, "C"] == saved.C
    ds = featstore.open(config.store).select(split="test", layer=saved.origin_["layers"])
    scores = saved.decision_function(ds["cls"].values.reshape(ds.sizes["sample"], -1))
    dataset = ds["dataset"].values
    for number, name in enumerate("ab"):
        own = dataset == number
        expected = roc_auc_score(ds["label"].values[own], scores[own])
        found = result.test.set_index("dataset").loc[name, "auroc"]
        assert found == pytest.approx(expected, abs=SAME_SCORES)
    assert "the first of 6 is chosen, by val_auroc" in result.text()


def test_run_sweep__writes_the_table_for_programs_and_people(config: SweepConfig) -> None:
    table = run_sweep(config).table
    folder = Path(config.output)
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "table.parquet"), table)
    csv = pd.read_csv(folder / "table.csv", keep_default_na=False)
    assert csv["val_auroc"].tolist() == table["val_auroc"].tolist()
    assert (folder / "table.md").read_text().count("\n") == len(table) + 2


def test_run_sweep__members_are_trained_together_but_not_too_many(
    config: SweepConfig, trained: list[int]
) -> None:
    run_sweep(config)
    run_sweep(replace(config, max_members=4, output=config.output + "-small"))
    assert trained == [6, 4, 2]


def test_run_sweep__killed_it_continues_and_gives_the_same_table(
    config: SweepConfig, trained: list[int], monkeypatch
) -> None:
    config = replace(config, max_members=2)
    expected = run_sweep(replace(config, output=config.output + "-uninterrupted")).table
    trained.clear()
    monkeypatch.setattr(sweep, "score_many", lambda *a, **k: kill_the_second(trained, *a, **k))
    with pytest.raises(Killed):
        run_sweep(config)
    monkeypatch.undo()
    done: list[tuple[int, int]] = []
    table = run_sweep(config, progress=lambda *both: done.append(both)).table
    pd.testing.assert_frame_equal(table, expected)
    assert done == [(4, 6), (6, 6)]


def kill_the_second(trained: list[int], *arguments: Any, **options: Any) -> Any:
    if len(trained) == 2:
        raise Killed
    from heads.evaluation.scoring import score_many

    return score_many(*arguments, **options)


def test_run_sweep__a_killed_group_goes_on_from_its_last_epoch(
    config: SweepConfig, monkeypatch
) -> None:
    config = replace(config, heads=[HSIC], layers=[None], seeds=[3, 4])
    expected = run_sweep(replace(config, output=config.output + "-uninterrupted")).table
    readings: list[int] = []
    batches = StoreBatches.batches

    def killed(source: StoreBatches, reading: Pass) -> Iterator[RowBatch]:
        if reading.seed is not None:
            readings.append(reading.epoch)
            if readings.count(1) == 1 and reading.epoch == 1:
                raise Killed
        return batches(source, reading)

    monkeypatch.setattr(StoreBatches, "batches", killed)
    with pytest.raises(Killed):
        run_sweep(config)
    table = run_sweep(config).table
    assert readings.count(0) == 2  # one for each seed, none of them twice
    pd.testing.assert_frame_equal(table, expected)
    assert not list(Path(config.output).rglob("*.checkpoint"))


def test_run_sweep__finished_it_trains_nothing_and_says_the_same(
    config: SweepConfig, trained: list[int]
) -> None:
    first = run_sweep(config)
    trained.clear()
    again = run_sweep(config)
    assert trained == []
    pd.testing.assert_frame_equal(again.table, first.table)
    pd.testing.assert_frame_equal(again.test, first.test)


def test_run_sweep__members_that_are_added_are_the_only_ones_trained(
    config: SweepConfig, trained: list[int]
) -> None:
    config = replace(config, heads=[HSIC], layers=["block.2"])
    run_sweep(config)
    more = run_sweep(replace(config, seeds=[0, 1], heads=[HSIC, LOGISTIC]))
    assert trained == [2, 4]
    assert len(more.table) == 6


@pytest.mark.usefixtures("fresh_workers")
def test_run_sweep__processes_find_the_same(config: SweepConfig) -> None:
    one = run_sweep(config).table
    two = run_sweep(replace(config, n_jobs=2, output=config.output + "-two")).table
    pd.testing.assert_frame_equal(two, one)


def test_run_sweep__seeds_are_for_heads_that_have_one(config: SweepConfig) -> None:
    config = replace(config, heads=[LOGISTIC, HSIC], layers=["block.2"], seeds=[5, 6])
    table = run_sweep(config).table
    assert table["head"].value_counts().to_dict() == {"hsic_probe": 4, "logistic_probe": 2}
    assert sorted(table["random_state"].dropna()) == [5, 5, 6, 6]


def test_run_sweep__oracle_is_listed_and_does_not_choose(config: SweepConfig) -> None:
    honest = run_sweep(config)
    shown = run_sweep(replace(config, selection="oracle", output=config.output + "-oracle"))
    pd.testing.assert_frame_equal(
        shown.table.drop(columns="ORACLE_test_auroc"), honest.table, check_like=True
    )
    chosen = shown.table.loc[0, "ORACLE_test_auroc"]
    assert chosen == pytest.approx(honest.test["auroc"].iloc[-1], abs=SAME_SCORES)


def test_run_sweep__parts_of_the_rows(config: SweepConfig) -> None:
    parts = [TrainPart(), TrainPart(dataset="a"), TrainPart(fraction=0.5)]
    config = replace(config, layers=["block.2"], parts=parts)
    table = run_sweep(config).table
    assert table["train_fraction"].value_counts().to_dict() == {1.0: 4, 0.5: 2}
    own = table[(table["train_dataset"] == "a") & (table["C"] == 1.0)]
    X, y = rows(config.store, "train", "a", "block.2")
    model = LogisticRegression(C=1.0, tol=1e-8).fit(X, y)
    values = []
    for dataset in "ab":
        X, y = rows(config.store, "val", dataset, "block.2")
        values.append(roc_auc_score(y, model.decision_function(X)))
    assert own["val_auroc"].item() == pytest.approx(np.mean(values), abs=SAME_OPTIMUM)


def test_drawn__is_equally_large_of_every_kind_and_keeps_pairs(store: Path) -> None:
    ds = featstore.open(store).select(split="train")
    sizes = {}
    previous: set[int] = set()
    for fraction in (0.1, 0.5, 1.0):
        part = drawn(ds, TrainPart(fraction=fraction, seed=1))
        counts = np.unique(part["dataset"].values * 2 + part["label"].values, return_counts=True)[1]
        sizes[fraction] = counts.tolist()
        number, mates = np.unique(part["pair"].values, return_counts=True)
        assert (mates == 2).all()
        assert previous <= set(number)
        previous = set(number)
    assert sizes == {0.1: [3] * 4, 0.5: [15] * 4, 1.0: [30] * 4}


@pytest.mark.parametrize("fraction", [0.2, 0.37, 0.5])
def test_drawn__keeps_pairs_among_rows_without_one(rng, fraction: float) -> None:
    """Real images outnumber the generated ones that are aligned with some of them."""
    pair = np.concatenate([np.arange(40), np.full(60, -1), np.arange(40), np.arange(40)])
    dataset, generator = np.repeat([0, 0, 1], [100, 40, 40]), np.repeat([0, 1, 2], [100, 40, 40])
    order = rng.permutation(len(pair))
    coded = {"pair": pair, "dataset": dataset, "generator": generator}
    ds = xr.Dataset({name: ("sample", values[order]) for name, values in coded.items()})
    for seed in range(5):
        part = drawn(ds, TrainPart(fraction=fraction, seed=seed))
        codes, first = part["pair"].values, part["dataset"].values == 0
        assert (np.unique(codes[first & (codes >= 0)], return_counts=True)[1] == 2).all()
        n_paired, n_alone = round(40 * fraction), round(60 * fraction)
        numbers = np.bincount(part["generator"].values, minlength=3)
        assert numbers.tolist() == [n_paired + n_alone, n_paired, n_paired]


def test_drawn__depends_on_the_seed(store: Path) -> None:
    ds = featstore.open(store).select(split="train")
    one, same, other = (drawn(ds, TrainPart(fraction=0.3, seed=seed)) for seed in (1, 1, 2))
    assert one["row"].values.tolist() == same["row"].values.tolist()
    assert one["row"].values.tolist() != other["row"].values.tolist()


def test_run_sweep__a_diverged_member_is_last_and_named(config: SweepConfig) -> None:
    wild = replace(HSIC, grid={"learning_rate": [1e30, 0.01]})
    with pytest.warns(ConvergenceWarning, match="diverged"):
        table = run_sweep(replace(config, heads=[wild], layers=[None])).table
    assert table["problem"].tolist() == ["", "weights are not finite: its training diverged"]
    assert table["val_auroc"].isna().tolist() == [False, True]


def test_run_sweep__without_a_member_to_choose_it_says_why(config: SweepConfig) -> None:
    wild = replace(HSIC, grid={"learning_rate": [1e30]})
    config = replace(config, heads=[wild], layers=[None])
    message = "got none: weights are not finite: its training diverged; change"
    with (
        pytest.warns(ConvergenceWarning, match="diverged"),
        pytest.raises(ConfigError, match=message),
    ):
        run_sweep(config)


def test_run_sweep__other_rows_are_another_sweep(config: SweepConfig) -> None:
    run_sweep(config)
    other = replace(config, val=RowsConfig("val", "a"))
    with pytest.raises(StoreExistsError, match="which holds one of others"):
        run_sweep(other)
    run_sweep(replace(other, overwrite=True))
    assert (Path(config.output + ".old-1") / "table.csv").exists()


def test_run_sweep__a_folder_of_something_else_stays(config: SweepConfig) -> None:
    Path(config.output).mkdir()
    with pytest.raises(StoreExistsError, match="which exists"):
        run_sweep(config)


def test_run_sweep__damaged_results_are_named(config: SweepConfig) -> None:
    run_sweep(config)
    (path,) = (Path(config.output) / "groups").glob("*.json")
    path.write_text(path.read_text()[:50])
    with pytest.raises(SchemaError, match=r"must be JSON, got .*\.json.*remove it"):
        run_sweep(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": []}, "'heads' must list something to try"),
        ({"seeds": []}, "'seeds' must list something to try"),
        ({"max_members": 0}, "'max_members' must be at least 1, got 0"),
        ({"n_jobs": 0}, "'n_jobs' must be at least 1, or -1 for all, got 0"),
        ({"select_by": "auc"}, "unknown number in 'select_by' 'auc'"),
        ({"seeds": [0, -1]}, "'seed' must be 0 or more, got -1"),
        ({"bootstrap": 5}, "'bootstrap' must be at least 100"),
        ({"heads": [SweptHead("logistic_prob")]}, "unknown head 'logistic_prob' .did you mean"),
        ({"heads": [replace(LOGISTIC, grid={"c": [1]})]}, "unknown parameter of 'logistic_probe'"),
        ({"heads": [replace(LOGISTIC, grid={"C": [-1]})]}, "'C' parameter of LogisticProbe"),
        ({"heads": [replace(LOGISTIC, grid={"layer": ["x"]})]}, "are named in 'layers' of a sweep"),
        ({"layers": ["block.9"]}, r"unknown layer 'block\.9'"),
        ({"val": RowsConfig("test")}, "must be chosen on rows of"),
        ({"val": RowsConfig("val", "a", "real")}, "hold both classes|lack real or fake"),
    ],
)
def test_run_sweep__mistakes_are_named(config: SweepConfig, changes: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_sweep(replace(config, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": ["block.0", "block.9"]},
        {"layer": ["block.0", "block.1"], "layers": ["block.2"]},
        {"parts": [TrainPart(), TrainPart(dataset="nowhere")]},
    ],
)
def test_run_sweep__mistakes_leave_no_folder(config: SweepConfig, changes: Any) -> None:
    with pytest.raises(ConfigError, match=r"unknown (layer|dataset)"):
        run_sweep(replace(config, **changes))
    assert not Path(config.output).exists()


def test_run_sweep__more_rows_to_learn_from_are_another_sweep(
    config: SweepConfig, monkeypatch
) -> None:
    run_sweep(config)
    counts = sweep.row_counts
    more = lambda ds: [c | {"n_real": c["n_real"] + (c["split"] == "train")} for c in counts(ds)]  # noqa: E731
    monkeypatch.setattr(sweep, "row_counts", more)
    with pytest.raises(StoreExistsError, match="which holds one of others"):
        run_sweep(config)


def test_sweep_text__is_a_table_that_names_the_layers_read(config: SweepConfig) -> None:
    heads = [LOGISTIC, SweptHead("ridge_probe")]
    found = run_sweep(replace(config, heads=heads, layer=["block.1", "block.2"], layers=[None]))
    assert set(found.table["layer"]) == {"block.1 block.2"}
    text = found.text()
    assert "nan" not in text
    assert "| ---" not in text
    assert "the first of 3 is chosen, by val_auroc" in text


def test_train_part__fraction_is_a_share() -> None:
    with pytest.raises(ConfigError, match=r"'fraction' must be in \(0, 1\], got 0"):
        TrainPart(fraction=0)


@pytest.mark.parametrize(("name", "n_members"), [("rine_grid", 48), ("layers", 2 * 14 * 7)])
def test_configs__sweep_files_make_their_members(name: str, n_members: int) -> None:
    config = load_config(CONFIGS / f"{name}.yaml", SweepConfig)
    check_sweep(config)
    assert len(members_of(config)) == n_members
