"""Attribution studies from configuration to folder, on simulated stores."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score

import featstore
import heads
from featstore.config import load_config
from featstore.errors import ConfigError, StoreExistsError
from featstore.simulate import simulate_store
from heads.attribution.config import AttributionConfig
from heads.attribution.head import GeneratorAttribution
from heads.attribution.run import Attribution, run_attribution
from heads.experiments.config import RowsConfig

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture(autouse=True, scope="module")
def registered() -> None:
    """Let the head be saved."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(heads.HEADS, "generator_attribution", GeneratorAttribution)
        yield


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> AttributionConfig:
    folder = tmp_path_factory.mktemp("attribution")
    simulate_store(folder / "s.zarr", datasets="abcd", n_samples=60, n_layers=1, shift=12.0)
    return AttributionConfig(
        store=str(folder / "s.zarr"),
        train=RowsConfig("train"),
        val=RowsConfig("val"),
        test=RowsConfig("test"),
        unknown=["d"],
        output=str(folder / "study"),
        bootstrap=100,
    )


@pytest.fixture(scope="module")
def study(config: AttributionConfig) -> Attribution:
    return run_attribution(config)


def test_run_attribution__equals_the_steps_by_hand(
    config: AttributionConfig, study: Attribution
) -> None:
    store = featstore.open(config.store)
    known = ["a", "b", "c", "real"]
    rows, val = (store.select(split=split, generator=known) for split in ("train", "val"))
    head = heads.fit(GeneratorAttribution(), rows, val, target="generator")
    test = store.select(split="test")
    X = test["cls"].values.reshape(test.sizes["sample"], -1)
    names = np.asarray(test.attrs["generators"])[test["generator"].values]
    of_known = names != "d"
    np.testing.assert_array_equal(study.samples["named"], head.predict(X))
    np.testing.assert_array_equal(study.samples["rejected"], head.rejects(X))
    np.testing.assert_allclose(study.samples["score"], head.anomaly_scores(X))
    accuracy = accuracy_score(names[of_known], head.predict(X)[of_known])
    table = study.metrics.set_index("metric")
    assert table.loc["accuracy", "value"] == pytest.approx(accuracy)
    assert table.loc["accuracy", "low"] <= accuracy <= table.loc["accuracy", "high"]
    assert table.loc["unknown_rejected", "value"] == head.rejects(X)[~of_known].mean()
    assert 0.5 < accuracy < 1  # chance is a quarter


def test_run_attribution__leaves_a_whole_folder(
    config: AttributionConfig, study: Attribution
) -> None:
    folder = Path(config.output)
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml", "run.json", "head", "samples.parquet", "trained_on.parquet", "metrics.csv",
        "confusion.csv", "confusion.png", "oscr.png", "report.md",
    }  # fmt: skip
    assert load_config(folder / "config.yaml", AttributionConfig) == config
    saved = heads.load(folder / "head")
    assert saved.classes_.tolist() == study.head.classes_.tolist()
    assert saved.threshold_ == study.head.threshold_
    table = pd.read_csv(folder / "confusion.csv", index_col="generator")
    pd.testing.assert_frame_equal(table, study.confusion, check_names=False)
    report = (folder / "report.md").read_text()
    assert "Known: a, b, c, real. Unknown: d." in report
    for text in (report, study.text()):
        assert "oscr" in text
        assert "threshold of rejection" in text
    with pytest.raises(StoreExistsError):
        run_attribution(config)


def test_run_attribution__writes_down_who_was_trained_on(study: Attribution) -> None:
    ids = set(study.trained_on["sample_id"])
    assert not ids & set(study.samples["sample_id"])
    rows = study.record["rows"]
    assert sum(group["n_fake"] for group in rows["train"]) == 3 * 30
    assert sum(group["n_fake"] for group in rows["test"]) == 4 * 30
    assert study.record["unknown"] == ["d"]


def test_run_attribution__closed_set_has_no_oscr(config: AttributionConfig, tmp_path: Path) -> None:
    known = ["real", "a", "b"]
    rows = {role: RowsConfig(role, generator=known) for role in ("train", "test")}
    closed = replace(
        config, **rows, val=None, unknown=[], bootstrap=0, output=str(tmp_path / "closed")
    )
    study = run_attribution(closed)
    assert not (tmp_path / "closed" / "oscr.png").exists()
    assert "training rows" in study.record["chosen"][0]
    assert np.isnan(study.metrics.set_index("metric").loc["oscr", "value"])
    assert "–" in study.text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unknown": ["e"]}, "generator"),
        ({"train": RowsConfig("train", generator=["a", "b"])}, r"neither.*|got \['c', 'real'\]"),
        ({"train": RowsConfig("train", generator="d")}, "rows of known generators, got none"),
        ({"train": RowsConfig("train", generator="a")}, "real"),
        ({"test": RowsConfig(["val", "test"])}, "common"),
        ({"train": RowsConfig("test")}, "must be chosen on rows of"),
        ({"shrinkage": 0.0, "rejection_rate": 2.0}, "rejection_rate"),
        ({"bootstrap": 5}, "at least 100"),
    ],
)
def test_run_attribution__refuses(
    config: AttributionConfig, tmp_path: Path, changes: dict, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run_attribution(replace(config, **{"output": str(tmp_path / "x"), **changes}))
    assert not (tmp_path / "x").exists()


def test_configs__the_attribution_example_is_legal() -> None:
    example = load_config(CONFIGS / "attribute" / "closed_open.yaml", AttributionConfig)
    assert example.unknown == ["sd3*"]
