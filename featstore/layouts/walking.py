"""Which files of a folder are images, without opening any."""

import os
from pathlib import Path

from featstore.errors import ConfigError
from featstore.layouts.records import Ignored

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif",
)  # fmt: skip
"""Suffixes, in lower case, of files that count as images; upper case is accepted too."""


def walk_images(root: Path) -> tuple[list[str], list[Ignored]]:
    """List the image files below a folder, and everything else with the reason.

    Parameters
    ----------
    root
        An existing folder. Links to folders are followed, except back to a folder they lie in.

    Returns
    -------
    images : list of str
        Paths relative to `root`, ``/`` between the parts. A dangling link counts as an image: it
        is for extraction to report it as unreadable.
    ignored : list of Ignored
        Other files, and folders that were not entered (hidden, not listable, link loops).

    Both are sorted by the bytes of the path, independent of locale and file system.

    Raises
    ------
    ConfigError
        If `root` is no folder.

    Notes
    -----
    One `os.scandir` per folder; no image is opened or examined.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.PNG", "a.v2.jpg", "notes.txt"):
    ...         _ = Path(folder, name).touch()
    ...     images, ignored = walk_images(Path(folder))
    >>> images, ignored[0].reason
    (['a.v2.jpg', 'b.PNG'], "not an image suffix '.txt'")
    """
    if not root.is_dir():
        raise ConfigError(
            f"images must be in a folder, got {str(root)!r}, which is none; check the path."
        )
    images: list[str] = []
    ignored: list[Ignored] = []
    pending: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while pending:
        prefix, above = pending.pop()
        folder = os.path.join(root, prefix)
        try:
            status, entries = os.stat(folder), list(os.scandir(folder))
        except OSError as error:
            reason = f"folder cannot be listed: {error.strerror}"
            ignored.append(Ignored(Path(folder), reason))
            continue
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            ignored.append(Ignored(Path(folder), "link to a folder above it"))
            continue
        for entry in entries:
            if reason := _reason_to_ignore(entry):
                ignored.append(Ignored(Path(entry.path), reason))
            elif _is_folder(entry):
                pending.append((f"{prefix}{entry.name}/", above | {identity}))
            else:
                images.append(prefix + entry.name)
    images.sort(key=os.fsencode)
    ignored.sort(key=lambda item: os.fsencode(item.path))
    return images, ignored


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; a link that leads nowhere is none."""
    if entry.is_symlink():
        return os.path.isdir(entry.path)
    return entry.is_dir()


def _is_special(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a pipe, socket or device: reading one could block for ever."""
    if entry.is_symlink():
        return os.path.exists(entry.path) and not os.path.isfile(entry.path)
    return not entry.is_file()


def _reason_to_ignore(entry: os.DirEntry[str]) -> str:
    """Return why an entry is neither an image nor a folder to enter; empty if it is."""
    if entry.name.startswith("."):
        return "hidden"
    if _is_folder(entry):
        return ""
    suffix = os.path.splitext(entry.name)[1]
    if suffix.lower() not in IMAGE_SUFFIXES:
        return f"not an image suffix {suffix!r}"
    return "not a regular file" if _is_special(entry) else ""
