"""What is committed stays committed when a dataset grows, moves or is read again."""

import shutil

import numpy as np
import pytest
from PIL import Image
from support.extraction import content, rows_by_path, run_tiny
from support.images import write_tree

import featstore
from featstore import durable, feature_group, pipeline, samples
from featstore.errors import ConfigError, FeatstoreError, SchemaError
from featstore.images.reading import read_image
from featstore.planning import missing_rows, only_extraction
from featstore.store import GroupKey

KEY = GroupKey("tiny", "clean", "a", "train")
COMMITS = "features/tiny/clean/a/train/commits"


@pytest.fixture
def tree(tmp_path):
    return write_tree(tmp_path / "images", 20)


@pytest.fixture
def store(tree, tmp_path):
    run_tiny(tree, tmp_path / "s.zarr")
    return tmp_path / "s.zarr"


@pytest.fixture
def read(monkeypatch):
    """Return the list of names of the image files that get read."""
    names = []

    def noted(path, preprocess, out):
        names.append(path.name)
        return read_image(path, preprocess, out)

    monkeypatch.setattr(pipeline, "read_image", noted)
    return names


def add_images(tree, n=10):
    for number in range(n):
        pixels = np.full((16, 16, 3), number, np.uint8)
        Image.fromarray(pixels).save(tree / "train/a/0_real" / f"new{number}.png")


def rows(store):
    return rows_by_path(featstore.open(store).select())


def test_extract__growth_reads_only_new_images(tree, store, read):
    before = rows(store)
    add_images(tree)
    summary = run_tiny(tree, store)
    assert sorted(read) == [f"new{i}.png" for i in range(10)]
    assert (summary.n_extracted, summary.n_present) == (10, 80)
    after = rows(store)
    assert len(after) == 90
    assert before.items() <= after.items()


def test_extract__growth_needs_no_old_image(tree, store):
    before = rows(store)
    for file in (tree / "train/a/1_fake").glob("*.png"):
        file.write_bytes(b"")
    add_images(tree)
    assert run_tiny(tree, store).unreadable == []
    assert before.items() <= rows(store).items()


def test_extract__retry_reads_only_unreadable_images(tree, tmp_path, read):
    broken = tree / "train/a/0_real/0001.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:40])
    store = tmp_path / "s.zarr"
    run_tiny(tree, store)
    before = rows(store)
    broken.write_bytes(whole)
    read.clear()
    assert run_tiny(tree, store, retry_unreadable=True).n_extracted == 1
    assert read == ["0001.png"]
    assert before.items() <= rows(store).items()
    assert len(rows(store)) == 80


def test_extract__growth_keeps_unreadable_rows_unreadable(tree, tmp_path):
    (tree / "train/a/0_real/0001.png").write_bytes(b"no image")
    store = tmp_path / "s.zarr"
    first = run_tiny(tree, store).unreadable
    add_images(tree)
    assert run_tiny(tree, store).unreadable == first


def test_extract__crash_while_growing_leaves_old_rows_sound(tree, store, monkeypatch):
    before = rows(store)
    add_images(tree)
    write, calls = feature_group.write_bytes, []

    def full(path, data):
        calls.append(path)
        if len(calls) > 3:
            raise OSError(28, "No space left on device")
        write(path, data)

    monkeypatch.setattr(feature_group, "write_bytes", full)
    with pytest.raises(FeatstoreError, match="block could not be written"):
        run_tiny(tree, store)
    monkeypatch.undo()
    assert rows(store) == before
    group = featstore.open(store).group(KEY)
    assert group.draft(0).n_rows == 50  # all chunks match the marker, old ones and new ones
    assert missing_rows(group) == {0: range(40, 50)}
    run_tiny(tree, store)
    assert before.items() <= rows(store).items()
    assert len(rows(store)) == 90


def test_extract__growth_does_not_copy_damage(tree, store):
    chunk = featstore.open(store).group(KEY).chunk_path("cls", 0, 1)
    data = bytearray(chunk.read_bytes())
    data[5] ^= 1
    chunk.write_bytes(data)
    add_images(tree)
    with pytest.raises(SchemaError, match="verify --repair"):
        run_tiny(tree, store)


def test_extract__folder_may_be_typed_in_any_way(tree, store, tmp_path, monkeypatch):
    before = rows(store)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tree)
    for typed in ("images", "./images", "images/../images", tmp_path / "link"):
        assert run_tiny(typed, store).n_extracted == 0
    monkeypatch.chdir(tree)
    assert run_tiny(".", store).n_extracted == 0
    assert rows(store) == before


def test_extract__another_folder_of_the_same_names_is_refused(tree, store, tmp_path):
    other = write_tree(tmp_path / "other", 3, seed=1)
    with pytest.raises(ConfigError, match=r"dataset 'a', split '.*' .*images', got .*other'"):
        run_tiny(other, store)


def test_extract__moved_folder_is_followed(tree, store, tmp_path):
    before = rows(store)
    moved = tmp_path / "moved"
    shutil.move(tree, moved)
    assert run_tiny(moved, store).n_extracted == 0
    add_images(moved)
    assert run_tiny(moved, store).n_extracted == 10
    assert before.items() <= rows(store).items()
    assert featstore.open(store).samples("a", "train").root == str(moved)


def test_extract__moved_folder_that_lost_images_is_refused(tree, store, tmp_path):
    shutil.move(tree, tmp_path / "moved")
    (tmp_path / "moved/train/a/0_real/0003.png").unlink()
    with pytest.raises(ConfigError, match="every stored image"):
        run_tiny(tmp_path / "moved", store)


def test_extract__second_extraction_at_the_same_time_is_refused(tree, store):
    group = featstore.open(store).group(KEY)
    with only_extraction(group), pytest.raises(FeatstoreError, match=r"another extraction of .*a"):
        run_tiny(tree, store)
    assert run_tiny(tree, store).n_extracted == 0


def test_write__does_not_shrink_a_grown_block(tree, store):
    stale = featstore.open(store).group(KEY)
    block = stale.draft(0)
    add_images(tree)
    run_tiny(tree, store)
    before = content(store)
    stale.write(block, {})
    after = content(store)
    np.testing.assert_array_equal(after["cls"], before["cls"])


def manifest(tree, years):
    lines = [f"train/a/0_real/{i:04d}.png,0,{year}" for i, year in enumerate(years)]
    (tree / "m.csv").write_text("\n".join(["path,label,year", *lines]))
    return tree / "m.csv"


def test_extract__metadata_may_not_change_type(tree, tmp_path):
    options = {"layout": "manifest", "dataset": "a", "split": "train"}
    run_tiny(manifest(tree, [2000, 2001]), tmp_path / "s.zarr", **options)
    with pytest.raises(ConfigError, match=r"'year' is stored as .*int64.* hold .*float64"):
        run_tiny(manifest(tree, [2000, 2001, 2001.5]), tmp_path / "s.zarr", **options)
    assert featstore.open(tmp_path / "s.zarr").samples("a", "train").n_rows == 2


def test_extract__metadata_columns_are_checked_without_new_rows(tree, tmp_path):
    options = {"layout": "manifest", "dataset": "a", "split": "train"}
    path = manifest(tree, [2000, 2001])
    run_tiny(path, tmp_path / "s.zarr", **options)
    path.write_text(path.read_text().replace("year", "month"))
    with pytest.raises(ConfigError, match="metadata columns of the store"):
        run_tiny(path, tmp_path / "s.zarr", **options)


def test_extract__rank_must_be_a_number(tree, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "one")
    with pytest.raises(ConfigError, match=r"whole numbers, got \('one', '1'\)"):
        run_tiny(tree, tmp_path / "s.zarr")


def test_write__marker_becomes_durable_after_all_it_vouches_for(tree, store, monkeypatch):
    group = featstore.open(store).group(KEY)
    block = group.draft(0)
    group.drop(0)
    events = []
    fsync, replace = durable.os.fsync, durable.Path.replace

    def noted_fsync(descriptor):
        events.append(("sync", durable.os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def noted_replace(path, target):
        events.append(("rename", str(target)))
        return replace(path, target)

    monkeypatch.setattr(durable.os, "fsync", noted_fsync)
    monkeypatch.setattr(durable.Path, "replace", noted_replace)
    group.write(block, {})
    monkeypatch.undo()
    renames = [name for kind, name in events if kind == "rename"]
    marker = f"{store}/{COMMITS}/00000000.json"
    assert renames[-1] == marker
    assert len(renames) == 2 + 3 + 1 + 1 + 1  # ids and facts, cls, proj, commits, marker
    published = events.index(("rename", marker))
    for name in renames[:-1]:
        at = events.index(("rename", name))
        assert events[at - 1][0] == "sync"  # the bytes, under their temporary name
        assert events[at - 1][1].startswith(name)
        assert ("sync", name.rpartition("/")[0]) in events[at:published]
    assert events[-1] == ("sync", f"{store}/{COMMITS}")


def test_extract__more_generators_than_int16_counts_are_refused(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "MOST_GENERATORS", 1)
    with pytest.raises(ConfigError, match="up to 1 generators, got 2"):
        run_tiny(tree, tmp_path / "s.zarr")
