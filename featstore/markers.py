"""Block markers: the one fact that makes a block exist.

A marker is a small JSON file, published by rename after everything it vouches for is on disk. A
reader that finds no marker does not look at the block.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from featstore.durable import write_json
from featstore.errors import SchemaError


@dataclass(frozen=True)
class Marker:
    """What is known about a committed block.

    Parameters
    ----------
    block
        Number of the block; its first row is ``block * block_rows``.
    n_rows
        Rows it holds, readable or not.
    fingerprint
        Fingerprint of the feature set that wrote it.
    checksums
        CRC32C of every chunk file, by its path below the group.
    unreadable
        Reason by row (of the group, as text) for images that could not be decoded; these rows
        hold NaN and are never selected.
    provenance
        Device, batch size and the like: what must not matter but might.
    replacing
        Checksums of chunk files that replace those of `checksums`, one after the other, while the
        block gets more rows; rows that this marker vouches for are the same in both.
    """

    block: int
    n_rows: int
    fingerprint: str
    checksums: Mapping[str, int]
    unreadable: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    replacing: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def vouches_for(self, chunk: str, checksum: int) -> bool:
        """Return whether a chunk file with this checksum is sound.

        Parameters
        ----------
        chunk
            Path of the file below the group.
        checksum
            CRC32C of its bytes.

        Returns
        -------
        bool
            Whether the block was written with it.

        Examples
        --------
        >>> Marker(0, 8, "", {"cls/c/0/0/0": 1}, replacing={"cls/c/0/0/0": [2]}).vouches_for(
        ...     "cls/c/0/0/0", 2
        ... )
        True
        """
        return checksum in (self.checksums.get(chunk), *self.replacing.get(chunk, ()))


def marker_path(commits: Path, block: int) -> Path:
    """Return where the marker of a block lies.

    Parameters
    ----------
    commits
        Folder of the group's markers.
    block
        Number of the block.

    Returns
    -------
    Path
        The marker's file.
    """
    return commits / f"{block:08d}.json"


def publish(commits: Path, marker: Marker) -> None:
    """Make a block exist.

    Parameters
    ----------
    commits
        Folder of the group's markers.
    marker
        Its marker; an older one of the same block is replaced.
    """
    write_json(marker_path(commits, marker.block), asdict(marker))


def marker_files(commits: Path) -> list[Path]:
    """List the markers of a group.

    Parameters
    ----------
    commits
        Folder of the group's markers.

    Returns
    -------
    list of Path
        Files in the order of their blocks.
    """
    names = [name for name in os.listdir(commits) if re.fullmatch(r"\d{8,}\.json", name)]
    return [commits / name for name in sorted(names)]


def read_marker(path: Path) -> Marker:
    """Read one marker.

    Parameters
    ----------
    path
        Its file.

    Returns
    -------
    Marker
        The marker.

    Raises
    ------
    SchemaError
        If the file is not what this module writes.
    """
    try:
        return Marker(**json.loads(path.read_bytes()))
    except (ValueError, TypeError) as err:
        raise SchemaError(
            f"a block marker must be the JSON that featstore wrote, got a damaged {path}; "
            "run 'featstore verify --repair' and extract again."
        ) from err


def read_markers(commits: Path) -> dict[int, Marker]:
    """Read all markers of a group.

    Parameters
    ----------
    commits
        Folder of the group's markers.

    Returns
    -------
    dict
        Block number to marker, in order.

    Raises
    ------
    SchemaError
        If a marker is damaged.

    Notes
    -----
    One directory listing and one small file per block. A block that is dropped meanwhile does not
    exist.
    """
    markers = {}
    for path in marker_files(commits):
        with suppress(FileNotFoundError):
            marker = read_marker(path)
            markers[marker.block] = marker
    return markers
