"""A memory keeps row ids, finds them again in the store, and comes back as it was saved."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from continual.memory import ReplayMemory
from continual.selection.choice import choice_of
from featstore.errors import ConfigError, SchemaError
from featstore.simulate import simulate_store
from featstore.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return simulate_store(tmp_path_factory.mktemp("memory") / "s.zarr", n_samples=40, n_layers=2)


def filled(store: Store) -> ReplayMemory:
    memory = ReplayMemory()
    for dataset, rows in (("a", [5, 3, 11]), ("b", [0, 1, 2, 39])):
        ds = store.select(dataset=dataset, split="train")
        memory.remember(ds, choice_of(np.array(rows)), dataset, {"selection": "hgr", "sigma": 1.5})
    return memory


def test_select__returns_the_features_of_the_rows_kept(store: Store) -> None:
    ds = filled(store).select(store, layer="block.1")
    expected = [
        store.select(dataset=name, split="train", layer="block.1").isel(sample=rows)["cls"].values
        for name, rows in (("a", [3, 5, 11]), ("b", [0, 1, 2, 39]))
    ]
    np.testing.assert_array_equal(ds["cls"].values, np.concatenate(expected))


def test_remember__a_domain_seen_again_replaces_its_rows(store: Store) -> None:
    memory = filled(store)
    ds = store.select(dataset="a", split="train")
    memory.remember(ds, choice_of(np.array([7])), "a", {"selection": "random"})
    assert memory.rows.groupby("domain").size().to_dict() == {"a": 1, "b": 4}
    assert memory.choices["a"] == {"selection": "random"}


def test_remember__keeps_score_bandwidth_and_logit_of_every_row(
    store: Store, tmp_path: Path
) -> None:
    ds = store.select(dataset="a", split="train")
    memory = ReplayMemory()
    chosen = choice_of(np.array([5, 3]), np.array([0.5, 0.25]), 1.5)
    memory.remember(ds, chosen, "a", {"lambda_kc": 2.0}, np.array([-1.0, 4.0]))
    memory.save(tmp_path / "m")
    rows = ReplayMemory.load(tmp_path / "m").rows
    assert rows[["score", "sigma", "logit"]].to_numpy().tolist() == [[0.5, 1.5, -1], [0.25, 1.5, 4]]
    assert memory.select(store)["logit"].values.tolist() == [4, -1]


def test_remember__rank_is_the_order_of_choice_within_a_class(store: Store) -> None:
    memory = filled(store)
    for _, rows in memory.rows.groupby(["domain", "label"]):
        assert rows["rank"].tolist() == list(range(len(rows)))


def test_shrink__shares_equally_and_keeps_what_was_chosen_first(store: Store) -> None:
    memory = ReplayMemory()
    for dataset in ("a", "b"):
        ds = store.select(dataset=dataset, split="train")
        memory.remember(ds, choice_of(np.arange(40)), dataset, {})
    memory.shrink(20)
    sizes = memory.rows.groupby(["domain", "label"]).size()
    assert sizes.tolist() == [5, 5, 5, 5]
    assert memory.rows["rank"].max() == 4
    with pytest.raises(ConfigError, match="a row of each of 4 classes and domains, got 3"):
        memory.shrink(3)


def test_memory__comes_back_equal(store: Store, tmp_path: Path) -> None:
    memory = filled(store)
    memory.save(tmp_path / "m")
    again = ReplayMemory.load(tmp_path / "m")
    pd.testing.assert_frame_equal(again.rows, memory.rows)
    assert (again.choices, again.features) == (memory.choices, memory.features)


def test_memory__rows_of_another_store_are_refused(store: Store, tmp_path: Path) -> None:
    other = simulate_store(tmp_path / "o.zarr", n_samples=40, n_layers=2, seed=5)
    memory = filled(store)
    with pytest.raises(ConfigError, match="features of one origin"):
        memory.remember(other.select(dataset="a", split="train"), choice_of(np.array([1])), "c", {})
    small = simulate_store(tmp_path / "small.zarr", n_samples=10, n_layers=2)
    with pytest.raises(SchemaError, match=r"must hold the (rows|images) kept"):
        memory.select(small)


def test_memory__mistakes_are_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="got an empty one"):
        ReplayMemory().select(store)
    with pytest.raises(SchemaError, match="must hold a saved memory"):
        ReplayMemory.load(tmp_path)
    ds = store.select(dataset="a", split="train")
    with pytest.raises(ConfigError, match="got some twice"):
        ReplayMemory().remember(ds, choice_of(np.array([1, 1])), "a", {})
    memory = filled(store)
    memory.save(tmp_path / "m")
    for content, message in (
        ('{"format_version": 9}', "got format 9"),
        ('{"format_version": 2, "n_rows": 7}', "must hold a whole memory"),
        ('{"format_version": 2, "n_rows": 7, "features": null, "choices": {}}', "a whole memory"),
        ("[]", "must hold a saved memory"),
    ):
        (tmp_path / "m" / "memory.json").write_text(content)
        with pytest.raises(SchemaError, match=message):
            ReplayMemory.load(tmp_path / "m")
