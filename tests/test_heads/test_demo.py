from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from featstore.demo_images import make_demo_images
from featstore.simulate import simulate_store
from heads.experiments import demo as demo
from heads.experiments.config import HeadConfig, RowsConfig, TrainConfig
from heads.experiments.transfer import run_transfer

GENERATORS = ["nearest", "pixelshuffle", "transposed"]


@pytest.mark.slow
def test_run_demo__is_the_whole_pipeline(tmp_path, monkeypatch):
    small = partial(make_demo_images, n_steps=2, max_tiles=3)
    monkeypatch.setattr(demo, "make_demo_images", small)
    quick = {"logistic_probe": {"C": [0.01, 0.1]}, "hsic_probe": {"lambda_x": [0.0, 100.0]}}
    heads = {
        name: (HeadConfig(head.name, {**head.params, "max_iter": 30}), quick[head.name])
        for name, (head, _) in demo.HEADS.items()
    }
    monkeypatch.setattr(demo, "HEADS", heads)
    steps = []
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "of an earlier demo").touch()
    text = demo.run_demo(tmp_path, lambda done, total: steps.append((done, total)))
    assert steps[-1] == (4, 4)
    assert "featstore extract" in text
    assert "only six photographs" in text
    assert {path.name for path in (tmp_path / "runs").iterdir()} == set(heads)
    for name in heads:
        table = pd.read_csv(tmp_path / "runs" / name / "transfer.csv")
        assert sorted(table["train"].unique()) == sorted(table["test"].unique()) == GENERATORS
        assert (table["auroc_low"] <= table["auroc"]).all()
        assert (table["auroc"] <= table["auroc_high"]).all()
        assert (tmp_path / "runs" / name / "transfer.png").stat().st_size > 5000
        for generator in GENERATORS:
            scores = pd.read_parquet(tmp_path / "runs" / name / generator / "scores.parquet")
            assert set(scores["split"]) == {"test"}


def test_run_transfer__cells_equal_scikit_learn(tmp_path):
    store = simulate_store(tmp_path / "s.zarr", shift=1.0)
    config = TrainConfig(
        store=str(store.path),
        head=HeadConfig("logistic_probe", {"C": 0.5}),
        train=RowsConfig("train"),
        test=RowsConfig("test"),
        output=str(tmp_path / "out"),
        bootstrap=100,
    )
    table = run_transfer(config).table.set_index(["train", "test"])

    def rows(dataset, split):
        ds = store.select(dataset=dataset, split=split)
        X = ds["cls"].values.astype(np.float64)
        return X.reshape(len(X), -1), ds["label"].values

    for train in ("a", "b"):
        other = LogisticRegression(C=0.5, tol=1e-10, max_iter=10_000).fit(*rows(train, "train"))
        for test in ("a", "b"):
            X, y = rows(test, "test")
            expected = roc_auc_score(y, other.decision_function(X))
            assert table.loc[(train, test), "auroc"] == pytest.approx(expected, abs=1e-3)
