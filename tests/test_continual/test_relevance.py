"""Relevance against the dense matrix, and what its approximations say of themselves."""

import json

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist, pdist

from continual.selection import kernel
from continual.selection.class_relevance import relevance_of
from continual.selection.kernel import median_sigma, sample_of
from continual.selection.relevance import (
    agreement,
    agreement_on_sample,
    column_relevance,
    exact_relevance,
    nystrom_relevance,
)
from heads.hsic.statistics import center_gram, hsic_biased, rbf_gram

FLOAT32 = 2e-6  # kernel values in float32, summed in float64
WORKED = np.array([0, 1, 2, 10, 11, 30], float)[:, None]


def no_rng() -> np.random.Generator:
    return np.random.default_rng(0)


def dense_relevance(Z: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """The definition: rows of the centred kernel."""
    centred = center_gram(rbf_gram(cdist(Z, Z, "sqeuclidean"), sigma))
    return (centred**2).sum(1)


def blobs(n_samples: int, n_components: int, seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_samples, n_components)) + 4 * (np.arange(n_samples) % 2)[:, None]


@pytest.mark.parametrize("n_samples", [1, 2, 7, 600, 1100])
def test_exact_relevance__is_that_of_the_dense_matrix(n_samples: int) -> None:
    Z = blobs(n_samples, 8)
    expected = dense_relevance(Z, 3.0)
    np.testing.assert_allclose(exact_relevance(Z, 3.0), expected, rtol=FLOAT32, atol=FLOAT32)


def test_exact_relevance__sums_to_hsic_of_the_rows_with_themselves() -> None:
    Z = blobs(300, 5) + 100  # far from the origin
    K = rbf_gram(cdist(Z, Z, "sqeuclidean"), 2.0)
    expected = (len(Z) - 1) ** 2 * hsic_biased(K, K)
    assert exact_relevance(Z, 2.0).sum() == pytest.approx(expected, rel=FLOAT32)


def test_exact_relevance__worked_example() -> None:
    expected = [0.754396, 0.875600, 0.754064, 1.371588, 1.371860, 1.251836]
    np.testing.assert_allclose(exact_relevance(WORKED, 2.0), expected, atol=2e-6)


@pytest.mark.parametrize("tile", [1, 33, 200])
def test_relevance__does_not_depend_on_the_size_of_tiles(
    tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    Z = blobs(150, 4)

    def found() -> list[NDArray[np.float64]]:
        return [
            exact_relevance(Z, 2.0),
            nystrom_relevance(Z, 2.0, no_rng(), 40),
            column_relevance(Z, 2.0, no_rng(), 40),
        ]

    whole = found()
    monkeypatch.setattr(kernel, "TILE", tile)
    np.testing.assert_allclose(found(), whole, rtol=1e-5)


def test_nystrom__with_every_row_a_landmark_is_exact() -> None:
    Z = blobs(200, 6)
    exact = dense_relevance(Z, 3.0)
    np.testing.assert_allclose(nystrom_relevance(Z, 3.0, no_rng(), 200), exact, rtol=1e-6)


def test_columns__with_every_row_a_column_are_exact() -> None:
    Z = blobs(200, 6)
    exact = dense_relevance(Z, 3.0)
    np.testing.assert_allclose(column_relevance(Z, 3.0, no_rng(), 200), exact, rtol=1e-5)


def test_approximations__rank_like_the_exact_values() -> None:
    Z = blobs(2000, 64)
    sigma = median_sigma(Z, no_rng())
    exact = exact_relevance(Z, sigma)
    assert agreement(nystrom_relevance(Z, sigma, no_rng(), 512), exact).spearman >= 0.99
    columns = agreement(column_relevance(Z, sigma, no_rng(), 1024), exact)
    assert columns.spearman >= 0.98
    assert columns.error < 0.05


def test_agreement__of_values_that_are_all_equal_has_no_rank() -> None:
    same = np.zeros(4)
    found = agreement(same, same)
    assert np.isnan(found.spearman)
    assert found.error == 0


@pytest.mark.parametrize("method", ["nystrom", "columns"])
def test_agreement_on_sample__is_near_that_of_the_whole_class(method: str) -> None:
    Z = np.random.default_rng(0).normal(size=(5000, 8)) ** 3  # dense and thin places
    sigma = median_sigma(Z, no_rng())
    approximate = {"nystrom": nystrom_relevance, "columns": column_relevance}[method]
    whole = agreement(approximate(Z, sigma, no_rng()), exact_relevance(Z, sigma))
    others = sample_of(5000, {"nystrom": 512, "columns": 1024}[method], no_rng())
    sample = agreement_on_sample(Z, sigma, np.random.default_rng(1), method, others)
    assert sample.n_rows == 2048
    assert sample.spearman == pytest.approx(whole.spearman, abs=0.02)
    assert whole.error / 3 < sample.error < 3 * whole.error


def test_agreement_on_sample__sees_a_bad_approximation() -> None:
    Z = np.random.default_rng(0).normal(size=(4000, 64))
    others = sample_of(4000, 512, no_rng())
    narrow, wide = (
        agreement_on_sample(Z, sigma, no_rng(), "nystrom", others) for sigma in (1.0, 11.0)
    )  # where every row is like itself only, and at the median distance
    assert narrow.error > 0.5 > 0.1 > wide.error


@pytest.mark.parametrize("method", ["exact", "nystrom", "columns"])
def test_relevance_of__notes_how_in_json(method: str) -> None:
    found = relevance_of(blobs(300, 4), no_rng(), method=method)
    notes = json.loads(json.dumps(found.notes, allow_nan=False))
    assert notes["relevance"] == method
    if method != "exact":
        assert notes["spearman"] > 0.999  # every row is a landmark or a column
        assert notes["n_compared"] == 300


def test_relevance_of__comparing_changes_nothing_that_is_drawn() -> None:
    Z, rng, plain = blobs(700, 4), no_rng(), no_rng()
    found = relevance_of(Z, rng, 2.0, "columns")
    np.testing.assert_array_equal(found.values, column_relevance(Z, 2.0, plain))
    assert rng.spawn(1)[0].random() == plain.spawn(1)[0].random()
    assert rng.random() == plain.random()
    assert found.notes == relevance_of(Z, no_rng(), 2.0, "columns").notes


@pytest.mark.parametrize("method", ["exact", "nystrom", "columns"])
def test_relevance__of_equal_rows_is_nothing(method: str) -> None:
    found = relevance_of(np.full((10, 3), 0.1), no_rng(), method=method)
    np.testing.assert_allclose(found.values, 0, atol=1e-12)
    assert found.sigma == 1


def test_median_sigma__is_the_median_over_pairs() -> None:
    Z = blobs(40, 3)
    assert median_sigma(Z, no_rng()) ** 2 == pytest.approx(np.median(pdist(Z) ** 2))


def test_median_sigma__of_mostly_equal_rows_is_over_the_others() -> None:
    Z = np.zeros((10, 1))
    Z[9] = 3
    assert median_sigma(Z, no_rng()) == 3
    assert np.isfinite(exact_relevance(Z, 3.0)).all()
