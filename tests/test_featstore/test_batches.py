import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from support.extraction import run_tiny
from support.images import write_tree
from support.laziness import max_computes

import featstore
from featstore.batches import plan
from featstore.errors import ConfigError, FingerprintError
from featstore.simulate import simulate_store
from featstore.sources import LazyRows, stored_rows

N_ROWS, N_LAYERS, WIDTH = 600, 3, 16
SMALL = 3 * 40 * N_LAYERS * WIDTH * 4 + 130 * N_LAYERS * WIDTH * 2
"""Memory for a window of a few batches of forty rows."""


@pytest.fixture(scope="module")
def ds(tmp_path_factory):
    path = tmp_path_factory.mktemp("stores") / "s.zarr"
    return simulate_store(path, splits=("train",), n_samples=300).select()


SUBSETS = {
    "whole": lambda ds: ds,
    "slice": lambda ds: ds.isel(sample=slice(10, 500, 3)),
    "permuted": lambda ds: ds.isel(sample=np.random.default_rng(1).permutation(N_ROWS)),
    "repeated": lambda ds: ds.isel(sample=[5, 5, 400, 2, 5]),
    "mask": lambda ds: ds.isel(sample=ds["label"].values == 1),
    "layers": lambda ds: ds.sel(layer=["block.2", "block.0"]),
    "one layer": lambda ds: ds.sel(layer=["block.1"]),
    "sorted": lambda ds: ds.sortby("label"),
}


@pytest.mark.parametrize("name", SUBSETS)
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("max_memory", ["1GB", SMALL])
def test_iter_batches__fast_reader_equals_dask(ds, name, shuffle, max_memory):
    subset = SUBSETS[name](ds)
    expected, labels = subset["cls"].values.astype(np.float32), subset["label"].values
    assert stored_rows(subset) is not None
    seen = []
    with max_computes(0):
        for X, y, index in featstore.iter_batches(
            subset, 40, shuffle=shuffle, rng=3, max_memory=max_memory
        ):
            np.testing.assert_array_equal(X, expected[index])
            np.testing.assert_array_equal(y, labels[index])
            assert X.dtype == np.float32
            assert X.flags.c_contiguous
            seen.append(index)
    order = np.concatenate(seen)
    np.testing.assert_array_equal(np.sort(order), np.arange(len(expected)))
    assert shuffle == (not np.array_equal(order, np.arange(len(expected))))
    assert all(len(index) == 40 for index in seen[:-1])


def test_iter_batches__changed_values_are_read_through_dask(ds):
    doubled = ds.assign(cls=ds["cls"] * 2)
    assert stored_rows(doubled) is None
    (X, _, index) = next(iter(featstore.iter_batches(doubled, 8)))
    np.testing.assert_array_equal(X, doubled["cls"].values[index].astype(np.float32))


@pytest.mark.parametrize(
    "change",
    [
        lambda ds: ds.isel(feature=slice(0, 4)),
        lambda ds: ds.isel(feature=slice(None, None, -1)),
        lambda ds: ds.drop_vars("row"),
        lambda ds: ds.load(),
        lambda ds: ds.transpose("layer", "sample", "feature"),
        lambda ds: ds.assign(cls=ds["cls"].isel(sample=np.random.default_rng(1).permutation(600))),
        lambda ds: ds.assign(cls=ds["cls"][::-1]),
        lambda ds: ds.roll(layer=1),
        lambda ds: ds.roll(sample=7),
        lambda ds: ds.drop_vars("feature").isel(feature=slice(None, None, -1)),
        lambda ds: ds.drop_vars("feature").isel(feature=[3, 1, 2, 0]),
        lambda ds: ds.assign_coords(layer=["block.2", "block.1", "block.0"]),
        lambda ds: ds.assign_coords(row=ds["row"][::-1].values),
        lambda ds: ds.drop_vars("layer").assign_coords(layer=["a", "b", "c"]),
        lambda ds: ds.sel(layer="block.1"),
        lambda ds: ds.chunk(sample=7),
        lambda ds: ds.where(ds["label"] == 1),
        lambda ds: ds.isel(sample=[]),
        lambda ds: ds.expand_dims("fold").squeeze("fold"),
    ],
    ids=[
        "features", "reversed features", "no rows", "loaded", "transposed", "values permuted",
        "values reversed", "layers rolled", "samples rolled", "features turned", "some features",
        "layers renamed", "rows renumbered", "other layer names", "one layer", "rechunked", "where",
        "empty", "expanded",
    ],
)  # fmt: skip
def test_iter_batches__whatever_was_done_values_are_those_of_the_dataset(ds, change):
    changed = change(ds.copy())
    batches = list(featstore.iter_batches(changed, 100))
    expected = changed["cls"].transpose("sample", ...).values.astype(np.float32)
    got = np.concatenate([expected[:0], *(batch.X for batch in batches)])
    np.testing.assert_array_equal(got, expected)


def test_iter_batches__a_column_of_numbers_is_no_feature(ds):
    with pytest.raises(ValueError, match=r"'score'.*make it a coordinate"):
        next(featstore.iter_batches(ds.assign(score=("sample", np.zeros(N_ROWS))), 8))


def test_iter_batches__cls_and_embedding_stay_together(tmp_path):
    images = write_tree(tmp_path / "images", 30)
    run_tiny(images, tmp_path / "s.zarr")
    ds = featstore.open(tmp_path / "s.zarr").select(layer=["block.*", "proj"])
    some = ds.isel(sample=[50, 3, 77])
    assert stored_rows(some) is not None
    batch = next(featstore.iter_batches(some, 3))
    expected = [some["cls"].values.reshape(3, -1), some["proj"].values]
    np.testing.assert_array_equal(batch.X, np.concatenate(expected, axis=1).astype(np.float32))
    apart = some.assign(proj=ds["proj"].isel(sample=[3, 50, 77]))
    batch = next(featstore.iter_batches(apart, 3))
    expected[1] = apart["proj"].values
    np.testing.assert_array_equal(batch.X, np.concatenate(expected, axis=1).astype(np.float32))


def test_iter_batches__other_features_concatenated_are_refused(ds, tmp_path):
    other = simulate_store(tmp_path / "t.zarr", splits=("train",), n_samples=10, seed=5).select()
    both = xr.concat([ds, other], "sample", combine_attrs="override")
    with pytest.raises(FingerprintError, match="features of one origin"):
        next(featstore.iter_batches(both, 100))


def test_iter_batches__selections_of_one_store_can_be_concatenated(tmp_path):
    store = simulate_store(tmp_path / "s.zarr", n_samples=20)
    parts = [
        store.select(dataset="b", split="test"),
        store.select(dataset="a", split="train", generator="a"),
    ]
    both = xr.concat(parts, "sample")
    assert stored_rows(both) is not None
    got = np.concatenate([batch.X for batch in featstore.iter_batches(both, 7)])
    np.testing.assert_array_equal(got, both["cls"].values.astype(np.float32))
    datasets = [both.attrs["datasets"][code] for code in both["dataset"].values]
    splits = [both.attrs["splits"][code] for code in both["split"].values]
    assert list(zip(datasets, splits, strict=True)) == [("b", "test")] * 20 + [("a", "train")] * 10
    assert {both.attrs["generators"][code] for code in both["generator"].values[20:]} == {"a"}


def test_iter_batches__plain_arrays_in_xarray(rng):
    values = rng.normal(size=(20, 2, 3))
    ds = xr.Dataset(
        {"cls": (("sample", "layer", "feature"), values)},
        {"label": ("sample", np.arange(20) % 2)},
    )
    X, y, _ = next(featstore.iter_batches(ds, 20))
    np.testing.assert_allclose(X, values, rtol=1e-6)
    assert y.tolist() == [0, 1] * 10


def test_iter_batches__shuffle_is_one_permutation_when_all_fits(ds):
    order = np.concatenate([b.index for b in featstore.iter_batches(ds, 64, shuffle=True, rng=9)])
    expected = np.random.default_rng(9).permutation(N_ROWS)
    np.testing.assert_array_equal(order, expected)


def test_iter_batches__epochs_differ_and_seeds_repeat(ds):
    def order(seed):
        return [b.index.tolist() for b in featstore.iter_batches(ds, 64, shuffle=True, rng=seed)]

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_iter_batches__memory_too_small_says_how_much(ds):
    with pytest.raises(ConfigError, match=r"must hold one batch, [\d,]+ bytes"):
        next(featstore.iter_batches(ds, 256, shuffle=True, max_memory=1000))


def test_iter_batches__unshuffled_batches_shrink_to_the_memory(ds):
    batches = list(featstore.iter_batches(ds, 4096, max_memory=20_000))
    assert max(len(batch.X) for batch in batches) < 60
    np.testing.assert_array_equal(
        np.concatenate([batch.X for batch in batches]), ds["cls"].values.astype(np.float32)
    )


def test_iter_batches__bad_arguments(ds):
    with pytest.raises(ValueError, match="positive int, got 0"):
        next(featstore.iter_batches(ds, 0))
    with pytest.raises(ValueError, match="coordinate 'label'"):
        next(featstore.iter_batches(ds.drop_vars("label")))


def test_lazy_rows__equal_stored_rows(ds):
    stored, lazy = stored_rows(ds), LazyRows(ds)
    positions = np.array([0, 1, 255, 256, 299, 300, 599])
    a = np.empty((7, stored.width), np.float16)
    b = np.empty_like(a)
    stored.read(positions, a)
    lazy.read(positions, b)
    np.testing.assert_array_equal(a, b)


@given(
    blocks=st.lists(st.integers(0, 5), max_size=60),
    window=st.integers(1, 70),
    seed=st.none() | st.integers(0, 5),
)
def test_plan__every_row_once_in_windows_that_fit(blocks, window, seed):
    rng = None if seed is None else np.random.default_rng(seed)
    windows = list(plan(np.array(blocks, np.int64), window, rng))
    assert all(0 < len(part) <= window for part in windows)
    rows = np.concatenate([np.empty(0, np.int64), *windows])
    assert sorted(rows.tolist()) == list(range(len(blocks)))
    if seed is None:
        assert rows.tolist() == list(range(len(blocks)))
