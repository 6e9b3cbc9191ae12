"""What counts as an image, and what becomes of everything else on a disk."""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from featstore.layouts import REAL, scan
from featstore.layouts.walking import IMAGE_SUFFIXES, walk_images


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def reasons(root: Path) -> dict[str, str]:
    return {item.path.name: item.reason for item in scan(root).ignored}


def test_walk__suffix_in_any_case_and_multi_dot_names(tmp_path: Path) -> None:
    names = [f"a.b{suffix}" for suffix in IMAGE_SUFFIXES]
    names += [name.upper() for name in names]
    images, ignored = walk_images(touch(tmp_path, *names))
    assert (images, ignored) == (sorted(names), [])


def test_walk__suffixes_are_ones_pillow_reads() -> None:
    from PIL import Image

    assert set(IMAGE_SUFFIXES) <= Image.registered_extensions().keys()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gan/0_real/notes.txt", "not an image suffix '.txt'"),
        ("gan/0_real/Thumbs.db", "not an image suffix '.db'"),
        ("gan/0_real/photo", "not an image suffix ''"),
        ("gan/0_real/a.png.part", "not an image suffix '.part'"),
        ("gan/0_real/._a.png", "hidden"),
        ("gan/.cache/0_real.png", "hidden"),
        ("gan/a.png", "not below a 0_real or 1_fake folder"),
        ("gan/0_real/1_fake/a.png", "below both a 0_real and a 1_fake folder"),
    ],
)
def test_ignored__every_other_file_has_a_reason(tmp_path: Path, name: str, reason: str) -> None:
    touch(tmp_path, "gan/0_real/fine.jpg", name)
    found = scan(tmp_path)
    assert [record.path.name for record in found.records] == ["fine.jpg"]
    assert [item.reason for item in found.ignored] == [reason]


def test_ignored__pipe_named_like_an_image(tmp_path: Path) -> None:
    touch(tmp_path, "gan/0_real/fine.jpg")
    os.mkfifo(tmp_path / "gan/0_real/pipe.jpg")
    (tmp_path / "gan/0_real/link.jpg").symlink_to("pipe.jpg")
    expected = dict.fromkeys(("pipe.jpg", "link.jpg"), "not a regular file")
    assert reasons(tmp_path) == expected


def test_ignored__folder_that_cannot_be_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "gan/0_real/a.png", "secret/0_real/b.png")
    scandir: Callable[[str], Iterator[os.DirEntry[str]]] = os.scandir

    def refusing(path: str) -> Iterator[os.DirEntry[str]]:
        if "secret" in path:
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert reasons(tmp_path) == {"secret": "folder cannot be listed: Permission denied"}


def test_links__dangling_and_circular_files_are_records(tmp_path: Path) -> None:
    touch(tmp_path, "gan/0_real/a.png")
    (tmp_path / "gan/0_real/gone.png").symlink_to("nowhere.png")
    (tmp_path / "gan/0_real/self.png").symlink_to("self.png")
    names = [record.path.name for record in scan(tmp_path).records]
    assert names == ["a.png", "gone.png", "self.png"]


def test_links__folders_are_followed_wherever_they_are_linked(tmp_path: Path) -> None:
    touch(tmp_path, "pool/a.png")
    for generator in ("g1", "g2"):
        touch(tmp_path, f"data/{generator}/1_fake/x.png")
        (tmp_path / "data" / generator / "0_real").symlink_to(tmp_path / "pool")
    real = [r.dataset for r in scan(tmp_path / "data").records if r.label == REAL]
    assert real == ["g1", "g2"]


def test_links__loop_is_left(tmp_path: Path) -> None:
    touch(tmp_path, "gan/0_real/a.png")
    (tmp_path / "gan/0_real/again").symlink_to(tmp_path)
    found = scan(tmp_path)
    assert len(found.records) == 1
    assert [item.reason for item in found.ignored] == ["link to a folder above it"]


def test_order__bytes_of_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [b"Z", b"a", b"a-b", b"a/b", "é".encode(), b"\xff", b"10", b"9"]
    for name in names:
        touch(tmp_path, os.fsdecode(b"g/0_real/" + name + b".png"))
    scandir: Callable[[str], Iterator[os.DirEntry[str]]] = os.scandir

    def shuffled(path: str) -> list[os.DirEntry[str]]:
        entries = list(scandir(path))
        random.Random(0).shuffle(entries)
        return entries

    monkeypatch.setattr(os, "scandir", shuffled)
    found = [os.fsencode(record.path) for record in scan(tmp_path).records]
    assert found == sorted(os.fsencode(tmp_path) + b"/g/0_real/" + name + b".png" for name in names)
