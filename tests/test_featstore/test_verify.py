import json
import shutil

import filelock
import pytest
import zarr
from support.extraction import assert_same_content, run_tiny
from support.images import write_tree

import featstore
from featstore.errors import SchemaError
from featstore.verify import rebuild_catalogue, verify
from featstore.zarr_nodes import open_group


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("images"), 150)


@pytest.fixture(scope="module")
def sound(images, tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "s.zarr"
    run_tiny(images, path)
    return path


@pytest.fixture
def store(sound, tmp_path):
    return featstore.open(shutil.copytree(sound, tmp_path / "s.zarr"))


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
def test_verify__one_flipped_bit_is_found_dropped_and_refilled(store, images, sound, chunk):
    flip(store.path / GROUP / chunk)
    (finding,) = verify(store, repair=True)
    assert finding.kind == "damaged"
    assert f"chunk {chunk} does not match" in finding.problem
    assert store.contents()["missing"].sum() > 0
    run_tiny(images, store.path)
    assert verify(store) == []
    assert_same_content(store.path, sound)


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


@pytest.mark.parametrize("where", ["", "samples/a/train", "features/tiny", GROUP])
@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '{"zarr_format": 3, "x": 1}'])
def test_open_group__damaged_metadata_is_named(store, where, text):
    path = store.path / where / "zarr.json"
    path.write_text(text)
    with pytest.raises(SchemaError, match="must describe a Zarr v3 group, got a damaged") as caught:
        open_group(store.path / where)
    assert repr(str(path)) in str(caught.value)
    assert ("--rebuild" in str(caught.value)) == (where in {"", GROUP})


def test_open_group__absent_or_an_array(store):
    with pytest.raises(SchemaError, match="got no such file"):
        open_group(store.path / "nowhere")
    with pytest.raises(SchemaError, match="got an array"):
        open_group(store.path / "samples/a/train/label")


NODES = [GROUP, f"{GROUP}/cls", f"{GROUP}/sample_id", "samples/a/train", "samples/a/train/label"]


@pytest.mark.parametrize("text", ["", "{}", None], ids=["empty", "bare", "absent"])
@pytest.mark.parametrize("node", NODES)
def test_verify__damaged_metadata_is_a_finding(store, node, text):
    path = store.path / node / "zarr.json"
    path.unlink() if text is None else path.write_text(text)
    (finding,) = verify(store, repair=True)
    assert (finding.kind, finding.block) == ("broken", -1)


def test_verify__group_folder_removed(store, images):
    shutil.rmtree(store.path / GROUP)
    (finding,) = verify(store)
    assert finding.kind == "broken"
    assert "--rebuild" in finding.problem
    rebuild_catalogue(store)
    assert verify(store) == []
    run_tiny(images, store.path)
    assert verify(store) == []


def test_verify__unreadable_chunk_is_damaged(store):
    chunk = store.path / GROUP / "cls/c/0/2/0"
    chunk.unlink()
    chunk.mkdir()
    (finding,) = verify(store)
    assert finding.kind == "damaged"
    assert "IsADirectoryError" in finding.problem


def test_verify__marker_of_another_block(store):
    commits = store.path / GROUP / "commits"
    shutil.copy(commits / "00000000.json", commits / "00000001.json")
    assert [(f.kind, f.block) for f in verify(store)] == [("damaged", 1)]


def test_verify__stray_files_beside_the_markers(store):
    for name in ("foo.json", "7.json", "00000000.json.bak"):
        (store.path / GROUP / "commits" / name).write_text("x")
    assert verify(store) == []
    assert store.contents()["missing"].sum() == 0


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("label", 2, "labels must be 0 or 1"),
        ("generator", -1, "generator codes must lie in"),
        ("generator", 99, "generator codes must lie in"),
        ("path", "", "paths must not be empty"),
    ],
)
def test_verify__illegal_sample_columns(store, column, value, problem):
    zarr.open_array(store.path / "samples/a/train" / column, mode="r+")[3] = value
    (finding,) = verify(store)
    assert (finding.kind, finding.group) == ("broken", "samples/a/train")
    assert problem in finding.problem


def test_verify__short_or_truncated_sample_columns(store):
    labels = zarr.open_array(store.path / "samples/a/train/label", mode="r+")
    labels.resize((7,))
    chunk = store.path / "samples/a/test/path/c/0"
    chunk.write_bytes(chunk.read_bytes()[:9])
    problems = {finding.group: finding.problem for finding in verify(store)}
    assert "'label' must have 300 rows, got 7" in problems["samples/a/train"]
    assert "'path' cannot be read" in problems["samples/a/test"]


def test_verify__temporary_files_anywhere(store):
    places = ["x.partial", "samples/y.partial", "features/tiny/zarr.json.00.partial"]
    for place in places:
        (store.path / place).write_bytes(b"x")
    assert sorted(f.problem for f in verify(store, repair=True)) == sorted(places)
    assert verify(store) == []


def change_attributes(path, change):
    content = json.loads((path / "zarr.json").read_text())
    change(content["attributes"])
    (path / "zarr.json").write_text(json.dumps(content))


def test_rebuild_catalogue__of_a_root_that_lost_it(store):
    before = store.groups()
    change_attributes(store.path, lambda attributes: attributes.pop("catalogue"))
    assert {f.kind for f in verify(store)} == {"broken"}
    assert rebuild_catalogue(store) == before == store.groups()
    assert verify(store) == []


def test_rebuild_catalogue__with_the_root_of_a_new_store(store, tmp_path):
    before = store.groups()
    featstore.create(tmp_path / "new.zarr")
    shutil.copy(tmp_path / "new.zarr/zarr.json", store.path / "zarr.json")
    assert {f.problem.split(";")[0] for f in verify(store)} == {"missing in the catalogue"}
    assert rebuild_catalogue(featstore.open(store.path)) == before


def test_rebuild_catalogue__leaves_out_groups_that_are_not_whole(store):
    change_attributes(store.path / GROUP, lambda attributes: attributes.pop("n_rows"))
    assert [key.split for key in rebuild_catalogue(store)] == ["test"]
    assert verify(store) == []


def test_rebuild_catalogue__waits_for_planning(store, monkeypatch):
    lock = filelock.FileLock
    monkeypatch.setattr(filelock, "FileLock", lambda path: lock(path, timeout=0.1))
    with store.planning(), pytest.raises(filelock.Timeout):
        rebuild_catalogue(store)
