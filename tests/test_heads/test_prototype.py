"""PrototypeHead against published scores, scikit-learn and itself in pieces."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.preprocessing import normalize
from support.checks import CutBatches
from support.features import vit_like
from support.vectors import stored

from heads.loop.batch_source import ArrayBatches
from heads.loop.passes import train
from heads.neighbours.prototype import PrototypeHead

ROUNDING = 1e-12
PUBLISHED = 1e-6  # float32 sums of 100 rows


def test_prototype_head__equals_published_scores() -> None:
    vectors = stored("fiser_neighbours")
    head = PrototypeHead().fit(vectors["knn_db"], vectors["knn_db_lab"])
    found = head.decision_function(vectors["knn_q"])
    np.testing.assert_allclose(found, vectors["proto"], rtol=0, atol=PUBLISHED)


@pytest.mark.parametrize("n_classes", [2, 5])
def test_prototype_head__decides_as_scikit_learns_nearest_centroid(n_classes: int, rng) -> None:
    X, y = vit_like(200, 20)[0].astype(float), rng.integers(n_classes, size=200)
    queries = vit_like(50, 20, seed=1)[0].astype(float)
    centroids = NearestCentroid().fit(normalize(X), y).centroids_
    # On the sphere, the nearest of the normalised centroids has the largest inner product.
    model = KNeighborsClassifier(1).fit(normalize(centroids), np.arange(n_classes))
    head = PrototypeHead().fit(X, y)
    np.testing.assert_array_equal(head.predict(queries), model.predict(normalize(queries)))
    np.testing.assert_allclose(head.prototypes_, normalize(centroids), rtol=0, atol=ROUNDING)


def test_prototype_head__without_normalising_uses_rows_as_they_are(rng) -> None:
    X, y = vit_like(60, 8)
    mean = [X[y == label].astype(float).mean(0) for label in (0, 1)]
    direction = mean[1] / np.linalg.norm(mean[1]) - mean[0] / np.linalg.norm(mean[0])
    head = PrototypeHead(normalize=False).fit(X, y)
    np.testing.assert_allclose(head.decision_function(X), X @ direction, rtol=0, atol=1e-10)


@given(cuts=st.lists(st.integers(1, 119), max_size=20))
def test_prototype_head__any_batching_gives_the_same_head(cuts: list[int]) -> None:
    X, y = vit_like(120, 12)
    head = PrototypeHead()
    train([head], CutBatches(X, y, cuts))
    expected = PrototypeHead().fit(X, y)
    np.testing.assert_allclose(head.prototypes_, expected.prototypes_, rtol=0, atol=ROUNDING)
    np.testing.assert_array_equal(head.class_counts_, np.bincount(y))


def test_prototype_head__heads_trained_together_equal_single_fits() -> None:
    X, y = vit_like(60, 8)
    heads = [PrototypeHead(), PrototypeHead(normalize=False), PrototypeHead()]
    train(heads, ArrayBatches(X, y))
    for head in heads:
        expected = PrototypeHead(normalize=head.normalize).fit(X, y)
        np.testing.assert_array_equal(head.prototypes_, expected.prototypes_)


def test_prototype_head__ignores_how_many_rows_a_class_has() -> None:
    X, y = vit_like(60, 8)
    rows = np.concatenate([np.arange(60), np.repeat(np.flatnonzero(y == 1), 9)])
    once, often = PrototypeHead().fit(X, y), PrototypeHead().fit(X[rows], y[rows])
    difference = once.decision_function(X) - often.decision_function(X)
    np.testing.assert_allclose(difference, 0, atol=ROUNDING)


def test_prototype_head__opposite_rows_have_no_direction() -> None:
    X = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0]])
    head = PrototypeHead().fit(X, np.array([0, 0, 1]))
    np.testing.assert_array_equal(head.prototypes_, [[0, 0], [0, 1]])
    np.testing.assert_array_equal(head.decision_function(np.zeros((1, 2))), [0])


def test_prototype_head__refuses_features_that_are_not_finite_in_a_source() -> None:
    source = ArrayBatches(np.array([[1.0], [np.nan]]), np.array([0, 1]))
    with pytest.raises(ValueError, match="features must be finite"):
        train([PrototypeHead(normalize=False)], source)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prototypes_", np.ones((2, 3))),
        ("prototypes_", np.full((2, 2), np.inf)),
        ("class_counts_", np.array([1, 2, 3])),
        ("class_counts_", np.array([1, 0])),
    ],
)
def test_prototype_head__checks_what_is_loaded(name: str, value: Any) -> None:
    head = PrototypeHead().fit(np.eye(2), np.array([0, 1]))
    head.check_learned()
    setattr(head, name, value)
    with pytest.raises(ValueError, match=f"'{name}' must"):
        head.check_learned()
