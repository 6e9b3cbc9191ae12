"""Writing files so that they are there whole or not at all, whatever happens in between."""

import json
import os
import secrets
from pathlib import Path
from typing import Any

TEMPORARY = ".partial"


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Replace a file atomically: temporary file, fsync, rename.

    Parameters
    ----------
    path
        Target; its folder is created if absent.
    data
        The whole new content.

    Raises
    ------
    OSError
        If the disk is full or the folder not writable; the old content is then untouched.

    Notes
    -----
    The rename itself is durable only after `sync_folder`, so that many files share one call.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Any) -> None:
    """Replace a JSON file atomically and durably.

    Parameters
    ----------
    path
        Target; its folder is created if absent.
    content
        Anything of JSON types.
    """
    write_bytes(path, json.dumps(content, indent=1).encode())
    sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Make a file that somebody else wrote survive a power loss.

    Parameters
    ----------
    path
        An existing file or folder.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make earlier renames in a folder survive a power loss.

    Parameters
    ----------
    folder
        An existing folder.
    """
    sync_file(folder)
