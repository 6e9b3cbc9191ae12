"""Scores from the store equal scores of the same rows in memory."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from featstore.errors import FingerprintError
from featstore.simulate import simulate_store
from heads import LogisticProbe, fit, fit_many
from heads.evaluation import scoring
from heads.evaluation.scoring import COLUMNS, score, score_many

WIDENED = 1e-5  # scikit-learn multiplies float32 batches in another blocking


class Sum:
    """A head that adds the features up, each layer with its own weight."""

    def __init__(self, weights) -> None:
        self.weights = np.asarray(weights, float)

    def decision_function(self, X):
        return X @ self.weights

    def predict_proba(self, X):
        p = expit(self.decision_function(X))
        return np.stack([1 - p, p], axis=1)


@pytest.fixture
def memory(rng) -> xr.Dataset:
    """Six rows in memory, with the coordinates of a selection."""
    return xr.Dataset(
        {"cls": (("sample", "layer", "feature"), rng.normal(size=(6, 2, 3)).astype("f2"))},
        {
            "label": ("sample", np.array([0, 1, 0, 1, 1, 0], np.int8)),
            "generator": ("sample", np.array([0, 1, 0, 2, 1, 0], np.int16)),
            "dataset": ("sample", np.array([0, 0, 1, 1, 1, 1], np.int16)),
            "split": ("sample", np.zeros(6, np.int8)),
            "pair": ("sample", np.array([4, 4, -1, -1, -1, -1])),
            "path": ("sample", np.array([f"{i}.png" for i in range(6)], object)),
            "sample_id": ("sample", np.array([f"id{i}" for i in range(6)], object)),
        },
        {"datasets": ["a", "b"], "splits": ["test"], "generators": ["real", "sd", "flux"]},
    )


def test_score__names_what_is_stored_as_codes(memory) -> None:
    frame = score(Sum(np.ones(6)), memory)
    assert tuple(frame.columns) == COLUMNS
    assert frame["generator"].tolist() == ["real", "sd", "real", "flux", "sd", "real"]
    assert frame["dataset"].tolist() == ["a", "a", "b", "b", "b", "b"]
    assert frame["split"].unique().tolist() == ["test"]
    assert frame["path"].tolist() == [f"{i}.png" for i in range(6)]
    assert frame["pair"].tolist() == [4, 4, -1, -1, -1, -1]


def test_score__sees_layers_one_behind_the_other(memory) -> None:
    weights = np.array([1, 10, 100, 1000, 10_000, 100_000])
    X = memory["cls"].values.astype(np.float32).reshape(6, 6)
    np.testing.assert_allclose(score(Sum(weights), memory)["score"], X @ weights, rtol=WIDENED)


def test_score_many__reads_once(memory, monkeypatch) -> None:
    calls = []
    reader = scoring.iter_batches
    monkeypatch.setattr(scoring, "iter_batches", lambda *a, **k: calls.append(1) or reader(*a, **k))
    frames = score_many([Sum(np.eye(6)[i]) for i in range(3)], memory)
    assert calls == [1]
    values = memory["cls"].values.reshape(6, 6).astype(float)
    np.testing.assert_array_equal(np.stack([f["score"] for f in frames], 1), values[:, :3])


def test_score__out_of_core_equals_memory(tmp_path: Path) -> None:
    ds = simulate_store(tmp_path / "s.zarr", n_samples=300).select(split="test")
    X = ds["cls"].values.astype(np.float32).reshape(ds.sizes["sample"], -1)
    head = LogisticRegression().fit(X, ds["label"].values)
    frame = score(head, ds, max_memory="10MB")
    np.testing.assert_allclose(frame["score"], head.decision_function(X), atol=WIDENED)
    np.testing.assert_allclose(frame["probability"], head.predict_proba(X)[:, 1], atol=WIDENED)
    assert frame["label"].tolist() == ds["label"].values.tolist()
    assert frame["sample_id"].is_unique


def test_score__empty_selection_is_refused(memory) -> None:
    with pytest.raises(ValueError, match="empty selection"):
        score(Sum(np.ones(6)), memory.isel(sample=[]))


def test_score__not_finite_is_refused(memory) -> None:
    with pytest.raises(ValueError, match="got 6 rows that are not, first row 0"):
        score(Sum(np.full(6, np.nan)), memory)


def test_score__rows_of_other_features_are_refused(tmp_path: Path) -> None:
    ours = simulate_store(tmp_path / "ours.zarr", n_samples=20)
    theirs = simulate_store(tmp_path / "theirs.zarr", n_samples=20, seed=1)
    head = fit(LogisticProbe(), ours.select(split="train"))
    with pytest.raises(FingerprintError, match=r"'simulated' of .*ours.*got 'sim.* of .*their"):
        score(head, theirs.select(split="test"))
    with pytest.raises(FingerprintError, match=r"layers .*'block.1'.*got \['block.2', 'block.0'\]"):
        score(head, ours.select(split="test", layer=["block.2", "block.0"]))


def test_score_many__heads_score_the_layers_they_were_trained_on(tmp_path: Path) -> None:
    store = simulate_store(tmp_path / "s.zarr", n_samples=40)
    chosen = [["block.1"], ["block.2", "block.0"], None]
    heads = fit_many([LogisticProbe() for _ in chosen], store.select(split="train"), layers=chosen)
    frames = score_many(heads, store.select(split="test"))
    for head, layers, frame in zip(heads, chosen, frames, strict=True):
        X = store.select(split="test", layer=layers)["cls"].values.astype(np.float32)
        expected = head.decision_function(X.reshape(len(X), -1))
        np.testing.assert_allclose(frame["score"], expected, atol=WIDENED)
    reordered = store.select(split="test", layer=["block.2", "block.1", "block.0"])
    for frame, again in zip(frames, score_many(heads, reordered), strict=True):
        np.testing.assert_allclose(again["score"], frame["score"], atol=WIDENED)


def test_score_many__returns_scores_that_are_not_finite_on_request(memory) -> None:
    frames = score_many([Sum(np.ones(6)), Sum(np.full(6, np.nan))], memory, finite=False)
    assert [np.isfinite(frame["score"]).all() for frame in frames] == [True, False]
