"""Renaming splits and drawing new ones."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featstore.errors import ConfigError
from featstore.layouts import Record, assign_splits, rename_splits

SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}
FILE_NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)
DEVIATIONS = 4
"""Standard deviations of a binomial count that a share may be off."""


def photo(name: str, label: int = 0, pair: str = "", dataset: str = "d") -> Record:
    return Record(Path(f"{dataset}/{label}/{name}"), label, "real", dataset, "all", pair)


def splits(records: list[Record], seed: int = 0) -> list[str]:
    return [record.split for record in assign_splits(records, SHARES, seed)]


def test_assign_splits__shares_are_met_on_average() -> None:
    n = 20_000
    found = splits([photo(f"{i}.png") for i in range(n)])
    for name, share in SHARES.items():
        off = abs(found.count(name) - n * share)
        assert off < DEVIATIONS * math.sqrt(n * share * (1 - share))


def test_assign_splits__pairs_stay_together() -> None:
    pairs = [(photo(f"r{i}", 0, f"p{i}"), photo(f"f{i}", 1, f"p{i}")) for i in range(200)]
    assert splits([real for real, _ in pairs]) == splits([fake for _, fake in pairs])


def test_assign_splits__same_stem_stays_together() -> None:
    names = [f"{i}.v1" for i in range(200)]
    jpegs, pngs = ([photo(f"{n}.{suffix}") for n in names] for suffix in ("JPG", "png"))
    assert splits(jpegs) == splits(pngs)


@given(st.lists(FILE_NAMES, unique=True))
def test_assign_splits__do_not_depend_on_the_other_images(names: list[str]) -> None:
    records = [photo(name) for name in names]
    assert splits(records) == [splits([record])[0] for record in records]


def test_assign_splits__seed_and_dataset_change_the_draw() -> None:
    records = [photo(f"{i}.png") for i in range(100)]
    elsewhere = [record._replace(dataset="e") for record in records]
    assert splits(records) == splits(records)
    assert splits(records) != splits(records, seed=1)
    assert splits(records) != splits(elsewhere)


def test_assign_splits__only_the_split_changes() -> None:
    record = photo("a.png", 1, "p")
    [moved] = assign_splits([record], {"test": 1.0})
    assert moved == record._replace(split="test")


@pytest.mark.parametrize("shares", [{}, {"a": 0.5}, {"a": 1.5, "b": -0.5}, {"a": 1.0, "b": 0.0}])
def test_assign_splits__shares_must_add_up(shares: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="add up to 1"):
        assign_splits([photo("a")], shares)


def test_rename_splits__only_what_is_named() -> None:
    records = [photo("a")._replace(split=name) for name in ("train", "val")]
    assert [r.split for r in rename_splits(records, {"val": "test"})] == ["train", "test"]


def test_rename_splits__unknown_name() -> None:
    with pytest.raises(ConfigError, match="unknown split to rename 'vall'"):
        rename_splits([photo("a")._replace(split="val")], {"vall": "test"})
