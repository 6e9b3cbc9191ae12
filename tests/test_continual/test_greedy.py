"""The greedy choice, compiled and in torch, against plain loops and known answers."""

from collections.abc import Callable
from functools import partial
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from threadpoolctl import threadpool_limits

from continual.selection.greedy import BLOCK, greedy
from continual.selection.on_torch import greedy_on

Greedy = Callable[..., tuple[NDArray[np.int64], NDArray[np.float64]]]

ENGINES = {"compiled": greedy, "torch": partial(greedy_on, device="cpu")}
FLOAT32 = 1 + 1e-6  # distances of rows that are not whole numbers
either = pytest.mark.parametrize("choose", ENGINES.values(), ids=ENGINES)


class Case(NamedTuple):
    """What `greedy` is given besides a number of rows and a weight."""

    Z: NDArray[np.float64]
    bonus: NDArray[np.float64]
    start: NDArray[np.float64]


def whole_numbers(seed: int, n_rows: int) -> Case:
    """An even number of rows of mean 0 whose distances float32 holds exactly; many are equal."""
    rng = np.random.default_rng(seed)
    half = rng.integers(-3, 4, size=(n_rows // 2, 2))
    Z = rng.permutation(np.concatenate([half, -half])).astype(float)
    return Case(Z, rng.integers(0, 3, n_rows) / 4, rng.integers(0, 3, n_rows) / 4)


def one_by_one(case: Case, n_keep: int, weight: float) -> tuple[list[int], list[float]]:
    """The definition, in float64."""
    rows: list[int] = []
    score = []
    for _ in range(n_keep):
        value = case.start + case.bonus
        if rows:
            distance = cdist(case.Z, case.Z[rows], "sqeuclidean").min(1)
            scale = weight / distance.max() if distance.max() > 0 else 0.0
            value = scale * distance + case.bonus
        value[rows] = -np.inf
        rows.append(int(np.argmax(value)))
        score.append(value[rows[-1]])
    return rows, score


@either
@pytest.mark.parametrize("n_keep", [1, 2, 3, 4])
def test_greedy__worked_example(choose: Greedy, n_keep: int) -> None:
    Z = np.arange(11.0)[:, None]
    rows, _ = choose(Z, n_keep, 1.0, np.zeros(11), Z[:, 0] == 0)
    assert rows.tolist() == [0, 10, 5, 2][:n_keep]
    assert cdist(Z, Z[rows]).min(1).max() == [10, 5, 2, 2][n_keep - 1]


@either
@given(
    st.integers(0, 10_000),
    st.sampled_from([2, 20, BLOCK - 2, BLOCK, BLOCK + 2, 3 * BLOCK + 100]),
    st.sampled_from([0.0, 0.3, 1.0, 3.0]),
)
def test_greedy__is_the_definition_step_by_step(
    choose: Greedy, seed: int, n_rows: int, weight: float
) -> None:
    case, n_keep = whole_numbers(seed, n_rows), min(n_rows, 12)
    rows, score = choose(case.Z, n_keep, weight, case.bonus, case.start)
    expected_rows, expected_score = one_by_one(case, n_keep, weight)
    assert rows.tolist() == expected_rows
    assert score.tolist() == expected_score


@either
def test_greedy__of_equal_rows_takes_each_once(choose: Greedy) -> None:
    rows, score = choose(np.full((7, 3), 0.1), 7, 1.0, np.zeros(7), np.zeros(7))
    assert rows.tolist() == list(range(7))
    assert score.tolist() == [0.0] * 7


@either
@given(st.integers(0, 10_000))
def test_greedy__copies_of_chosen_rows_cover_nothing(choose: Greedy, seed: int) -> None:
    rng = np.random.default_rng(seed)
    few = rng.normal(size=(8, 64)) + 3
    copies = rng.permutation(np.repeat(np.arange(8), 5))
    bonus = (copies == 5) / 8
    rows, score = choose(few[copies], 12, 1.0, bonus, np.zeros(40))
    assert sorted(copies[rows[:8]]) == list(range(8))
    assert copies[rows[8:]].tolist() == [5] * 4
    assert score[8:].tolist() == [1 / 8] * 4


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_greedy__sees_small_distances_beside_a_distant_row(device: str) -> None:
    Z = np.random.default_rng(0).normal(size=(100, 2))
    Z[7] = 1e4
    rows, _ = greedy(Z, 10, 1.0, np.zeros(100), np.arange(100) == 7, device=device)
    exact, _ = one_by_one(Case(Z, np.zeros(100), np.arange(100) == 7), 10, 1.0)
    assert rows.tolist() == exact


@either
@given(st.integers(0, 10_000), st.integers(2, 4))
def test_greedy__radius_is_at_most_twice_the_optimum(
    choose: Greedy, seed: int, n_keep: int
) -> None:
    Z = np.random.default_rng(seed).normal(size=(12, 2))
    D = cdist(Z, Z)
    best = min(D[:, list(rows)].min(1).max() for rows in combinations(range(12), n_keep))
    rows, _ = choose(Z, n_keep, 1.0, np.zeros(12), np.zeros(12))
    assert D[:, rows].min(1).max() <= 2 * best * FLOAT32


@either
@given(st.integers(0, 10_000))
def test_greedy__radius_never_grows(choose: Greedy, seed: int) -> None:
    Z = np.random.default_rng(seed).normal(size=(60, 3))
    rows, _ = choose(Z, 20, 1.0, np.zeros(60), np.zeros(60))
    radii = [cdist(Z, Z[rows[:k]]).min(1).max() for k in range(1, 21)]
    assert np.all(np.diff(radii) <= 0)


@pytest.mark.parametrize("seed", range(4))
def test_greedy__does_not_depend_on_the_number_of_threads(seed: int) -> None:
    n_rows = 20_003  # so many, and odd, that threads round products of rows differently
    Z = np.random.default_rng(seed).normal(size=(n_rows, 37))
    found = []
    for n_threads in (1, 2):
        with threadpool_limits(n_threads):
            found.append(greedy(Z, 12, 1.0, np.zeros(n_rows), np.zeros(n_rows))[0].tolist())
    assert found[0] == found[1]


def test_greedy__where_torch_computes_is_the_same() -> None:
    case = whole_numbers(0, 2000)
    found, expected = (
        greedy(case.Z, 50, 0.7, case.bonus, case.start, device=device) for device in ("auto", "cpu")
    )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_greedy__on_a_gpu_chooses_as_on_the_cpu() -> None:
    case = whole_numbers(0, 4000)
    found, expected = (
        greedy(case.Z, 50, 0.7, case.bonus, case.start, device=device) for device in ("cuda", "cpu")
    )
    np.testing.assert_array_equal(found, expected)


def test_greedy__a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="'device' must be there, got 'cuda:99'"):
        greedy(np.eye(2), 1, 1.0, np.zeros(2), np.zeros(2), device="cuda:99")
