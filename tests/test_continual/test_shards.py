"""Sharded greedy choice against the plain one, and brute force on small sets."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from continual.selection import choose
from continual.selection.hgr import choose_hgr, choose_k_center
from continual.selection.shards import Sharding

FLOAT32 = 1 + 1e-5  # distances are computed in float32
N_ROWS = 12


def no_rng() -> np.random.Generator:
    return np.random.default_rng(0)


def rows_of(seed: int) -> NDArray[np.float64]:
    """Groups of different sizes, so that a bad shard matters."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(N_ROWS, 2)) + 6 * rng.integers(0, 3, N_ROWS)[:, None]


def radius(Z: NDArray[np.float64], rows: NDArray[np.int64]) -> float:
    return float(cdist(Z, Z[rows]).min(1).max())


def optimum(Z: NDArray[np.float64], n_keep: int) -> float:
    subsets = combinations(range(len(Z)), n_keep)
    return min(radius(Z, np.array(rows)) for rows in subsets)


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 6))
def test_two_rounds__radius_is_at_most_four_times_the_optimum(
    seed: int, n_keep: int, shard_rows: int
) -> None:
    Z = rows_of(seed)
    found = choose_k_center(Z, n_keep, no_rng(), shard_rows=shard_rows, rounds=2)
    assert len(set(found.rows.tolist())) == n_keep
    assert radius(Z, found.rows) <= 4 * optimum(Z, n_keep) * FLOAT32


@given(st.integers(0, 10_000), st.integers(3, 6))
def test_one_round__radius_of_a_shard_is_at_most_twice_its_optimum(seed: int, n_keep: int) -> None:
    Z = rows_of(seed)
    found = choose_k_center(Z, n_keep, no_rng(), shard_rows=5)
    for low, high in pairwise(Sharding(5).bounds(N_ROWS)):
        own = found.rows[(found.rows >= low) & (found.rows < high)]
        best = optimum(Z[low:high], len(own))
        assert radius(Z[low:high], own - low) <= 2 * best * FLOAT32


@pytest.mark.parametrize("rounds", [1, 2])
@pytest.mark.parametrize("choose_rows", [choose_hgr, choose_k_center])
def test_one_shard__is_the_plain_choice(choose_rows, rounds: int) -> None:  # type: ignore[no-untyped-def]
    Z = np.random.default_rng(0).normal(size=(90, 3))
    plain = choose_rows(Z, 9, no_rng())
    found = choose_rows(Z, 9, no_rng(), shard_rows=90, rounds=rounds)
    assert found.rows.tolist() == plain.rows.tolist()
    assert found.score.tolist() == plain.score.tolist()
    assert found.notes == plain.notes


def test_two_rounds__with_all_rows_of_every_shard_are_the_plain_choice() -> None:
    Z = np.random.default_rng(0).normal(size=(40, 3))
    found = choose_hgr(Z, 20, no_rng(), shard_rows=15, rounds=2)
    assert found.rows.tolist() == choose_hgr(Z, 20, no_rng()).rows.tolist()
    assert found.notes == {"relevance": "exact", "lambda_kc": 1.0, "shards": 3, "rounds": 2}


@given(st.integers(1, 200), st.integers(1, 60), st.integers(1, 200))
def test_one_round__takes_rows_of_shards_in_proportion(
    n_rows: int, shard_rows: int, n_keep: int
) -> None:
    n_keep = min(n_keep, n_rows)
    Z = np.random.default_rng(n_rows).normal(size=(n_rows, 2))
    rows = choose_k_center(Z, n_keep, no_rng(), shard_rows=shard_rows).rows
    assert len(set(rows.tolist())) == n_keep
    bounds = Sharding(shard_rows).bounds(n_rows)
    sizes = np.diff(bounds)
    assert max(sizes) <= shard_rows
    assert np.ptp(sizes) <= 1
    counts = np.histogram(rows, bounds)[0]
    assert np.all(np.abs(counts - n_keep * sizes / n_rows) < 1)


def test_one_round__begins_with_the_first_of_every_shard() -> None:
    Z = np.random.default_rng(0).normal(size=(30, 2))
    rows = choose_k_center(Z, 6, no_rng(), shard_rows=10).rows
    assert (rows // 10).tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("rounds", [1, 2])
@pytest.mark.parametrize("name", ["hgr", "k_center"])
def test_shards__of_every_class_keep_as_many(name: str, rounds: int) -> None:
    Z, y = np.random.default_rng(0).normal(size=(300, 4)), np.repeat(["a", "b"], [100, 200])
    found = choose(name, Z, y, 0.1, no_rng(), shard_rows=40, rounds=rounds)
    assert (found.rows < 100).tolist() == [True] * 10 + [False] * 20
    assert {k: v["shards"] for k, v in found.notes.items()} == {"a": 3, "b": 5}
