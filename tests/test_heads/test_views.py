"""What heads see of rows that many read together."""

from pathlib import Path

import numpy as np
import pytest

import heads
from featstore.errors import ConfigError
from featstore.simulate import simulate_store
from featstore.store import Store
from heads import HSICProbe, LogisticProbe, RINEHead, fit, fit_many
from heads.loop.batch_source import ArrayBatches, Pass
from heads.loop.views import View, ViewedBatches
from heads.store_batches import StoreBatches

ROUNDING = 1e-6  # solvers stop at a gradient of 1e-8


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return simulate_store(tmp_path_factory.mktemp("views") / "s.zarr", n_samples=60, n_layers=3)


def test_fit_many__heads_of_some_layers_equal_fits_on_these_layers(store: Store) -> None:
    ds = store.select(split="train")
    wanted = ["block.1", ["block.2", "block.0"], None, "block.[01]"]
    members = fit_many([LogisticProbe() for _ in wanted], ds, layers=wanted)
    for head, layer in zip(members, wanted, strict=True):
        alone = fit(LogisticProbe(), store.select(split="train", layer=layer))
        assert head.origin_["layers"] == alone.origin_["layers"]
        np.testing.assert_allclose(head.coef_, alone.coef_, rtol=ROUNDING, atol=ROUNDING)


def test_fit_many__heads_of_some_layers_select_on_these_layers(store: Store) -> None:
    ds, val = store.select(split="train"), store.select(split="val")
    probes = [HSICProbe(n_components=2, max_iter=3, device="cpu") for _ in range(2)]
    fit_many(probes, ds, val, layers=["block.2", "block.0"])
    one = {"split": "train", "layer": "block.2"}
    alone = HSICProbe(n_components=2, max_iter=3, device="cpu")
    fit(alone, store.select(**one), store.select(**{**one, "split": "val"}))
    np.testing.assert_allclose(probes[0].history_, alone.history_, rtol=1e-5, atol=1e-7)


def test_fit__target_generator_learns_to_tell_generators_apart(store: Store) -> None:
    ds = store.select(split="train")
    names = np.array(ds.attrs["generators"])[ds["generator"].values]
    assert len(np.unique(names)) == 3
    two = ds.isel(sample=np.flatnonzero(names != names[ds["label"].values == 1][0]))
    head = fit(LogisticProbe(), two, target="generator")
    assert head.classes_.tolist() == sorted(set(names) - {names[ds["label"].values == 1][0]})
    assert head.origin_["target"] == "generator"


def test_fit_many__wrong_views_are_refused(store: Store) -> None:
    ds = store.select(split="train")
    with pytest.raises(ConfigError, match="'layers' must have one entry per head, 1, got 2"):
        fit_many([LogisticProbe()], ds, layers=[None, None])
    with pytest.raises(ConfigError, match=r"block.7"):
        fit_many([LogisticProbe()], ds, layers=["block.7"])
    with pytest.raises(ValueError, match=r"'target' must be one of .*'generator', 'label'"):
        fit(LogisticProbe(), ds, target="style")


def test_viewed_batches__labels_layers_and_counts_are_those_of_the_view() -> None:
    X = np.arange(12.0).reshape(4, 3)
    source = ArrayBatches(X, np.array([0, 1, 1, 0]), groups=np.array(["b", "a", "c", "b"]))
    viewed = ViewedBatches(source, View(target="generator"))
    (batch,) = viewed.batches(Pass())
    assert viewed.classes.tolist() == ["a", "b", "c"]
    assert batch.y.tolist() == [1, 0, 2, 1]
    assert viewed.counts().tolist() == [1, 2, 1]
    for layers in ((1,), (-1,), ()):
        with pytest.raises(ValueError, match="layers must be one at least, below 1"):
            ViewedBatches(source, View(layers))


@pytest.mark.parametrize("sampling", ["rows", "class", "generator"])
@pytest.mark.parametrize("max_memory", ["1GB", "400kB"])
def test_store_batches__give_the_rows_that_arrays_give(
    store: Store, sampling: str, max_memory: str
) -> None:
    ds = store.select(split="train")
    X = ds["cls"].values.astype(np.float32).reshape(ds.sizes["sample"], -1)
    arrays = ArrayBatches(X, ds["label"].values, groups=ds["generator"].values)
    reading = Pass(16, 1, 2, sampling)  # type: ignore[arg-type]
    ours = list(StoreBatches(ds, max_memory).batches(reading))
    expected = list(arrays.batches(reading))
    for batch in ours:
        np.testing.assert_array_equal(batch.X, X[batch.index])
        np.testing.assert_array_equal(batch.y, ds["label"].values[batch.index])
    index, theirs = (np.concatenate([b.index for b in side]) for side in (ours, expected))
    if max_memory == "1GB":  # all rows in one window: the very same order
        np.testing.assert_array_equal(index, theirs)
    np.testing.assert_array_equal(np.sort(index), np.sort(theirs))


def test_fit__interrupted_goes_on_from_the_last_epoch(store: Store, tmp_path: Path) -> None:
    ds, file = store.select(split="train"), tmp_path / "state"
    settings = {"n_components": 2, "standardize": "zscore", "device": "cpu"}
    expected = fit(HSICProbe(max_iter=4, **settings), ds)
    n_rows: list[int] = []

    def stop(reading: int, rows: int) -> None:
        if reading == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(HSICProbe(max_iter=4, **settings), ds, checkpoint=file, progress=stop)
    with pytest.raises(ConfigError, match="of the same heads and rows"):
        fit(HSICProbe(max_iter=5, **settings), ds, checkpoint=file)
    with pytest.raises(ConfigError, match="of the same heads and rows"):
        fit(HSICProbe(max_iter=4, **settings), ds.isel(sample=slice(1, None)), checkpoint=file)
    head = HSICProbe(max_iter=4, **settings)
    fit(head, ds, checkpoint=file, progress=lambda _, rows: n_rows.append(rows))
    assert max(n_rows) * 2 == sum(n for n in n_rows if n == max(n_rows))
    np.testing.assert_array_equal(head.coef_, expected.coef_)
    np.testing.assert_array_equal(head.history_, expected.history_)
    assert not file.exists()


def test_checkpoint__damaged_is_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="must be readable"):
        heads.fit(HSICProbe(), store.select(split="train"), checkpoint=tmp_path / "state")


def test_checkpoint__of_other_validation_rows_is_refused(store: Store, tmp_path: Path) -> None:
    ds, val = store.select(split="train"), store.select(split="val")
    head = RINEHead(proj_dim=4, nproj=1, batch_size=16, max_iter=3, device="cpu")

    def stop(reading: int, rows: int) -> None:
        if reading == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(head, ds, val, checkpoint=tmp_path / "state", progress=stop)
    for other in (None, val.isel(sample=slice(1, None))):  # its best epoch was chosen on others
        with pytest.raises(ConfigError, match="of the same heads and rows"):
            fit(head, ds, other, checkpoint=tmp_path / "state")


def test_checkpoint__with_another_number_in_it_is_refused(store: Store, tmp_path: Path) -> None:
    ds, path = store.select(split="train"), tmp_path / "state"
    head = RINEHead(proj_dim=4, nproj=1, batch_size=16, max_iter=3, device="cpu")

    def stop(reading: int, rows: int) -> None:
        if reading == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(head, ds, checkpoint=path, progress=stop)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ConfigError, match="checksum"):
        fit(head, ds, checkpoint=path)
    path.write_bytes(whole)
    fit(head, ds, checkpoint=path)
