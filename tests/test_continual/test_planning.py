"""The runs that come of a configuration, and the mistakes in one."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.extraction import run_tiny
from support.streams import config

import featstore
from continual.planning import runs_of, variants_of
from featstore.errors import ConfigError
from featstore.simulate import simulate_store
from featstore.store import Store
from heads.experiments.config import HeadConfig


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("planning") / "s.zarr"
    return simulate_store(path, datasets=("a", "b", "c"), n_samples=20, n_layers=1)


def test_runs__every_order_seed_learner_selection_and_budget(store: Store, tmp_path: Path) -> None:
    study = config(
        store, tmp_path, base=["a"], tails=["b", "c"], n_orders=None, seeds=[0, 1], keep=[0.1, 5]
    )
    runs = runs_of(study)
    assert len(runs) == len(set(runs)) == 2 * 2 * (2 * 2 + 2)
    assert {run.order for run in runs} == {("a", "b", "c"), ("a", "c", "b")}


def test_runs__the_order_given(store: Store, tmp_path: Path) -> None:
    study = config(store, tmp_path, base=["a"], tails=["c", "b"], order="given")
    assert {run.order for run in runs_of(study)} == {("a", "c", "b")}


def test_variants__all_combinations_of_each_entry(store: Store, tmp_path: Path) -> None:
    vary: Any = [
        {"head.params.lambda_x": [1, 2], "head.params.lambda_y": [3, 4]},
        {"selection_params.hgr.lambda_kc": [0.5]},
        {"keep": [[0.1], [0.2]]},
    ]
    found = variants_of(config(store, tmp_path, vary=vary))
    assert list(found) == [
        "lambda_x=1, lambda_y=3", "lambda_x=1, lambda_y=4", "lambda_x=2, lambda_y=3",
        "lambda_x=2, lambda_y=4", "lambda_kc=0.5", "keep=0.1", "keep=0.2",
    ]  # fmt: skip
    assert found["lambda_x=2, lambda_y=3"].head.params["lambda_x"] == 2
    assert found["lambda_x=2, lambda_y=3"].head.params["max_iter"] == 3
    assert found["lambda_kc=0.5"].selection_params == {"hgr": {"lambda_kc": 0.5}}
    assert found["keep=0.2"].keep == [0.2]
    assert "lambda_x" not in found["keep=0.2"].head.params


def test_variants__keys_that_end_alike_are_named_in_full(store: Store, tmp_path: Path) -> None:
    vary: Any = [{"head.params.learning_rate": [0.1]}, {"later_params.learning_rate": [0.1]}]
    found = variants_of(config(store, tmp_path, vary=vary))
    assert list(found) == ["head.params.learning_rate=0.1", "later_params.learning_rate=0.1"]


def test_variants__small_numbers_stay_numbers(store: Store, tmp_path: Path) -> None:
    vary: Any = [{"selection_params.leverage.ridge": [0.00001]}]
    (found,) = variants_of(config(store, tmp_path, vary=vary)).values()
    assert found.selection_params == {"leverage": {"ridge": 1e-5}}


def test_runs__of_every_variant(store: Store, tmp_path: Path) -> None:
    runs = runs_of(config(store, tmp_path, vary=[{"ratio": [5, 10]}], learners=["fine_tune"]))
    assert [run.variant for run in runs] == ["ratio=5", "ratio=10"]


def test_runs__by_the_time_of_a_metadata_column(tmp_path: Path) -> None:
    rng, lines = np.random.default_rng(0), ["path,label,dataset,split,made"]
    for split, label in product(("train", "test"), ("real", "fake")):
        for dataset, made in (
            ("old", "2021-05"), ("new", "2024-01"), ("mid", "2022-12"), ("undated", ""),
        ):  # fmt: skip
            path = tmp_path / f"{split}-{label}-{dataset}.png"
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(path)
            made = "1999-01" if label == "real" else made
            lines.append(f"{path.name},{label},{dataset},{split},{made}")
    (tmp_path / "images.csv").write_text("\n".join(lines))
    run_tiny(tmp_path / "images.csv", tmp_path / "f.zarr", layout="manifest")
    store = featstore.open(tmp_path / "f.zarr")
    by_time: dict[str, Any] = {"order": "time", "time": "made"}
    for tails, expected in (
        (["new", "old", "mid"], ("old", "mid", "new")),
        (["new", "old", "new"], ("old", "new", "new")),
    ):
        study = config(store, tmp_path, tails=tails, **by_time)
        assert {run.order for run in runs_of(study)} == {expected}
    with pytest.raises(ConfigError, match=r"needs fake images with 'made' .* \['undated'\]"):
        runs_of(config(store, tmp_path, tails=["new", "undated"], **by_time))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learners": ["reply"]}, "unknown learner 'reply'.*did you mean 'replay'"),
        ({"selections": ["hrg"]}, "did you mean 'hgr'"),
        ({"selection_params": {"hrg": {}}}, "did you mean 'hgr'"),
        ({"learner_params": {"lfw": {}}}, "did you mean 'lwf'"),
        (
            {"learners": ["lwf"], "learner_params": {"lwf": {"wait": 1}}},
            r"options of learner 'lwf' must be among \['temperature', 'weight'\], got \['wait'\]",
        ),
        ({"metric": "auc"}, "unknown metric 'auc'"),
        ({"metric": "auroc", "target": "generator"}, "unknown metric 'auroc'"),
        ({"base": ["a"]}, "'base' and 'tails' must differ"),
        ({"learners": ["merge"]}, "needs a closed-form head"),
        ({"learners": ["lwf"], "head": HeadConfig("knn")}, "trained by gradient steps"),
        ({"target": "generator"}, "needs a head of many classes"),
        ({"base_head": "runs/x"}, "'base_head' needs the one domain"),
        ({"order": "time"}, "needs 'time' to name a metadata column"),
        ({"vary": [{"output": ["x"]}]}, "'vary' must not name"),
        ({"vary": [{}]}, "must name keys with values"),
        ({"vary": [{"head.params.lambda_z": [1]}]}, "unknown parameter of 'hsic_probe'"),
        ({"vary": [{"rati": [1]}]}, "did you mean 'ratio'"),
        ({"keep": [0]}, "a fraction in"),
        ({"seeds": []}, "'seeds' must name one"),
        ({"keep": []}, "'keep' must name one"),
        ({"tails": [], "order": "given"}, "'tails' must name one"),
        ({"seeds": [0, 0]}, "'seeds' must name each once"),
        ({"keep": [5, 5.0]}, "'keep' must name each once"),
        ({"base": ["d", "d"]}, "'base' must name each once"),
        ({"seeds": [-1]}, "'seeds' must be 0 or more"),
        ({"memory_batch_size": 0}, "'memory_batch_size' must be at least 1"),
        ({"n_jobs": 0}, "'n_jobs' must be a number of processes"),
        ({"blur": 1.0}, r"'blur' must be in \[0, 1\), got 1.0"),
        ({"ratio": float("nan")}, "'ratio' must be a finite number > 0, got nan"),
        ({"capacity": 5}, "'capacity' must be at least 6, a row of each domain and class, got 5"),
        ({"max_memory": "much"}, "'max_memory' must be a size"),
        ({"learner_params": {"lwf": {"weight": None}}, "learners": ["lwf"]}, "must be float"),
        ({"learner_params": {"lwf": {"weight": -1}}, "learners": ["lwf"]}, "finite numbers >= 0"),
    ],
)
def test_runs__mistakes_are_named(
    store: Store, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        runs_of(config(store, tmp_path, **changes))
