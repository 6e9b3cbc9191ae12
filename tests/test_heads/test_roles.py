"""Which rows may be chosen on."""

from pathlib import Path

import pandas as pd
import pytest

from featstore.errors import ConfigError
from featstore.simulate import simulate_store
from featstore.store import Store
from heads.evaluation.roles import (
    require_disjoint,
    require_selection_split,
    row_counts,
    splits_of,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    path: Path = tmp_path_factory.mktemp("roles") / "s.zarr"
    return simulate_store(path, n_samples=20, n_layers=1)


def test_splits_of__looks_at_rows_not_at_names(store) -> None:
    ds = store.select(split=["val", "test"])
    first = ds.isel(sample=ds["split"].values == ds["split"].values[0])
    assert splits_of(ds) == ["test", "val"]
    assert len(splits_of(first)) == 1


def test_require_selection_split__refuses_test_rows_of_a_selection(store) -> None:
    with pytest.raises(ConfigError, match=r"the threshold must be chosen.*got rows of \['test'\]"):
        require_selection_split(store.select(split=["val", "test"]), what="the threshold")


def test_require_selection_split__refuses_test_rows_of_scores() -> None:
    frame = pd.DataFrame({"split": ["val", "test"]})
    with pytest.raises(ConfigError, match="name another split, or ask for 'selection: oracle'"):
        require_selection_split(frame, what="the threshold")


def test_require_selection_split__accepts_validation_rows(store) -> None:
    require_selection_split(store.select(split="val"), what="the threshold")


def test_require_disjoint__counts_common_rows(store) -> None:
    rows = store.select(dataset="a", split="val")
    with pytest.raises(ConfigError, match="those of 'val', got 5 common rows of dataset 'a'"):
        require_disjoint(rows.isel(sample=slice(0, 5)), rows, "val")


def test_require_disjoint__accepts_other_datasets_and_splits(store) -> None:
    require_disjoint(
        store.select(dataset="a", split="val"), store.select(dataset="b", split="val"), "val"
    )
    require_disjoint(store.select(split="test"), store.select(split="train"), "train")


def test_row_counts__by_dataset_and_split(store) -> None:
    fakes = store.select(dataset="b", split="val", label=1)
    assert row_counts(fakes) == [{"dataset": "b", "split": "val", "n_real": 0, "n_fake": 10}]
