"""FiSeR's few-shot numbers, from its archive as a store, through the whole protocol."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import heads
from featstore.config import from_mapping
from featstore.feature_group import Block
from featstore.layers import Layer
from featstore.layouts import Record
from featstore.samples import add_records
from featstore.schema import FACTS, SAMPLE_ID_BYTES
from featstore.store import GroupKey, create
from heads.few_shot import FewShotConfig, run_few_shot, writing
from heads.neighbours.knn import KNNHead
from heads.neighbours.prototype import PrototypeHead
from heads.svm.probe import FewShotSVM

PUBLISHED = 1e-12  # the same ranks; areas are sums of ratios
ONE_PAIR = 2e-4  # scikit-learn's L-BFGS stops where two neighbouring images have changed places
NUMBERS = ["auroc", "average_precision", "tpr_nearest_5pct_fpr"]
LAYERS = ("layer.18", "layer.19")
HEADS = {
    "svm": {"name": "few_shot_svm"},
    "linear": {"name": "logistic_probe"},
    "prototype": {"name": "prototype"},
    "knn": {"name": "knn", "params": {"k": 51, "metric": "inner"}},
}


@pytest.fixture(autouse=True)
def registered(monkeypatch) -> None:
    """Draw nothing, and know the heads by the names used here."""
    monkeypatch.setattr(writing, "plot_curves", lambda *arguments: None)
    for name, kind in (("few_shot_svm", FewShotSVM), ("prototype", PrototypeHead)):
        monkeypatch.setitem(heads.HEADS, name, kind)
    monkeypatch.setitem(heads.HEADS, "knn", KNNHead)


@pytest.fixture(scope="module")
def vectors(shared) -> dict[str, np.ndarray]:
    with np.load(shared("vectors/fiser.npz")) as arrays:
        return {name: arrays[name] for name in arrays.files if name.startswith("fs_")}


@pytest.fixture(scope="module")
def archive(vectors, tmp_path_factory) -> Path:
    """A store whose rows are those of the archive, in its order."""
    features = np.stack([vectors["fs_l18"], vectors["fs_l19"]], axis=1)
    assert (features.astype(np.float16) == features).all()
    n_rows = len(features)

    def records(numbers) -> list[Record]:
        sources = vectors["fs_src"][numbers]
        return [
            Record(Path(f"/a/{i}"), int(s != 0), f"source {s}" if s else "real", "a", "test")
            for i, s in zip(range(n_rows), sources, strict=True)
        ]

    folder = tmp_path_factory.mktemp("fiser")
    # A table keeps rows in an order of its own: learn it, then name files so that it is ours.
    order = add_records(create(folder / "order").path, records(np.arange(n_rows)), Path("/a"))
    stored = np.array([int(path) for path in order.column("path")])
    store = create(folder / "s.zarr")
    table = add_records(store.path, records(np.argsort(stored)), Path("/a"))
    layers = [Layer(name, "layer", i, 16) for i, name in enumerate(LAYERS)]
    identity = store.register("fiser", "clean", {"archive": 1}, layers)
    group = store.require(GroupKey("fiser", "clean", "a", "test"), layers, identity)
    ids = np.zeros((n_rows, SAMPLE_ID_BYTES), np.uint8)
    ids[:, 0] = np.arange(n_rows)
    facts = np.zeros((n_rows, len(FACTS)), np.int64)
    block = Block(0, {"cls": features.astype(np.float16)}, ids, facts, {})
    group.write(block, {})
    assert (table.column("label") == (vectors["fs_src"] != 0)).all()
    return store.path


@pytest.fixture
def config(archive: Path, tmp_path: Path) -> FewShotConfig:
    content = {
        "store": str(archive),
        "heads": HEADS,
        "query": {"split": "test"},
        "output": str(tmp_path / "run"),
        "selection": "oracle",
        "episodes": 1,
        "seed": 42,
    }
    return from_mapping(FewShotConfig, content, "test")


def test_run_few_shot__published_numbers_of_every_layer(config: FewShotConfig, vectors) -> None:
    episodes = run_few_shot(config).episodes.set_index(["head", "shots", "choice"])
    checked = 0
    for head in HEADS:
        for shots in config.shots:
            for layer, row in zip(LAYERS, vectors.get(f"fs_{head}_{shots}", ()), strict=False):
                own = episodes.loc[head, shots, layer]
                found = [float(own[name]) for name in NUMBERS]
                near = ONE_PAIR if head == "linear" else PUBLISHED
                assert found == pytest.approx(row[2:].tolist(), abs=near)
                checked += 1
    assert checked == 18


def test_run_few_shot__published_trials(config: FewShotConfig, vectors) -> None:
    """Five trials of the SVM, each with its best layer; the spread is that of a population."""
    svm = {"svm": config.heads["svm"]}
    study = run_few_shot(replace(config, heads=svm, shots=[10], episodes=5))
    best = study.episodes[study.episodes["choice"] == "ORACLE"]
    summary = study.summary[study.summary["choice"] == "ORACLE"].iloc[0]
    population = np.sqrt(4 / 5)
    for name, (mean, std) in zip(NUMBERS, vectors["fs_trials"], strict=False):
        assert summary[name] == pytest.approx(mean, abs=PUBLISHED)
        assert summary[f"{name}_std"] * population == pytest.approx(std, abs=PUBLISHED)
    assert pd.unique(best["layer"]).tolist() == ["layer.18"]


def test_run_few_shot__support_per_source(config: FewShotConfig, vectors) -> None:
    svm = {"svm": config.heads["svm"]}
    study = run_few_shot(replace(config, heads=svm, shots=[5], per="generator", episodes=2))
    for seed in (42, 43):
        paths = study.support.query(f"seed == {seed}")["sample_id"]
        rows = sorted(int.from_bytes(bytes.fromhex(text), "little") for text in paths)
        assert rows == vectors[f"fs_support_source5_s{seed}"].tolist()
