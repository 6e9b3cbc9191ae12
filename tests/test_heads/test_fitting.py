"""Training from the store: the same as from arrays, and refusals before anything is read."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from sklearn.linear_model import LogisticRegression

import heads
from featstore.errors import ConfigError, FingerprintError
from featstore.simulate import simulate_store
from featstore.store import Store
from heads import HSICProbe, LogisticProbe, fit, fit_many
from heads.evaluation import score
from heads.loop.batch_source import Pass
from heads.origins import origin_of
from heads.store_batches import StoreBatches

ROUNDING = 1e-6  # both solvers stop at a gradient of 1e-8


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return simulate_store(tmp_path_factory.mktemp("fitting") / "s.zarr", n_samples=40, n_layers=2)


def arrays(ds: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    X = ds["cls"].values.astype(np.float32)
    return X.reshape(len(X), -1), ds["label"].values


def quick() -> HSICProbe:
    return HSICProbe(n_components=2, max_iter=2, batch_size=16, device="cpu")


def test_fit__equals_the_fit_on_arrays(store: Store) -> None:
    ds = store.select(split="train")
    for head, other in ((LogisticProbe(), LogisticProbe()), (quick(), quick())):
        ours, theirs = fit(head, ds).coef_, other.fit(*arrays(ds)).coef_
        np.testing.assert_allclose(ours, theirs, rtol=ROUNDING, atol=ROUNDING)


def test_fit__head_knows_its_origin_and_keeps_it(store: Store, tmp_path: Path) -> None:
    ds = store.select(split="train", dataset="a")
    head = fit(LogisticProbe(), ds)
    names = ("store", "features", "view", "fingerprint", "layers")
    assert head.origin_ == {name: ds.attrs[name] for name in names} | {"target": "label"}
    heads.save(head, tmp_path / "head")
    assert heads.load(tmp_path / "head").origin_ == head.origin_


def test_origin__without_layers_scores_all_columns(store: Store, tmp_path: Path) -> None:
    ds = store.select(split="val")
    head = fit(LogisticProbe(), ds)
    heads.save(head, tmp_path / "head", origin={"note": "trained at home"})
    found, expected = score(heads.load(tmp_path / "head"), ds), score(head, ds)
    np.testing.assert_array_equal(found["score"], expected["score"])


def test_fit__on_arrays_forgets_an_earlier_origin(store: Store) -> None:
    ds = store.select(split="train")
    head = fit(LogisticProbe(), ds)
    assert not hasattr(head.fit(*arrays(ds)), "origin_")


def test_origin_of__layers_are_those_that_are_left(store: Store) -> None:
    ds = store.select(split="train")
    for part in (ds.isel(layer=[1]), ds.isel(layer=1)):
        origin = origin_of(part)
        assert origin is not None
        assert origin["layers"] == ["block.1"]


def test_fit__takes_datasets_that_are_not_from_a_store(rng) -> None:
    ds = xr.Dataset(
        {"x": (("sample", "feature"), rng.normal(size=(40, 3)).astype(np.float32))},
        {"label": ("sample", np.arange(40) % 2)},
    )
    train, val = ds.isel(sample=slice(0, 30)), ds.isel(sample=slice(30, 40))
    assert not hasattr(fit(quick(), train, val), "origin_")


@pytest.mark.parametrize("wrong", [LogisticRegression(), LogisticRegression, LogisticProbe, None])
def test_fit_many__other_heads_are_refused(store: Store, wrong) -> None:
    name = wrong.__name__ if isinstance(wrong, type) else type(wrong).__name__
    with pytest.raises(TypeError, match=f"of this package, got (the class )?{name}"):
        fit_many([LogisticProbe(), wrong], store.select(split="train"))


def test_fit__other_rows_are_refused(store: Store) -> None:
    ds = store.select(split="train")
    with pytest.raises(TypeError, match=r"rows to learn from must be an xarray Dataset.*ndarray"):
        fit(LogisticProbe(), np.ones((3, 2)))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"validation rows must be an xarray Dataset.*got tuple"):
        fit(LogisticProbe(), ds, arrays(ds))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="must have the coordinate 'label'"):
        fit(LogisticProbe(), ds.drop_vars("label"))
    with pytest.raises(ConfigError, match="got an empty selection"):
        fit(LogisticProbe(), ds.isel(sample=[]))


def test_fit__needs_two_classes(store: Store) -> None:
    with pytest.raises(ConfigError, match="two classes, got one class only: label 1"):
        fit(LogisticProbe(), store.select(split="train", label=1), store.select(split="val"))


def test_fit__validation_rows_need_both_classes_for_heads_that_select(store: Store) -> None:
    ds, val = store.select(split="train"), store.select(split="val", label=0)
    with pytest.raises(ConfigError, match=r"both classes .*got only label 0"):
        fit_many([LogisticProbe(), quick()], ds, val)
    fit(LogisticProbe(), ds, val)


def test_fit__validation_rows_may_be_neither_for_reporting_nor_learned_from(store: Store) -> None:
    ds = store.select(split="train")
    with pytest.raises(ConfigError, match=r"must be chosen on rows of .* got rows of \['test'\]"):
        fit(quick(), ds, store.select(split=["val", "test"]))
    with pytest.raises(ConfigError, match="those of 'train', got 40 common rows"):
        fit(quick(), ds, store.select(split="train", dataset="b"))


def test_fit__validation_rows_have_the_features_of_the_training(
    store: Store, tmp_path: Path
) -> None:
    ds = store.select(split="train")
    other = simulate_store(tmp_path / "other.zarr", n_samples=10, n_layers=2, seed=1)
    with pytest.raises(FingerprintError, match=r"validation rows .*s\.zarr.*got .*other\.zarr"):
        fit(quick(), ds, other.select(split="val"))
    with pytest.raises(FingerprintError, match=r"must have the layers .* got \['block.1'\]"):
        fit(quick(), ds, store.select(split="val", layer="block.1"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_fit__features_that_are_not_finite_name_the_image(store: Store, value: float) -> None:
    ds = store.select(split="train").load()
    ds["cls"].values[[7, 9], 0, 3] = value
    with pytest.raises(ConfigError, match="got 2 rows in a batch that are not, first row 7") as e:
        fit(LogisticProbe(), ds)
    assert repr(str(ds["path"].values[7])) in str(e.value)


def test_fit__finite_features_whose_sum_overflows_are_no_mistake() -> None:
    X = np.full((4, 2), 3e38, np.float32) * np.array([[1], [-1], [1], [-1]], np.float32)
    ds = xr.Dataset(
        {"x": (("sample", "feature"), X)}, {"label": ("sample", np.array([0, 1, 0, 1]))}
    )
    source = StoreBatches(ds)
    (batch,) = source.batches(Pass())
    np.testing.assert_array_equal(batch.X, X)
