"""The folder of a run: whole or absent, and read back as it was written."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from featstore.errors import ConfigError, SchemaError, StoreExistsError, StoreNotFoundError
from heads.evaluation import runs
from heads.evaluation.events import require_tensorboard
from heads.evaluation.runs import Run, environment, read_run, write_run
from heads.evaluation.tables import metric_table
from heads.hsic.probe import HSICProbe
from heads.logistic.probe import LogisticProbe

THRESHOLDS = {"0.5": 0.0, "val": 0.2}


@pytest.fixture
def run(rng) -> Run:
    labels = np.arange(40) % 2
    X = rng.normal(size=(40, 3)) + labels[:, None]
    head = LogisticProbe().fit(X, labels)
    names = pd.Categorical.from_codes(labels, ["real", "sd"])
    scores = pd.DataFrame(
        {
            "sample_id": [f"{i:x}" for i in range(40)],
            "path": [f"a/{i} ü.png" for i in range(40)],
            "dataset": pd.Categorical(["a"] * 40),
            "split": pd.Categorical(["test"] * 40),
            "generator": names,
            "label": labels.astype(np.int8),
            "pair": np.full(40, -1),
            "score": head.decision_function(X),
            "probability": head.predict_proba(X)[:, 1],
        }
    )
    record = {
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 1.5,
        "seed": 0,
        "selection": "val",
        "store": {
            "path": "/s.zarr",
            "features": "f",
            "view": "clean",
            "fingerprint": "abc",
            "layers": [f"block.{i}" for i in range(9)],
        },
        "rows": {"test": [{"dataset": "a", "split": "test", "n_real": 20, "n_fake": 20}]},
        "thresholds": THRESHOLDS,
        "chosen": ["threshold val, 0.2: best balanced accuracy on 10 validation rows"],
        **environment(),
    }
    table = metric_table(scores, THRESHOLDS, n_resamples=30)
    config = {"store": "s.zarr", "output": "out", "head": {"name": "logistic_probe", "params": {}}}
    grid = pd.DataFrame({"alpha": [0.1, 1.0], "val_auroc": [0.7, 0.8], "chosen": [False, True]})
    return Run(config, head, scores, table, record, scores.head(10), grid)


def test_write_run__reads_back_as_it_was(run: Run, tmp_path: Path) -> None:
    back = read_run(write_run(run, tmp_path / "deep" / "run"))
    pd.testing.assert_frame_equal(back.scores, run.scores)
    pd.testing.assert_frame_equal(back.validation, run.validation)
    pd.testing.assert_frame_equal(back.metrics, run.metrics.astype({"reason": "str"}))
    pd.testing.assert_frame_equal(back.grid, run.grid)
    assert (back.config, back.record) == (run.config, run.record)
    np.testing.assert_array_equal(back.head.coef_, run.head.coef_)


def test_write_run__without_choices_has_no_files_of_them(run: Run, tmp_path: Path) -> None:
    folder = write_run(replace(run, validation=None, grid=None), tmp_path / "run")
    assert not (folder / "grid.csv").exists()
    assert read_run(folder).validation is None


def test_write_run__tables_are_strict_json(run: Run, tmp_path: Path) -> None:
    real = run.scores[run.scores["label"] == 0]
    lacking = replace(run, metrics=metric_table(real, THRESHOLDS, n_resamples=5), scores=real)
    folder = write_run(lacking, tmp_path / "run")
    rows = json.loads((folder / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert rows[0]["auroc"] is None
    assert np.isnan(read_run(folder).metrics["auroc"]).all()


def test_write_run__report_says_what_was_chosen_on_what(run: Run, tmp_path: Path) -> None:
    text = (write_run(run, tmp_path / "run") / "report.md").read_text()
    assert "- threshold val, 0.2: best balanced accuracy on 10 validation rows" in text
    assert "| test | test | a | 20 | 20 |" in text
    assert "9 layers: block.0, block.1, block.2, block.3, block.4, …, block.8." in text
    assert "fingerprint `abc`" in text
    assert "ORACLE" not in text


def test_write_run__oracle_is_explained(run: Run, tmp_path: Path) -> None:
    table = metric_table(run.scores, THRESHOLDS, n_resamples=5, selection="oracle")
    oracle = replace(run, metrics=table, record={**run.record, "selection": "oracle"})
    text = (write_run(oracle, tmp_path / "run") / "report.md").read_text()
    assert "accuracy@ORACLE" in text
    assert "Numbers named ORACLE were chosen on the very images" in text


def test_write_run__existing_folder_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(StoreExistsError, match="which exists; choose another 'output'"):
        write_run(run, tmp_path / "run")


def test_write_run__overwriting_moves_the_old_one_aside(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for mark in ("first", "second", "third"):
        write_run(replace(run, config={"mark": mark}), folder, overwrite=True)
    marks = {
        path.name: yaml.safe_load((path / "config.yaml").read_text())["mark"]
        for path in tmp_path.iterdir()
    }
    assert marks == {"run": "third", "run.old-1": "first", "run.old-2": "second"}


def test_write_run__failure_leaves_nothing(run: Run, tmp_path: Path, monkeypatch) -> None:
    def broken(*_: object) -> str:
        raise OSError("disk full")

    monkeypatch.setattr(runs, "report", broken)
    with pytest.raises(OSError, match="disk full"):
        write_run(run, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_read_run__other_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError, match=r"must hold 'run\.json'"):
        read_run(tmp_path)


def test_read_run__damaged_head_is_named(run: Run, tmp_path: Path) -> None:
    folder = write_run(run, tmp_path / "run")
    (folder / "head" / "head.safetensors").write_bytes(b"")
    with pytest.raises(SchemaError, match="must be there and whole, got 'head' of"):
        read_run(folder)


def test_run__text_has_table_and_choices(run: Run) -> None:
    text = run.text()
    assert "auroc" in text
    assert "chosen:\n  threshold val, 0.2" in text
    assert text.endswith("written to out")


def test_write_run__tensorboard_on_request(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run.head.history_ = np.array([[3.0], [2.0]])
    folder = write_run(run, tmp_path / "run", tensorboard=True)
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    tags = events.Tags()
    assert "auroc/a/sd" in [*tags["scalars"], *tags["tensors"]]
    curve = events.Tensors("training/0")
    assert [event.step for event in curve] == [1, 2]


def test_require_tensorboard__absent_names_the_install_line(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.summary", None)
    with pytest.raises(ConfigError, match=r"pip install 'featstore\[tensorboard\]'"):
        require_tensorboard()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.yaml", "a: ["),
        ("config.yaml", "- a"),
        ("run.json", "{"),
        ("run.json", "{}"),
        ("scores.parquet", ""),
        ("val_scores.parquet", "PAR1"),
        ("trained_on.parquet", "PAR1"),
        ("metrics.csv", ""),
        ("grid.csv", ""),
    ],
)
def test_read_run__damaged_file_is_named(run: Run, tmp_path: Path, name: str, content: str) -> None:
    known = pd.DataFrame({"sample_id": ["ab"], "pair": [-1], "role": ["train"]})
    folder = write_run(replace(run, trained_on=known), tmp_path / "run")
    (folder / name).write_text(content)
    with pytest.raises(SchemaError, match=f"must be there and whole, got {name!r} of"):
        read_run(folder)


@pytest.mark.parametrize("name", ["config.yaml", "scores.parquet", "metrics.csv"])
def test_read_run__missing_file_is_named(run: Run, tmp_path: Path, name: str) -> None:
    folder = write_run(run, tmp_path / "run")
    (folder / name).unlink()
    with pytest.raises(SchemaError, match=f"must be there and whole, got {name!r} of"):
        read_run(folder)


def test_write_run__curves_are_named_and_leave_nan_out(run: Run, tmp_path: Path, rng) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    X, labels = rng.normal(size=(20, 3)), np.arange(20) % 2
    probe = HSICProbe(n_components=2, max_iter=2, device="cpu").fit(X, labels)
    folder = write_run(replace(run, head=probe), tmp_path / "run", tensorboard=True)
    tags = EventAccumulator(str(folder / "tensorboard")).Reload().Tags()
    curves = {tag for tag in [*tags["scalars"], *tags["tensors"]] if tag.startswith("training/")}
    assert curves == {f"training/{name}" for name in ("loss", "bce", "hsic_x", "hsic_y")}
