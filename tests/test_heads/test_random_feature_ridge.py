"""RandomFeatureRidge against RidgeProbe and scikit-learn on features lifted by hand."""

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from support.features import vit_like

from heads.closed_form.random_feature_ridge import RandomFeatureRidge
from heads.closed_form.ridge import RidgeProbe
from heads.loop.batch_source import ArrayBatches
from heads.loop.passes import train

ROUNDING = 1e-10  # same arithmetic in another order


def lifted(X: Any, head: Any) -> Any:
    return np.maximum(X.astype(np.float64) @ head.projection_.astype(np.float64), 0)


@pytest.mark.parametrize(
    "parameters",
    [{"alpha": 2.0}, {"alpha": [0.1, 10.0]}, {"alpha": [0.1, 10.0], "selection": "gcv"}],
    ids=str,
)
def test_random_feature_ridge__is_ridge_on_random_features(parameters: Any) -> None:
    X, y = vit_like(200, 10)
    head = RandomFeatureRidge(n_components=40, **parameters).fit(X, y)
    expected = RidgeProbe(**parameters).fit(lifted(X, head), y)
    np.testing.assert_allclose(head.coef_, expected.coef_, rtol=0, atol=ROUNDING)
    assert head.alpha_ == expected.alpha_
    decisions = expected.decision_function(lifted(X, head))
    np.testing.assert_allclose(head.decision_function(X), decisions, rtol=0, atol=ROUNDING)


def test_random_feature_ridge__equals_scikit_learn() -> None:
    X, y = vit_like(200, 10)
    head = RandomFeatureRidge(n_components=300, alpha=1.0).fit(X, y)
    model = Ridge(alpha=1.0, solver="svd").fit(lifted(X, head), 2.0 * y - 1)
    expected = model.predict(lifted(X, head))
    np.testing.assert_allclose(head.decision_function(X), expected, rtol=0, atol=1e-9)


def test_random_feature_ridge__projection_has_the_stated_distribution() -> None:
    X, y = vit_like(50, 100)
    head = RandomFeatureRidge(n_components=1000).fit(X, y)
    assert head.projection_.dtype == np.float32
    # Standard errors of mean and variance over 100,000 numbers, five of each.
    assert abs(head.projection_.mean()) < 5 * 0.1 / np.sqrt(1e5)
    assert abs(head.projection_.var() * 100 - 1) < 5 * np.sqrt(2 / 1e5)


def test_random_feature_ridge__learns_what_no_linear_head_can() -> None:
    rng = np.random.default_rng(0)
    X, new = rng.normal(size=(2, 600, 2))
    y, labels = ((rows[:, 0] * rows[:, 1] > 0).astype(int) for rows in (X, new))
    assert RidgeProbe().fit(X, y).score(new, labels) < 0.6
    assert RandomFeatureRidge(n_components=200).fit(X, y).score(new, labels) > 0.95


def test_random_feature_ridge__in_pieces_and_merged_equals_the_whole() -> None:
    X, y = vit_like(120, 8)
    expected = RandomFeatureRidge(n_components=30).fit(X, y)
    first, second = (RandomFeatureRidge(n_components=30) for _ in range(2))
    first.partial_fit(X[:20], y[:20]).partial_fit(X[20:70], y[20:70])
    first.merge(second.partial_fit(X[70:], y[70:]))
    np.testing.assert_allclose(first.coef_, expected.coef_, rtol=0, atol=ROUNDING)
    np.testing.assert_array_equal(first.projection_, expected.projection_)


def test_random_feature_ridge__heads_of_one_seed_share_the_projection() -> None:
    X, y = vit_like(100, 8)
    seeds = [0, 0, 1]
    heads = [RandomFeatureRidge(n_components=30, random_state=seed) for seed in seeds]
    train(heads, ArrayBatches(X, y))
    assert heads[0].projection_ is heads[1].projection_
    for head, seed in zip(heads, seeds, strict=True):
        single = RandomFeatureRidge(n_components=30, random_state=seed).fit(X, y)
        np.testing.assert_allclose(head.coef_, single.coef_, rtol=0, atol=ROUNDING)


def test_random_feature_ridge__needs_room_for_its_components_only() -> None:
    X, y = vit_like(60, 50)
    source = ArrayBatches(X, y)
    source.workspace = 8 * 20**2
    train([RandomFeatureRidge(n_components=20)], source)
    with pytest.raises(ValueError, match=r"21² features"):
        train([RandomFeatureRidge(n_components=21)], source)
