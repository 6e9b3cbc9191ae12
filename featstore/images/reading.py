"""Reading one image file: its identity, its facts and its pixels, or the reason why not.

Nothing here raises for the sake of a file: extraction records what cannot be read and goes on.
"""

import os
import stat
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from featstore.errors import UnreadableImageError
from featstore.images.decode import FileFacts, decode
from featstore.images.preprocess import Preprocess

ID_BYTES = 16


class ReadImage(NamedTuple):
    """What came of one file.

    ``sample_id`` is the 128-bit BLAKE2b digest of the file's bytes, sixteen zero bytes if they
    could not be read. ``reason`` is empty if the image is fine; otherwise it says in a few words
    what is wrong, and ``facts`` holds no more than the number of bytes.
    """

    sample_id: bytes
    facts: FileFacts
    reason: str


def read_image(path: Path, preprocess: Preprocess, out: NDArray[np.uint8]) -> ReadImage:
    """Read a file and decode it into `out`.

    Parameters
    ----------
    path
        The image file.
    preprocess
        Geometry of the view.
    out
        Array of shape (crop, crop, 3) that receives the pixels; zeros if the image is unreadable.

    Returns
    -------
    ReadImage
        Identity, facts and, if unreadable, the reason.

    Raises
    ------
    ValueError
        If `out` has the wrong shape or dtype.

    Notes
    -----
    Thread-safe. The file is held in memory once.

    Examples
    --------
    >>> out = np.empty((2, 2, 3), np.uint8)
    >>> read_image(Path("/nowhere/a.png"), Preprocess(crop=2), out).reason
    'no such file or directory'
    """
    try:
        data = _bytes(path)
    except (OSError, ValueError) as err:  # ValueError: no file can have such a name
        out[:] = 0
        return ReadImage(bytes(ID_BYTES), FileFacts(0, 0, 0, ""), _why(path, err))
    sample_id = blake2b(data, digest_size=ID_BYTES).digest()
    try:
        return ReadImage(sample_id, decode(data, preprocess, out), "")
    except UnreadableImageError as err:
        out[:] = 0
        return ReadImage(sample_id, FileFacts(len(data), 0, 0, ""), str(err))


def _bytes(path: Path) -> bytes:
    """Read a regular file; opening any other kind might wait for ever."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("not a regular file")
    return path.read_bytes()


def _why(path: Path, err: OSError | ValueError) -> str:
    reason = ((err.strerror if isinstance(err, OSError) else None) or str(err)).lower()
    dangling = isinstance(err, FileNotFoundError) and os.path.islink(path)
    return f"{reason} (dangling link)" if dangling else reason
