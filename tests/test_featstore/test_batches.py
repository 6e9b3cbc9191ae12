import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from support.laziness import max_computes

import featstore
from featstore.batches import plan
from featstore.errors import ConfigError
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
        lambda ds: ds.transpose("layer", "sample", "feature").transpose("sample", ...),
    ],
    ids=["features", "reversed", "no rows", "loaded", "transposed"],
)
def test_iter_batches__anything_but_a_choice_of_rows_and_layers_stays_right(ds, change):
    changed = change(ds.copy())
    got = np.concatenate([batch.X for batch in featstore.iter_batches(changed, 100)])
    np.testing.assert_array_equal(got, changed["cls"].values.astype(np.float32))


def test_iter_batches__concatenation_of_other_stores_stays_right(ds, tmp_path):
    other = simulate_store(tmp_path / "t.zarr", splits=("train",), n_samples=10, seed=5).select()
    both = xr.concat([ds, other], "sample", combine_attrs="override")
    got = np.concatenate([batch.X for batch in featstore.iter_batches(both, 100)])
    np.testing.assert_array_equal(got, both["cls"].values.astype(np.float32))


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
        next(featstore.iter_batches(ds, 256, max_memory=1000))


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
