"""Orders and rows of streams."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from continual.streams import blurred, imbalanced, in_time, orders
from featstore.errors import ConfigError

TAILS = ["nersemble", "NHA", "GAGAvatar"]


def test_orders__all_of_three_tails_after_the_base() -> None:
    found = orders(TAILS, base="sdv4")
    assert [order[1:] for order in found] == list(permutations(TAILS))
    assert {order[0] for order in found} == {"sdv4"}


def test_orders__a_draw_is_of_different_orders_and_the_same_for_a_seed() -> None:
    domains = [f"d{i}" for i in range(8)]
    found = orders(domains, 10, seed=3)
    assert len(set(found)) == 10
    assert all(sorted(order) == domains for order in found)
    assert found == orders(domains, 10, seed=3)
    assert found != orders(domains, 10, seed=4)
    assert len(orders(TAILS, 100)) == 6


def test_orders__a_domain_named_twice_comes_twice() -> None:
    assert orders(["a", "a", "b"]) == [("a", "a", "b"), ("a", "b", "a"), ("b", "a", "a")]


def test_orders__nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="orders need domains"):
        orders([])
    with pytest.raises(ConfigError, match="at least one order"):
        orders(TAILS, 0)


def test_in_time__domains_by_their_first_row() -> None:
    assert in_time(["x", "y", "x", "z"], [5, 3, 1, 3]) == ("x", "y", "z")


@given(st.integers(1, 50), st.integers(1, 50), st.sampled_from([0.1, 0.2, 1, 5, 10]))
def test_imbalanced__has_the_ratio_to_a_row(n_real: int, n_fake: int, ratio: float) -> None:
    label = np.repeat([0, 1], [n_real, n_fake])
    if n_fake < ratio or n_real < 1 / ratio:
        with pytest.raises(ConfigError, match="rows enough for one of the rarer class"):
            imbalanced(label, ratio, np.random.default_rng(0))
        return
    rows = imbalanced(label, ratio, np.random.default_rng(0))
    kept_real, kept_fake = np.bincount(label[rows], minlength=2)
    assert abs(kept_fake - kept_real * ratio) <= max(1, ratio) / 2 + 0.5
    assert kept_real == n_real or kept_fake >= n_fake - max(1, ratio)
    assert len(set(rows.tolist())) == len(rows)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), st.floats(0, 0.99))
def test_blurred__every_row_comes_once_with_its_domain_or_a_neighbour(
    sizes: list[int], blur: float
) -> None:
    steps = blurred(sizes, blur, np.random.default_rng(1))
    assert sorted(np.concatenate(steps).tolist()) == list(range(sum(sizes)))
    domain = np.repeat(np.arange(len(sizes)), sizes)
    for number, rows in enumerate(steps):
        assert (np.abs(domain[rows] - number) <= 1).all()


def test_blurred__moves_the_fraction_asked_for() -> None:
    steps = blurred([100, 100, 100], 0.2, np.random.default_rng(0))
    domain = np.repeat(np.arange(3), 100)
    counts = [np.bincount(domain[rows], minlength=3).tolist() for rows in steps]
    assert counts == [[90, 10, 0], [10, 80, 10], [0, 10, 90]]
    sharp = blurred([2, 3], 0, np.random.default_rng(0))
    assert [rows.tolist() for rows in sharp] == [[0, 1], [2, 3, 4]]


def test_streams__mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="'blur' must be"):
        blurred([1], 1.0, np.random.default_rng(0))
    with pytest.raises(ConfigError, match="rows enough"):
        imbalanced([0, 0], 1, np.random.default_rng(0))
