"""Selections against worked examples, brute force, and what theory promises."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.stats import binom
from threadpoolctl import threadpool_limits

from continual.selection import SELECTIONS, Reservoir, n_kept, select
from continual.selection.greedy import greedy, min_max
from continual.selection.hgr import choose_hgr, choose_k_center, relevance_of
from continual.selection.relevance import (
    agreement,
    column_relevance,
    exact_relevance,
    median_sigma,
    nystrom_relevance,
)
from featstore.errors import ConfigError
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


@pytest.mark.parametrize(
    ("lambda_kc", "picks"),
    [(0, [4, 3, 5, 1]), (0.5, [5, 3, 4, 1]), (1, [5, 3, 4, 1]), (2, [5, 1, 4, 3])],
)
def test_hgr__worked_example(lambda_kc: float, picks: list[int]) -> None:
    found = choose_hgr(WORKED, 4, no_rng(), lambda_kc=lambda_kc, sigma=2.0)
    assert found.tolist() == picks


def test_hgr__large_weight_of_coverage_is_k_center() -> None:
    assert choose_hgr(WORKED, 4, no_rng(), lambda_kc=1e6, sigma=2.0).tolist() == [5, 0, 4, 2]
    assert choose_k_center(WORKED, 4, no_rng(), start=5).tolist() == [5, 0, 4, 2]


def brute_force_hgr(
    Z: NDArray[np.float64], n_keep: int, lambda_kc: float, sigma: float
) -> list[int]:
    """The definition, step by step."""
    relevance = min_max(dense_relevance(Z, sigma))
    chosen: list[int] = []
    for _ in range(n_keep):
        to = Z[chosen] if chosen else Z.mean(0)[None]
        distance = min_max(cdist(Z, to, "sqeuclidean").min(1))
        score = (1 - relevance) + lambda_kc * (1 - distance)
        score[chosen] = np.inf
        chosen.append(int(np.argmin(score)))
    return chosen


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.3, 1.0, 3.0]))
def test_hgr__is_the_definition_step_by_step(seed: int, lambda_kc: float) -> None:
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(int(rng.integers(6, 60)), 3))
    found = choose_hgr(Z, 5, no_rng(), lambda_kc=lambda_kc, sigma=1.5)
    assert found.tolist() == brute_force_hgr(Z, 5, lambda_kc, 1.5)


@pytest.mark.parametrize("n_keep", [1, 2, 3, 4])
def test_k_center__worked_example(n_keep: int) -> None:
    Z = np.arange(11.0)[:, None]
    chosen = choose_k_center(Z, n_keep, no_rng(), start=0)
    assert chosen.tolist() == [0, 10, 5, 2][:n_keep]
    assert cdist(Z, Z[chosen]).min(1).max() == [10, 5, 2, 2][n_keep - 1]


@given(st.integers(0, 10_000), st.integers(2, 4))
def test_k_center__radius_is_at_most_twice_the_optimum(seed: int, n_keep: int) -> None:
    Z = np.random.default_rng(seed).normal(size=(12, 2))
    D = cdist(Z, Z)
    best = min(D[:, list(rows)].min(1).max() for rows in combinations(range(12), n_keep))
    assert D[:, choose_k_center(Z, n_keep, no_rng())].min(1).max() <= 2 * best * (1 + 1e-6)


@given(st.integers(0, 1000))
def test_greedy__does_not_depend_on_the_number_of_threads(seed: int) -> None:
    rng = np.random.default_rng(seed)
    Z = rng.integers(0, 3, size=(40, 2)).astype(float)  # many ties
    found = []
    for n_threads in (1, 2):
        with threadpool_limits(n_threads):
            found.append(greedy(Z, 12, 1.0, np.zeros(40), np.zeros(40)).tolist())
    assert found[0] == found[1]
    assert len(set(found[0])) == 12


def test_herding__worked_example() -> None:
    Z = np.array([[0, 0], [1, 0], [0, 1], [1, 1], [4, 4]], float)
    chosen = select("herding", Z, np.zeros(5), 3, no_rng())
    assert chosen.tolist() == [3, 1, 2]
    steps = [np.linalg.norm(Z.mean(0) - Z[chosen[:k]].mean(0)) for k in (1, 2, 3)]
    np.testing.assert_allclose(steps, [0.282843, 0.728011, 0.754247], atol=1e-6)


@given(st.integers(0, 1000))
def test_herding__is_the_definition_step_by_step(seed: int) -> None:
    Z = np.random.default_rng(seed).normal(size=(20, 3)) + 10
    chosen: list[int] = []
    for k in range(1, 7):
        gaps = np.linalg.norm(Z.mean(0) - (Z + Z[chosen].sum(0)) / k, axis=1)
        gaps[chosen] = np.inf
        chosen.append(int(np.argmin(gaps)))
    assert select("herding", Z, np.zeros(20), 6, no_rng()).tolist() == chosen


def test_nystrom__with_every_row_a_landmark_is_exact() -> None:
    Z = blobs(200, 6)
    exact = dense_relevance(Z, 3.0)
    np.testing.assert_allclose(nystrom_relevance(Z, 3.0, no_rng(), 200), exact, rtol=1e-4)


def test_approximations__rank_like_the_exact_values() -> None:
    Z = blobs(2000, 64)
    sigma = median_sigma(Z, no_rng())
    exact = exact_relevance(Z, sigma)
    assert agreement(nystrom_relevance(Z, sigma, no_rng(), 512), exact).spearman >= 0.99
    columns = agreement(column_relevance(Z, sigma, no_rng(), 1024), exact)
    assert columns.spearman >= 0.98
    assert columns.error < 0.05
    assert agreement(column_relevance(Z, sigma, no_rng(), 2000), exact).error < 1e-5


def test_relevance__of_equal_rows_is_nothing() -> None:
    Z = np.ones((10, 3))
    np.testing.assert_allclose(relevance_of(Z, no_rng()), 0, atol=1e-12)
    assert choose_hgr(Z, 3, no_rng()).tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", [*SELECTIONS, "reservoir"])
def test_select__keeps_rows_of_every_class_the_same_for_a_seed(name: str) -> None:
    Z, y = blobs(90, 4), np.repeat([0, 1, 2], 30)
    first, again = (select(name, Z, y, 5, np.random.default_rng(3)) for _ in range(2))
    assert first.tolist() == again.tolist()
    assert len(set(first.tolist())) == 15
    if name != "reservoir":
        assert np.bincount(y[first]).tolist() == [5, 5, 5]
        assert sorted(select(name, Z, y, 30, np.random.default_rng(0))) == list(range(90))


@pytest.mark.parametrize("name", sorted(SELECTIONS))
def test_select__float32_and_float64_choose_alike(name: str) -> None:
    Z = blobs(50, 4).astype(np.float32)
    chosen = [select(name, part, np.zeros(50), 9, no_rng()) for part in (Z, Z.astype(float))]
    assert chosen[0].tolist() == chosen[1].tolist()


def test_select__mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match=r"'herdin'.*did you mean 'herding'"):
        select("herdin", WORKED, np.zeros(6), 1, no_rng())
    with pytest.raises(ConfigError, match="'keep' must be"):
        n_kept(3, 0)


def test_reservoir__balances_classes_and_keeps_every_row_of_rare_ones() -> None:
    labels = ["many"] * 500 + ["few"] * 5
    reservoir = Reservoir(20, no_rng())
    reservoir.offer(range(505), labels)
    kept = reservoir.rows()
    assert kept["few"].tolist() == [500, 501, 502, 503, 504]
    assert len(kept["many"]) == 15


@pytest.mark.slow
def test_reservoir__rows_of_a_class_are_kept_with_equal_chances() -> None:
    n_seeds, n_rows, capacity = 2000, 30, 6
    counts = np.zeros(n_rows)
    for seed in range(n_seeds):
        reservoir = Reservoir(capacity, np.random.default_rng(seed))
        reservoir.offer(range(n_rows), [0] * n_rows)
        counts[reservoir.rows()[0]] += 1
    low, high = binom.interval(1 - 1e-4 / n_rows, n_seeds, capacity / n_rows)
    assert low <= counts.min()
    assert counts.max() <= high
