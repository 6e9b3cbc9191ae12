import shutil

import numpy as np
import pytest

import featstore
from featstore.errors import ConfigError, FeatstoreError, SchemaError
from featstore.feature_group import FeatureGroup
from featstore.interchange.import_npy import import_npy

N_LAYERS, WIDTH, EMBEDDING, N_ROWS = 3, 5, 4, 300


@pytest.fixture
def tree(tmp_path, rng):
    for split in ("train", "test"):
        for label in ("0_real", "1_fake"):
            folder = tmp_path / "tree" / split / "progan" / label
            folder.mkdir(parents=True)
            for layer in range(N_LAYERS):
                values = rng.normal(size=(N_ROWS, WIDTH)).astype(np.float32)
                np.save(folder / f"feature_layer{layer}.npy", values)
            last = rng.normal(size=(N_ROWS, WIDTH)).astype(np.float32)
            np.save(folder / "feature_before_projection.npy", last)
            embedding = rng.normal(size=(N_ROWS, EMBEDDING)).astype(np.float32)
            np.save(folder / "feature_after_projection.npy", embedding)
    return tmp_path / "tree"


def expected_row(tree, path):
    file, row = path.split("#")
    folder = (tree / file).parent
    names = [f"feature_layer{i}" for i in range(N_LAYERS)] + ["feature_before_projection"]
    return np.stack([np.load(folder / f"{name}.npy")[int(row)] for name in names])


def test_import_npy__rows_are_those_of_the_files(tree, tmp_path):
    assert import_npy(tree, tmp_path / "s.zarr", "clip") == 4 * N_ROWS
    ds = featstore.open(tmp_path / "s.zarr").select(split="train", layer=["block.*", "ln_post"])
    assert ds.attrs["layers"] == ["block.0", "block.1", "block.2", "ln_post"]
    for i in range(0, ds.sizes["sample"], 83):
        path = str(ds["path"].values[i])
        np.testing.assert_array_equal(
            ds["cls"].values[i], expected_row(tree, path).astype(np.float16)
        )
        assert int(ds["label"].values[i]) == int("1_fake" in path)
    assert len(set(ds["sample_id"].values)) == 2 * N_ROWS


def test_import_npy__packed_order_is_that_of_the_field(tree, tmp_path):
    import_npy(tree, tmp_path / "s.zarr", "clip")
    ds = featstore.open(tmp_path / "s.zarr").select(split="test", label=1)
    batch = next(featstore.iter_batches(ds, 8))
    path = str(ds["path"].values[0])
    packed = expected_row(tree, path).reshape(-1).astype(np.float16)
    np.testing.assert_array_equal(batch.X[0].reshape(-1), packed)


def test_import_npy__continues_where_it_stopped(tree, tmp_path, monkeypatch):
    write = FeatureGroup.write
    calls = 0

    def failing(self, block, provenance):
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        write(self, block, provenance)

    monkeypatch.setattr(FeatureGroup, "write", failing)
    with pytest.raises(KeyboardInterrupt):
        import_npy(tree, tmp_path / "s.zarr", "clip")
    monkeypatch.undo()
    assert 0 < import_npy(tree, tmp_path / "s.zarr", "clip") < 4 * N_ROWS
    assert import_npy(tree, tmp_path / "s.zarr", "clip") == 0
    assert featstore.open(tmp_path / "s.zarr").select().sizes["sample"] == 4 * N_ROWS


def test_import_npy__grown_tree_completes_its_partial_blocks(tree, tmp_path, rng):
    import_npy(tree, tmp_path / "s.zarr", "clip")
    before = featstore.open(tmp_path / "s.zarr").select(split="train")["cls"].values
    for file in (tree / "train/progan/0_real").glob("*.npy"):
        old = np.load(file)
        np.save(file, np.concatenate([old, rng.normal(size=(50, old.shape[1]))]).astype("f4"))
    assert import_npy(tree, tmp_path / "s.zarr", "clip") == 50
    ds = featstore.open(tmp_path / "s.zarr").select(split="train")
    assert ds.sizes["sample"] == 2 * N_ROWS + 50
    np.testing.assert_array_equal(ds["cls"].values[: 2 * N_ROWS], before)
    for i in range(2 * N_ROWS, ds.sizes["sample"], 7):
        expected = expected_row(tree, str(ds["path"].values[i])).astype(np.float16)
        np.testing.assert_array_equal(ds["cls"].values[i], expected)
    assert import_npy(tree, tmp_path / "s.zarr", "clip") == 0


def test_import_npy__tree_at_another_place_is_refused(tree, tmp_path):
    import_npy(tree, tmp_path / "s.zarr", "clip")
    shutil.copytree(tree, tmp_path / "copy")
    with pytest.raises(ConfigError, match=r"must be scanned from .*tree', got .*copy'"):
        import_npy(tmp_path / "copy", tmp_path / "s.zarr", "clip")


def test_import_npy__values_beyond_float16_are_refused(tree, tmp_path):
    file = tree / "train/progan/0_real/feature_layer1.npy"
    values = np.load(file)
    values[7, 2] = 1e6
    np.save(file, values)
    with pytest.raises(SchemaError, match=r"block\.1.*feature_layer1"):
        import_npy(tree, tmp_path / "s.zarr", "clip")


def test_import_npy__no_tree(tmp_path):
    with pytest.raises((ConfigError, FeatstoreError)):
        import_npy(tmp_path, tmp_path / "s.zarr", "clip")
    assert not (tmp_path / "s.zarr").exists()
