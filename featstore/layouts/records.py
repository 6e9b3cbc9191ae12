"""What a scan returns, whatever the layout."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

REAL, FAKE = 0, 1


class Record(NamedTuple):
    """One image file and what its place on disk (or a manifest) says about it."""

    path: Path
    label: int
    generator: str
    dataset: str
    split: str
    pair: str = ""
    metadata: Mapping[str, Any] = {}


class Ignored(NamedTuple):
    """A file that is not part of the scan, and why."""

    path: Path
    reason: str


class Scan(NamedTuple):
    """What a layout found."""

    records: list[Record]
    ignored: list[Ignored]
