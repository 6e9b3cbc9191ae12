"""Reading files: identity, facts, and a reason instead of an error."""

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from support.odd_images import PHOTO, write_odd_images

from featstore.images.decode import FileFacts
from featstore.images.preprocess import Preprocess
from featstore.images.reading import ReadImage, read_image

NATIVE = Preprocess(crop=24)
VIEWS = [
    NATIVE,
    Preprocess(crop=24, resize_mode="shortest", resize=28),
    Preprocess(crop=24, resize_mode="squash", resize=24, convert="before"),
]
NOBODY = 65534


def _read(path: Path, view: Preprocess = NATIVE) -> tuple[ReadImage, np.ndarray]:
    out = np.full((view.crop, view.crop, 3), 99, np.uint8)
    return read_image(path, view, out), out


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.resize_mode)
def test_read_image__gives_every_odd_file_its_status(tmp_path, view):
    expected = write_odd_images(tmp_path)
    got = {
        name: "unreadable" if _read(tmp_path / name, view)[0].reason else "ok" for name in expected
    }
    assert got == expected


def test_read_image__returns_identity_and_facts(tmp_path):
    write_odd_images(tmp_path)
    data = (tmp_path / "a.b.PNG").read_bytes()
    image, out = _read(tmp_path / "a.b.PNG")
    digest = hashlib.blake2b(data, digest_size=16).digest()
    assert image == ReadImage(digest, FileFacts(len(data), 56, 40, "PNG"), "")
    np.testing.assert_array_equal(out, PHOTO[8:32, 16:40])


def test_read_image__keeps_the_identity_of_an_undecodable_file(tmp_path):
    path = tmp_path / "text.jpg"
    path.write_bytes(b"hello")
    digest = hashlib.blake2b(b"hello", digest_size=16).digest()
    image, out = _read(path)
    reason = "not an image of a known format"
    assert image == ReadImage(digest, FileFacts(5, 0, 0, ""), reason)
    assert not out.any()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("dangling.jpg", "no such file or directory (dangling link)"),
        ("missing.jpg", "no such file or directory"),
        ("folder.jpg", "not a regular file"),
        ("fifo.jpg", "not a regular file"),
        ("x" * 5000 + ".jpg", "file name too long"),
        ("nul\0.jpg", "embedded null byte"),
        ("empty.png", "empty file"),
    ],
)
def test_read_image__says_why(tmp_path, name, reason):
    write_odd_images(tmp_path)
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "fifo.jpg")
    assert _read(tmp_path / name)[0].reason == reason


def test_read_image__of_no_bytes_has_the_zero_identity(tmp_path):
    image, out = _read(tmp_path / "missing.jpg")
    assert image.sample_id == bytes(16)
    assert image.facts == FileFacts(0, 0, 0, "")
    assert not out.any()


@contextmanager
def _as_an_ordinary_user() -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_read_image__says_permission_denied():
    with tempfile.TemporaryDirectory() as folder:
        write_odd_images(Path(folder))
        Path(folder).chmod(0o755)
        (Path(folder) / "photo.jpg").chmod(0)
        with _as_an_ordinary_user():
            denied, _ = _read(Path(folder) / "photo.jpg")
            allowed, _ = _read(Path(folder) / "UPPER.JPG")
    assert (denied.reason, allowed.reason) == ("permission denied", "")


def test_read_image__in_a_closed_folder():
    script = (
        "import os, sys, numpy as np\n"
        "from pathlib import Path\n"
        "from featstore.images.preprocess import Preprocess\n"
        "from featstore.images.reading import read_image\n"
        f"if os.geteuid() == 0: os.setuid({NOBODY})\n"
        "out = np.empty((4, 4, 3), np.uint8)\n"
        "print(read_image(Path(sys.argv[1]), Preprocess(crop=4), out).reason)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        closed = Path(folder) / "closed"
        closed.mkdir()
        (closed / "link.jpg").symlink_to("nowhere.jpg")
        Path(folder).chmod(0o755)
        closed.chmod(0)
        command = [sys.executable, "-c", script, str(closed / "link.jpg")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        closed.chmod(0o700)
    assert done.stdout == "permission denied\n"


def test_read_image__refuses_a_wrong_out(tmp_path):
    write_odd_images(tmp_path)
    with pytest.raises(ValueError, match=r"'out' must be uint8 \(24, 24, 3\), got uint8"):
        read_image(tmp_path / "photo.jpg", NATIVE, np.empty((8, 8, 3), np.uint8))
