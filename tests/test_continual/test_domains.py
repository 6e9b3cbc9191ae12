"""Rows of domains, and what the steps of a stream bring."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.streams import config, store_of_many_generators

from continual.config import StreamRun
from continual.domains import domains_of, steps_of
from featstore.errors import ConfigError
from featstore.simulate import simulate_store
from featstore.store import Store

N_ROWS = 40


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("domains") / "s.zarr"
    return simulate_store(path, datasets=("a", "b", "c"), n_samples=N_ROWS, n_layers=1)


def run(*order: str, seed: int = 0) -> StreamRun:
    return StreamRun(order, seed, "fine_tune")


def steps(store: Store, *order: str, seed: int = 0, **changes: Any) -> list[Any]:
    study = config(store, Path("unused"), **changes)
    return steps_of(study, run(*order, seed=seed), domains_of(study, store, order, "train"))


def test_domains__datasets_have_the_rows_of_a_selection(store: Store) -> None:
    domains = domains_of(config(store, Path("unused")), store, ["c", "a"], "train")
    for name in ("a", "c"):
        expected = store.select(dataset=name, split="train")["sample_id"].values
        found = domains.select(domains.rows[name])["sample_id"].values
        assert set(found) == set(expected)
        assert len(found) == len(expected)


def test_domains__adjoining_rows_are_the_same_rows_without_a_copy(store: Store) -> None:
    domains = domains_of(config(store, Path("unused")), store, ["a", "b"], "train")
    rows = domains.rows["b"]
    found, expected = domains.select(rows), domains.ds.isel(sample=rows)
    assert found.identical(expected)
    assert np.shares_memory(found["row"].values, domains.ds["row"].values)
    assert domains.select(rows[::-1]).identical(expected.isel(sample=slice(None, None, -1)))
    assert domains.select(rows[:0]).sizes["sample"] == 0


def test_domains__generators_come_with_real_images_of_their_datasets_alone(store: Store) -> None:
    study = config(store, Path("unused"), domain="generator")
    domains = domains_of(study, store, ["b"], "train")
    expected = store.select(dataset="b", split="train")["sample_id"].values
    assert set(domains.select(domains.rows["b"])["sample_id"].values) == set(expected)


def test_domains__unknown_generators_are_named(store: Store) -> None:
    with pytest.raises(ConfigError, match="unknown generator 'd'"):
        domains_of(config(store, Path("unused"), domain="generator"), store, ["d"], "train")


def test_steps__every_row_of_a_domain_comes_once(store: Store) -> None:
    found = steps(store, "b", "a", "c")
    assert [step.name for step in found] == ["b", "a", "c"]
    assert sorted(np.concatenate([step.rows for step in found])) == list(range(3 * N_ROWS))


def test_steps__a_domain_that_comes_again_brings_other_rows_of_both_classes(store: Store) -> None:
    found = steps(store, "a", "b", "a")
    assert [step.name for step in found] == ["a", "b", "a (2)"]
    first, again = found[0].rows, found[2].rows
    domains = domains_of(config(store, Path("unused")), store, ["a", "b"], "train")
    assert sorted(np.concatenate((first, again))) == domains.rows["a"].tolist()
    for rows in (first, again):
        labels = domains.ds["label"].values[rows]
        assert np.bincount(labels).tolist() == [N_ROWS // 4] * 2


@pytest.mark.parametrize(("ratio", "expected"), [(5, [4, 20]), (10, [2, 20]), (0.2, [20, 4])])
def test_steps__imbalance_has_so_many_fakes_per_real_image(
    store: Store, ratio: float, expected: list[int]
) -> None:
    domains = domains_of(config(store, Path("unused")), store, ["a", "b"], "train")
    for step in steps(store, "a", "b", ratio=ratio):
        assert np.bincount(domains.ds["label"].values[step.rows]).tolist() == expected


def test_steps__blur_brings_rows_of_neighbours_and_loses_none(store: Store) -> None:
    found = steps(store, "a", "b", "c", blur=0.5)
    assert sorted(np.concatenate([step.rows for step in found])) == list(range(3 * N_ROWS))
    domains = domains_of(config(store, Path("unused")), store, ["a", "b", "c"], "train")
    own = [len(np.intersect1d(step.rows, domains.rows[step.domain])) for step in found]
    assert own == [30, 20, 30]


def test_steps__depend_on_the_seed_alone(store: Store) -> None:
    one, two, other = (steps(store, "a", "b", seed=s, blur=0.5) for s in (0, 0, 1))
    assert all((x.rows == y.rows).all() for x, y in zip(one, two, strict=True))
    assert any((x.rows != y.rows).any() for x, y in zip(one, other, strict=True))


@pytest.mark.parametrize("changes", [{"ratio": 5}, {}])
def test_steps__which_rows_a_domain_brings_does_not_depend_on_the_order(
    store: Store, changes: dict[str, Any]
) -> None:
    study = config(store, Path("unused"), **changes)
    one, two = (
        {
            step.name: sorted(domains.select(step.rows)["sample_id"].values)
            for step in steps_of(study, run(*order), domains)
        }
        for order in (("a", "b", "a", "c"), ("c", "a", "a", "b"))
        for domains in [domains_of(study, store, order, "train")]
    )
    assert one == two


def test_domains__hold_no_other_rows(tmp_path: Path) -> None:
    store = store_of_many_generators(tmp_path / "s.zarr")
    study = config(store, tmp_path, domain="generator")
    domains = domains_of(study, store, ["a1", "a0"], "train")
    expected = store.select(dataset="a", split="train")["sample_id"].values
    assert sorted(domains.ds["sample_id"].values) == sorted(expected)
    for name, rows in domains.rows.items():
        own = domains.select(rows)
        found = np.array(own.attrs["generators"])[own["generator"].values]
        assert set(found) == {"real", name}
