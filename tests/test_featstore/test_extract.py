import os

import numpy as np
import pytest
from PIL import Image
from support.extraction import assert_same_content, content, run_tiny
from support.images import write_tree
from support.odd_images import write_odd_images
from support.tiny_backbone import N_LAYERS, WIDTH

import featstore
from featstore import extract as extract_module
from featstore import feature_group
from featstore.errors import ConfigError, FeatstoreError, FingerprintError
from featstore.extract_config import ExtractConfig


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("images"), 150, datasets=("a", "b"))


@pytest.fixture(scope="module")
def reference(images, tmp_path_factory):
    store = tmp_path_factory.mktemp("reference") / "s.zarr"
    run_tiny(images, store)
    return store


def test_extract__features_are_those_of_the_pixels(images, reference):
    ds = featstore.open(reference).select(dataset="b", split="test", layer=["block.*", "proj"])
    assert ds.sizes["sample"] == 300
    for i in range(0, 300, 37):
        with Image.open(images / str(ds["path"].values[i])) as image:
            strips = np.asarray(image).reshape(WIDTH, -1).astype(np.float32).mean(axis=1)
        expected = np.stack([strips * (k + 1) for k in range(N_LAYERS)]).astype(np.float16)
        np.testing.assert_array_equal(ds["cls"].values[i], expected)
        np.testing.assert_array_equal(ds["proj"].values[i], expected[0, :4])
        assert int(ds["label"].values[i]) == int("1_fake" in str(ds["path"].values[i]))


def test_extract__rows_lie_in_random_order(reference):
    labels = featstore.open(reference).select(dataset="a", split="train")["label"].values
    assert 50 < (labels[:150] == 1).sum() < 100
    assert not (np.diff(labels) >= 0).all()


def test_extract__again_does_nothing(images, reference):
    summary = run_tiny(images, reference)
    assert (summary.n_extracted, summary.n_present) == (0, 1200)


@pytest.mark.parametrize(
    "options", [{"batch_size": 1}, {"batch_size": 100, "workers": 5}, {"workers": 1}], ids=str
)
def test_extract__content_is_independent_of_batches_and_workers(
    images, reference, tmp_path, options
):
    run_tiny(images, tmp_path / "s.zarr", **options)
    assert_same_content(reference, tmp_path / "s.zarr")


@pytest.mark.parametrize("world", [2, 3])
def test_extract__ranks_share_the_work(images, reference, tmp_path, monkeypatch, world):
    monkeypatch.setenv("WORLD_SIZE", str(world))
    counts = []
    for rank in range(world):
        monkeypatch.setenv("RANK", str(rank))
        counts.append(run_tiny(images, tmp_path / "s.zarr").n_extracted)
    assert sum(counts) == 1200
    assert min(counts) > 0
    assert_same_content(reference, tmp_path / "s.zarr")


def test_extract__bad_rank(images, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(ConfigError, match=r"'RANK' must lie in \[0, 2\)"):
        run_tiny(images, tmp_path / "s.zarr")


def test_extract__other_settings_under_the_same_name_are_refused(images, reference):
    with pytest.raises(FingerprintError, match=r"preprocess.crop: stored 16, now 64"):
        run_tiny(images, reference, backbone="residual:64", features="tiny")


def test_extract__new_images_are_appended(images, reference, tmp_path):
    grown = tmp_path / "grown"
    write_tree(grown, 20)
    run_tiny(grown, tmp_path / "s.zarr")
    before = content(tmp_path / "s.zarr")
    for number in range(300):
        pixels = np.full((16, 16, 3), number % 256, np.uint8)
        Image.fromarray(pixels).save(grown / "train/a/0_real" / f"new{number}.png")
    summary = run_tiny(grown, tmp_path / "s.zarr")
    assert summary.n_extracted >= 300
    after = content(tmp_path / "s.zarr", split="train")
    assert len(after["cls"]) == 340
    train = np.char.startswith(before["path"].astype(str), "train")
    np.testing.assert_array_equal(after["cls"][:40], before["cls"][train])
    assert len(set(after["path"])) == 340


def test_extract__relabelled_image_is_refused(tmp_path):
    tree = write_tree(tmp_path / "images", 3)
    manifest = tree / "m.csv"
    manifest.write_text("path,label\ntrain/a/0_real/0000.png,0\ntrain/a/1_fake/0001.png,1\n")
    run_tiny(manifest, tmp_path / "s.zarr", layout="manifest", dataset="a", split="train")
    manifest.write_text("path,label\ntrain/a/0_real/0000.png,1\n")
    with pytest.raises(ConfigError, match="stored as real"):
        run_tiny(manifest, tmp_path / "s.zarr", layout="manifest", dataset="a", split="train")


def test_extract__manifest_metadata_becomes_coordinates(tmp_path):
    tree = write_tree(tmp_path / "images", 3)
    manifest = tree / "m.csv"
    rows = [f"train/a/0_real/000{i}.png,0,{2000 + i},cam{i}" for i in range(3)]
    manifest.write_text("\n".join(["path,label,year,camera", *rows]))
    run_tiny(manifest, tmp_path / "s.zarr", layout="manifest", dataset="a", split="train")
    ds = featstore.open(tmp_path / "s.zarr").select()
    assert sorted(ds["meta_year"].values) == [2000, 2001, 2002]
    assert sorted(ds["meta_camera"].values) == ["cam0", "cam1", "cam2"]


def test_extract__odd_images_each_have_a_defined_result(tmp_path):
    folder = tmp_path / "images" / "0_real"
    folder.mkdir(parents=True)
    expected = write_odd_images(folder)
    Image.new("RGB", (20, 20), (9, 9, 9)).save(folder / "plain.png")
    summary = run_tiny(tmp_path / "images", tmp_path / "s.zarr")
    bad = {os.path.basename(item.path): item.reason for item in summary.unreadable}
    assert set(bad) == {name for name, status in expected.items() if status == "unreadable"}
    assert all(bad.values())
    ds = featstore.open(tmp_path / "s.zarr").select()
    good = {os.path.basename(str(path)) for path in ds["path"].values}
    assert good == set(expected) - set(bad) | {"plain.png"}
    assert np.isfinite(ds["cls"].values).all()
    row = featstore.open(tmp_path / "s.zarr").contents().iloc[0]
    assert (row["rows"], row["unreadable"]) == (len(good), len(bad))
    assert row["missing"] == 0


def test_extract__retry_unreadable_reads_mended_files(tmp_path):
    tree = write_tree(tmp_path / "images", 3)
    broken = tree / "train/a/0_real/0001.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:40])
    store = tmp_path / "s.zarr"
    assert len(run_tiny(tree, store).unreadable) == 1
    broken.write_bytes(whole)
    assert len(run_tiny(tree, store).unreadable) == 1
    assert run_tiny(tree, store, retry_unreadable=True).unreadable == []
    assert featstore.open(store).select().sizes["sample"] == 12


def test_extract__features_beyond_float16_are_unreadable_with_the_reason(tmp_path, monkeypatch):
    tree = write_tree(tmp_path / "images", 3)
    from support import tiny_backbone

    submit = tiny_backbone.TinyBackbone.submit

    def loud(self, pixels):
        features = submit(self, pixels)()
        features["cls"][0] *= 1e6
        return lambda: features

    monkeypatch.setattr(tiny_backbone.TinyBackbone, "submit", loud)
    summary = run_tiny(tree, tmp_path / "s.zarr", batch_size=100)
    assert len(summary.unreadable) == 2
    assert "float16 ends at 65504" in summary.unreadable[0].reason


def test_extract__duplicates_are_counted(tmp_path):
    tree = write_tree(tmp_path / "images", 3)
    copy = tree / "train/a/0_real/copy.png"
    copy.write_bytes((tree / "train/a/0_real/0000.png").read_bytes())
    assert run_tiny(tree, tmp_path / "s.zarr").n_duplicates == 1


def test_extract__full_disk_loses_nothing(images, reference, tmp_path, monkeypatch):
    write = feature_group.write_bytes
    calls = 0

    def full(path, data):
        nonlocal calls
        calls += 1
        if calls > 17:
            raise OSError(28, "No space left on device")
        write(path, data)

    monkeypatch.setattr(feature_group, "write_bytes", full)
    with pytest.raises(FeatstoreError, match=r"No space left.*run the same command again"):
        run_tiny(images, tmp_path / "s.zarr")
    monkeypatch.undo()
    summary = run_tiny(images, tmp_path / "s.zarr")
    assert summary.n_present > 0
    assert_same_content(reference, tmp_path / "s.zarr")


def test_estimate__writes_nothing(images, tmp_path):
    from support.tiny_backbone import TinyBackbone

    from featstore import backbones

    backbones.BACKBONES["tiny"] = TinyBackbone
    config = ExtractConfig(str(images), str(tmp_path / "s.zarr"), "tiny", device="cpu")
    estimate = extract_module.estimate(config)
    assert (estimate.n_images, estimate.n_present) == (1200, 0)
    assert estimate.n_bytes == 1200 * 2 * (N_LAYERS * WIDTH + 4)
    assert not (tmp_path / "s.zarr").exists()
