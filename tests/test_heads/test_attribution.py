"""GeneratorAttribution against scikit-learn's discriminant analysis, and its rejection."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.covariance import LedoitWolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from support.checks import CutBatches
from support.features import vit_like

from featstore.simulate import simulate_store
from heads.attribution.head import GeneratorAttribution
from heads.closed_form.streaming_lda import shrunk
from heads.fitting import fit, fit_many
from heads.loop.passes import train

SAME = 1e-8  # float64 in another order


def generators(n_samples: int = 300, n_features: int = 8, n_classes: int = 4) -> Any:
    X = vit_like(n_samples, n_features)[0].astype(np.float64)
    y = np.random.default_rng(1).integers(n_classes, size=n_samples)
    X += np.random.default_rng(2).normal(size=(n_classes, n_features))[y] * 0.1
    return X, np.array(["biggan", "glide", "ldm", "sdxl", "wukong"])[y]


@pytest.mark.parametrize("n_classes", [2, 4])
def test_attribution__equals_discriminant_analysis_of_scikit_learn(n_classes: int) -> None:
    X, y = generators(n_samples=400, n_classes=n_classes)
    rows = np.concatenate([np.flatnonzero(y == name)[:60] for name in np.unique(y)])
    X, y = X[rows], y[rows]  # as many of each, so that priors are uniform
    expected = LinearDiscriminantAnalysis(solver="lsqr").fit(X, y)
    head = GeneratorAttribution(shrinkage=0).fit(X, y)
    np.testing.assert_allclose(head.predict_proba(X), expected.predict_proba(X), atol=SAME)
    np.testing.assert_array_equal(head.predict(X), expected.predict(X))


def within(X: Any, y: Any) -> Any:
    means = {name: X[y == name].mean(0) for name in np.unique(y)}
    centred = X - np.stack([means[name] for name in y])
    return centred.T @ centred / len(X)


@pytest.mark.parametrize("shrinkage", [0, 0.2, "ledoit_wolf"])
def test_attribution__score_is_the_distance_to_the_nearest_mean(shrinkage: Any) -> None:
    X, y = generators()
    head = GeneratorAttribution(shrinkage=shrinkage).fit(X, y)
    if shrinkage == "ledoit_wolf":
        centred = X - np.stack([X[y == name].mean(0) for name in y])
        shrinkage = LedoitWolf(assume_centered=True).fit(centred).shrinkage_
        assert head.shrinkage_ == pytest.approx(shrinkage, abs=SAME)
    covariance = shrunk(within(X, y), shrinkage)
    distances = []
    for name in head.classes_:
        Z = X - X[y == name].mean(0)
        distances.append(np.einsum("ij,ji->i", Z, np.linalg.solve(covariance, Z.T)))
    np.testing.assert_allclose(head.anomaly_scores(X), np.min(distances, axis=0), rtol=SAME)
    nearest = head.classes_[np.argmin(distances, axis=0)]
    np.testing.assert_array_equal(head.predict(X), nearest)


@given(cuts=st.lists(st.integers(1, 99), max_size=20))
def test_attribution__any_batching_gives_the_same_head(cuts: list[int]) -> None:
    X, y = generators(n_samples=100)
    head, expected = GeneratorAttribution(), GeneratorAttribution().fit(X, y)
    train([head], CutBatches(X, y, cuts))
    np.testing.assert_allclose(head.decision_function(X), expected.decision_function(X), rtol=SAME)
    assert head.threshold_ == pytest.approx(expected.threshold_)


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.4])
def test_attribution__rejects_what_is_asked_for(rate: float) -> None:
    X, y = generators(n_samples=200)
    head = GeneratorAttribution(rejection_rate=rate).fit(X, y)
    assert head.rejects(X).mean() == head.rate_ == rate
    far = X + 1e3 * np.eye(8)[0]
    assert head.rejects(far).all()
    named, opened = head.predict(X), head.predict_open(X)
    np.testing.assert_array_equal(opened == "unknown", head.rejects(X))
    np.testing.assert_array_equal(opened[~head.rejects(X)], named[~head.rejects(X)])
    assert set(head.predict_open(far, unknown=-1)) == {-1}


def test_attribution__threshold_comes_from_validation_rows(tmp_path: Any) -> None:
    store = simulate_store(tmp_path / "s.zarr", datasets="abc", n_samples=80, n_layers=1)
    rows, val = (store.select(split=split) for split in ("train", "val"))
    heads = [GeneratorAttribution(), GeneratorAttribution(selection="training")]
    fit_many(heads, rows, val, targets=["generator"] * 2)
    on_val, on_training = heads
    assert on_val.classes_.tolist() == ["a", "b", "c", "real"]
    X = val["cls"].values.reshape(val.sizes["sample"], -1)
    assert on_val.rejects(X).mean() == on_val.rate_ == pytest.approx(0.05, abs=1 / len(X))
    assert on_training.threshold_ < on_val.threshold_
    alone = fit(GeneratorAttribution(), rows, target="generator")
    assert alone.threshold_ == on_training.threshold_


def test_attribution__fakes_alone_are_enough(tmp_path: Any) -> None:
    store = simulate_store(tmp_path / "s.zarr", datasets="ab", n_samples=80, n_layers=1)
    rows, val = (store.select(split=s, generator=["a", "b"]) for s in ("train", "val"))
    head = fit(GeneratorAttribution(), rows, val, target="generator")
    assert head.classes_.tolist() == ["a", "b"]


def test_attribution__singular_covariance_is_refused() -> None:
    X, y = generators(n_samples=10)
    with pytest.raises(ValueError, match="shrinkage > 0"):
        GeneratorAttribution(shrinkage=0).fit(X, y)


@pytest.mark.parametrize(
    ("name", "value"), [("centers_", np.eye(3)), ("location_", np.zeros(2)), ("spread_", -1.0)]
)
def test_attribution__a_damaged_head_is_refused(name: str, value: Any) -> None:
    head = GeneratorAttribution().fit(*generators())
    head.check_learned()
    setattr(head, name, value)
    with pytest.raises(ValueError, match=name):
        head.check_learned()
