import json
import os

import pytest

from featstore import durable


def test_write_bytes__replaces_whole(tmp_path):
    target = tmp_path / "deep" / "file"
    durable.write_bytes(target, b"first")
    durable.write_bytes(target, b"2nd")
    assert target.read_bytes() == b"2nd"
    assert os.listdir(target.parent) == ["file"]


def test_write_bytes__failure_leaves_old_content_and_no_temporary(tmp_path, monkeypatch):
    target = tmp_path / "file"
    durable.write_bytes(target, b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        durable.write_bytes(target, b"new")
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_write_json__round_trip(tmp_path):
    content = {"ä": [1, None, "x"]}
    durable.write_json(tmp_path / "c.json", content)
    assert json.loads((tmp_path / "c.json").read_text()) == content
