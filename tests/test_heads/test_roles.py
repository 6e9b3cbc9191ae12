"""Which rows may be chosen on."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from featstore.errors import ConfigError
from featstore.simulate import simulate_store
from featstore.store import Store
from heads.evaluation.roles import (
    require_disjoint,
    require_selection_split,
    row_counts,
    splits_of,
    trained_on,
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
    with pytest.raises(ConfigError, match=r"got rows of \['test'\]; name another split\.$"):
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


def test_require_disjoint__refuses_the_same_image_in_another_split(store) -> None:
    test, train = store.select(split="test"), store.select(split="train")
    ids = test["sample_id"].values.copy()
    ids[[3, 7]] = train["sample_id"].values[:2]
    test = test.assign_coords(sample_id=("sample", ids))
    path = str(test["path"].values[3])
    with pytest.raises(ConfigError, match=r"of 'train', got 2 images that are .such as") as caught:
        require_disjoint(test, train, "train")
    assert repr(path) in str(caught.value)


def test_require_disjoint__refuses_divided_pairs(store) -> None:
    test, train = store.select(split="test"), store.select(split="train")
    pairs = test["pair"].values.copy()
    pairs[5] = train["pair"].values[0]
    with pytest.raises(ConfigError, match=r"aligned pairs must not be divided.*got 1 pairs"):
        require_disjoint(test.assign_coords(pair=("sample", pairs)), train, "train")


def test_require_disjoint__no_pair_is_not_a_pair(store) -> None:
    single = [
        ds.assign_coords(pair=("sample", np.full(ds.sizes["sample"], -1)))
        for ds in (store.select(split="test"), store.select(split="train"))
    ]
    require_disjoint(*single, "train")


def test_require_disjoint__compares_what_datasets_from_elsewhere_have() -> None:
    def plain(ids: list[str]) -> xr.Dataset:
        return xr.Dataset(coords={"label": ("sample", [0, 1]), "sample_id": ("sample", ids)})

    require_disjoint(plain(["a", "b"]), plain(["c", "d"]), "train")
    with pytest.raises(ConfigError, match=r"got 1 images that are .such as 'row 1'"):
        require_disjoint(plain(["a", "b"]), plain(["b", "c"]), "train")


def test_trained_on__is_sorted_by_role_and_id(store) -> None:
    data = {role: store.select(dataset="a", split=role) for role in ("val", "train", "test")}
    frame = trained_on(data)
    assert frame.columns.tolist() == ["sample_id", "pair", "role"]
    assert frame["role"].tolist() == ["train"] * 20 + ["val"] * 20
    assert frame["sample_id"][:20].tolist() == sorted(data["train"]["sample_id"].values)
