import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from support.laziness import max_computes

import featstore
from featstore import schema
from featstore.errors import (
    ConfigError,
    FingerprintError,
    FormatVersionError,
    SchemaError,
    StoreExistsError,
    StoreNotFoundError,
)
from featstore.layers import Layer
from featstore.simulate import simulate_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("stores") / "s.zarr"
    return simulate_store(path, splits=("train", "test"), n_samples=300)


def test_create__refuses_a_used_path(store):
    with pytest.raises(StoreExistsError, match="mode='a'"):
        featstore.create(store.path)


def test_open__missing_store_says_how_to_make_one(tmp_path):
    with pytest.raises(StoreNotFoundError, match="featstore extract"):
        featstore.open(tmp_path / "none.zarr")


def test_open__mode_a_creates(tmp_path):
    assert featstore.open(tmp_path / "new.zarr", "a").groups() == []


def test_open__foreign_zarr_is_refused(tmp_path):
    zarr.create_group(tmp_path / "x.zarr")
    with pytest.raises(SchemaError, match="not made by featstore"):
        featstore.open(tmp_path / "x.zarr")


def test_open__newer_format_is_refused(tmp_path):
    featstore.create(tmp_path / "x.zarr")
    zarr.open_group(tmp_path / "x.zarr", mode="r+").attrs["featstore_format"] = 99
    with pytest.raises(FormatVersionError, match=r"version 99.*reads up to 1; upgrade"):
        featstore.open(tmp_path / "x.zarr")


def test_contents__counts_by_group(store):
    table = store.contents()
    assert isinstance(table, pd.DataFrame)
    assert len(table) == 4
    assert (table[["rows", "real", "fake", "missing"]] == [300, 150, 150, 0]).all(axis=None)


def test_store__plain_zarr_and_xarray_read_it_without_us(store):
    ours = store.select(dataset="a", split="train")["cls"].values
    path = "features/simulated/clean/a/train"
    np.testing.assert_array_equal(zarr.open_group(store.path, mode="r")[f"{path}/cls"][:], ours)
    with xr.open_zarr(store.path, group=path, consolidated=False) as ds:
        np.testing.assert_array_equal(ds["cls"].values, ours)
    with xr.open_datatree(store.path, engine="zarr", consolidated=False) as tree:
        np.testing.assert_array_equal(tree[f"{path}/cls"].values, ours)
        assert tree[f"{path}/commits"].values.sum() == len(ours)


def test_select__computes_nothing(store):
    with max_computes(0):
        ds = store.select(layer="block.*").isel(sample=slice(0, 10))
    with max_computes(1):
        assert ds["cls"].values.shape == (10, 3, 16)


def test_select__rows_are_those_of_the_chunk_files(store):
    ds = store.select(dataset="b", split="test", layer=["block.2", "block.0"])
    path = store.path / "features/simulated/clean/b/test/cls/c"
    first = np.fromfile(path / "0/2/0", np.float16).reshape(256, 16)
    second = np.fromfile(path / "1/2/0", np.float16).reshape(256, 16)
    expected = np.concatenate([first, second[:44]])
    np.testing.assert_array_equal(ds["cls"].sel(layer="block.2").values, expected)
    assert list(ds["layer"].values) == ["block.2", "block.0"]


def test_select__label_and_generator_filter_rows(store):
    fake = store.select(split="train", label=1)
    assert set(fake["label"].values) == {1}
    own = store.select(split="train", generator="b")
    assert {own.attrs["generators"][code] for code in own["generator"].values} == {"b"}
    assert own.sizes["sample"] == 150
    real = store.select(dataset="a", split="train", generator="real")
    assert set(real["label"].values) == {0}


def test_select__paths_and_ids_follow_the_rows(store):
    ds = store.select(split="train")
    some = ds.isel(sample=[3, 500, 17])
    np.testing.assert_array_equal(some["path"].values, ds["path"].values[[3, 500, 17]])
    assert len(set(ds["sample_id"].values)) == 600


def test_select__pairs_share_their_code(store):
    ds = store.select(dataset="a", split="train")
    codes, counts = np.unique(ds["pair"].values, return_counts=True)
    assert len(codes) == 150
    assert (counts == 2).all()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"dataset": "aa"}, "unknown dataset 'aa'"),
        ({"split": "trian"}, "did you mean 'train'"),
        ({"layer": "block.9"}, "unknown layer 'block.9'"),
        ({"generator": "sdxl"}, "unknown generator 'sdxl'"),
        ({"view": "jpeg"}, "unknown view 'jpeg'"),
        ({"features": "clip"}, "unknown feature set 'clip'"),
        ({"dataset": "a", "generator": "b"}, "unknown generator 'b'"),
        ({"label": 2}, "at least one readable sample"),
    ],
    ids=str,
)
def test_select__unknown_names_are_errors(store, query, message):
    with pytest.raises(ConfigError, match=message):
        store.select(**query)


def test_register__same_name_other_features_names_the_difference(tmp_path):
    store = featstore.create(tmp_path / "s.zarr")
    layers = [Layer("block.0", "block", 0, 4)]
    store.register("f", "clean", {"backbone": {"model": "x", "precision": "fp32"}}, layers)
    with pytest.raises(FingerprintError, match=r"backbone.precision: stored 'fp32', now 'bf16'"):
        store.register("f", "clean", {"backbone": {"model": "x", "precision": "bf16"}}, layers)


def test_block_rows__small_groups_have_small_blocks():
    assert [schema.block_rows(n) for n in (1, 9_999, 10_000, 10**7)] == [256, 256, 2048, 8192]


@pytest.mark.parametrize("name", ["SD 1.5", "a/b", "..", ".hidden", "50%", "ünï", "x" * 50])
def test_folder_name__round_trip_and_safe(name):
    folder = schema.folder_name(name)
    assert schema.plain_name(folder) == name
    assert "/" not in folder
    assert not folder.startswith(".")
