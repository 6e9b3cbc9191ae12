"""HGR and k-center against worked examples, the definition, and what theory promises."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from continual.selection.class_relevance import relevance_of
from continual.selection.greedy import min_max
from continual.selection.hgr import choose_hgr, choose_k_center, choose_relevant
from featstore.errors import ConfigError
from heads.hsic.statistics import center_gram, rbf_gram

WORKED = np.array([0, 1, 2, 10, 11, 30], float)[:, None]
FLOAT32 = 1 + 1e-6  # distances are computed in float32


def no_rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    ("lambda_kc", "picks"),
    [
        (0, [4, 3, 5, 1]),
        (0.5, [5, 3, 4, 1]),
        (1, [5, 3, 4, 1]),
        (2, [5, 1, 4, 3]),
        (1e6, [5, 0, 4, 2]),
    ],
)
def test_hgr__worked_example(lambda_kc: float, picks: list[int]) -> None:
    found = choose_hgr(WORKED, 4, no_rng(), lambda_kc=lambda_kc, sigma=2.0)
    assert found.rows.tolist() == picks
    assert found.sigma.tolist() == [2.0] * 4
    assert found.notes == {"relevance": "exact", "lambda_kc": lambda_kc}


def brute_force_hgr(
    Z: NDArray[np.float64], n_keep: int, lambda_kc: float, sigma: float
) -> tuple[list[int], list[float]]:
    """The definition, step by step: rows, and what each was minimal by."""
    centred = center_gram(rbf_gram(cdist(Z, Z, "sqeuclidean"), sigma))
    relevance = min_max((centred**2).sum(1))
    chosen: list[int] = []
    scores: list[float] = []
    for _ in range(n_keep):
        to = Z[chosen] if chosen else Z.mean(0)[None]
        distance = min_max(cdist(Z, to, "sqeuclidean").min(1))
        score = (1 - relevance) + lambda_kc * (1 - distance)
        score[chosen] = np.inf
        chosen.append(int(np.argmin(score)))
        scores.append(float(score[chosen[-1]]))
    return chosen, scores


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.3, 1.0, 3.0]))
def test_hgr__is_the_definition_step_by_step(seed: int, lambda_kc: float) -> None:
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(int(rng.integers(6, 60)), 3))
    found = choose_hgr(Z, 5, no_rng(), lambda_kc=lambda_kc, sigma=1.5)
    rows, scores = brute_force_hgr(Z, 5, lambda_kc, 1.5)
    assert found.rows.tolist() == rows
    np.testing.assert_allclose(1 + lambda_kc - found.score, scores, atol=1e-5)


def test_hgr__of_equal_rows_takes_the_first() -> None:
    assert choose_hgr(np.ones((10, 3)), 3, no_rng()).rows.tolist() == [0, 1, 2]


def test_relevance_only__is_hgr_without_coverage() -> None:
    Z = np.random.default_rng(0).normal(size=(80, 3))
    found = choose_relevant(Z, 9, no_rng())
    assert found.rows.tolist() == choose_hgr(Z, 9, no_rng(), lambda_kc=0).rows.tolist()
    np.testing.assert_array_equal(found.score, relevance_of(Z, no_rng()).values[found.rows])


@pytest.mark.parametrize("device", ["cpu", "auto"])
@pytest.mark.parametrize("n_rows", [60, 1500])
def test_relevance__that_rounding_alone_tells_apart_counts_as_equal(
    n_rows: int, device: str
) -> None:
    Z = np.random.default_rng(0).normal(size=(n_rows, 4))
    narrow = 1e-6  # the kernel is the identity
    relevant = choose_relevant(Z, 5, no_rng(), sigma=narrow, device=device)
    assert relevant.rows.tolist() == [0, 1, 2, 3, 4]
    covering = choose_hgr(Z, 9, no_rng(), sigma=narrow, device=device)
    assert covering.rows.tolist() == choose_k_center(Z, 9, no_rng()).rows.tolist()


@pytest.mark.parametrize("n_keep", [1, 2, 3, 4])
def test_k_center__worked_example(n_keep: int) -> None:
    Z = np.arange(11.0)[:, None]
    found = choose_k_center(Z, n_keep, no_rng(), start=0)
    assert found.rows.tolist() == [0, 10, 5, 2][:n_keep]
    assert cdist(Z, Z[found.rows]).min(1).max() == [10, 5, 2, 2][n_keep - 1]


@given(st.integers(0, 10_000), st.integers(2, 4))
def test_k_center__radius_is_at_most_twice_the_optimum(seed: int, n_keep: int) -> None:
    Z = np.random.default_rng(seed).normal(size=(12, 2))
    D = cdist(Z, Z)
    best = min(D[:, list(rows)].min(1).max() for rows in combinations(range(12), n_keep))
    rows = choose_k_center(Z, n_keep, no_rng()).rows
    assert D[:, rows].min(1).max() <= 2 * best * FLOAT32


@given(st.integers(0, 1000))
def test_k_center__score_is_the_radius_of_the_rows_before(seed: int) -> None:
    Z = np.random.default_rng(seed).normal(size=(40, 3)) + 100
    found = choose_k_center(Z, 12, no_rng())
    assert found.score[0] == pytest.approx(np.linalg.norm(Z - Z.mean(0), axis=1).max())
    for k in range(1, 12):
        radius = cdist(Z, Z[found.rows[:k]]).min(1).max()
        assert found.score[k] == pytest.approx(radius, rel=1e-4)  # up to ties in float32


def test_k_center__start_is_a_row() -> None:
    with pytest.raises(ConfigError, match=r"'start' must be a row.*6 rows, got 6"):
        choose_k_center(WORKED, 2, no_rng(), start=6)
