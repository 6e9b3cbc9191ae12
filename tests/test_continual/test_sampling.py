"""Choice by chance: the chances."""

import numpy as np
import pytest
from scipy.stats import binom

from continual.selection import Reservoir, select

N_SEEDS = 2000


def no_rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_reservoir__balances_classes_and_keeps_every_row_of_rare_ones() -> None:
    labels = ["many"] * 500 + ["few"] * 5
    reservoir = Reservoir(20, no_rng())
    reservoir.offer(range(505), labels)
    kept = reservoir.rows()
    assert kept["few"].tolist() == [500, 501, 502, 503, 504]
    assert len(kept["many"]) == 15


@pytest.mark.parametrize(
    "labels",
    [[0] * 30, [0, 1] * 15, [0] * 20 + [1] * 10, [0, 0, 0, 1] * 8],
    ids=["one class", "in turn", "one after the other", "three to one"],
)
def test_reservoir__rows_of_a_class_are_kept_with_equal_chances(labels: list[int]) -> None:
    capacity, y = 6, np.array(labels)
    counts = np.zeros(len(y))
    for seed in range(N_SEEDS):
        reservoir = Reservoir(capacity, np.random.default_rng(seed))
        reservoir.offer(range(len(y)), labels)
        counts[np.concatenate(list(reservoir.rows().values()))] += 1
    share = capacity / len(np.unique(y))
    for label in np.unique(y):
        own = counts[y == label]
        assert own.sum() == N_SEEDS * share
        low, high = binom.interval(1 - 1e-4 / len(y), N_SEEDS, share / len(own))
        assert low <= own.min()
        assert own.max() <= high


def test_random__rows_of_a_class_are_kept_with_equal_chances() -> None:
    y = np.array([0] * 20 + [1] * 10)
    counts = np.zeros(30)
    for seed in range(N_SEEDS):
        counts[select("random", None, y, 3, np.random.default_rng(seed))] += 1
    for own in (counts[:20], counts[20:]):
        low, high = binom.interval(1 - 1e-4 / 30, N_SEEDS, 3 / len(own))
        assert low <= own.min()
        assert own.max() <= high


def test_reservoir__room_is_what_is_kept_of_all_classes_and_shared_equally() -> None:
    y = np.array([0] * 90 + [1] * 10)
    rows = select("reservoir", None, y, 0.1, no_rng())
    assert np.bincount(y[rows]).tolist() == [5, 5]


def test_reservoir__needs_room() -> None:
    with pytest.raises(ValueError, match="'capacity' must be at least 1, got 0"):
        Reservoir(0, no_rng())
