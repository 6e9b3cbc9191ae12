import pytest
from support.extraction import assert_same_content, run_tiny
from support.images import write_tree

import featstore
from featstore.errors import SchemaError
from featstore.verify import rebuild_catalogue, verify


@pytest.fixture
def images(tmp_path):
    return write_tree(tmp_path / "images", 150)


@pytest.fixture
def store(images, tmp_path):
    run_tiny(images, tmp_path / "s.zarr")
    return featstore.open(tmp_path / "s.zarr")


GROUP = "features/tiny/clean/a/train"


def flip(path):
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)


def test_verify__sound_store_has_no_findings(store):
    assert verify(store) == []


@pytest.mark.parametrize(
    "chunk", ["cls/c/0/1/0", "proj/c/1/0", "sample_id/c/0/0", "file_facts/c/0/0"]
)
def test_verify__one_flipped_bit_is_found_dropped_and_refilled(store, images, tmp_path, chunk):
    run_tiny(images, tmp_path / "sound.zarr")
    flip(store.path / GROUP / chunk)
    (finding,) = verify(store, repair=True)
    assert finding.kind == "damaged"
    assert f"chunk {chunk} does not match" in finding.problem
    assert store.contents()["missing"].sum() > 0
    run_tiny(images, store.path)
    assert verify(store) == []
    assert_same_content(store.path, tmp_path / "sound.zarr")


def test_verify__missing_chunk(store):
    (store.path / GROUP / "cls/c/0/2/0").unlink()
    (finding,) = verify(store)
    assert finding.problem == "chunk cls/c/0/2/0 is missing"


def test_verify__damaged_marker_is_named_and_repairable(store, images):
    marker = store.path / GROUP / "commits/00000000.json"
    marker.write_text("{")
    with pytest.raises(SchemaError, match="verify --repair"):
        store.select()
    assert [f.kind for f in verify(store, repair=True)] == ["damaged"]
    run_tiny(images, store.path)
    assert verify(store) == []


def test_verify__unmarked_and_leftover_files(store):
    (store.path / GROUP / "commits/00000001.json").unlink()
    partial = store.path / GROUP / "cls/c/0/0/0.abcd.partial"
    partial.write_bytes(b"x")
    assert {f.kind for f in verify(store)} == {"unmarked", "leftover"}
    verify(store, repair=True)
    assert not partial.exists()


def test_rebuild_catalogue__finds_the_groups_on_disk(store):
    before = store.groups()
    store.catalogue(set())
    assert store.groups() == []
    assert rebuild_catalogue(store) == before == store.groups()
