"""The store's format in one place: names, dimensions, dtypes, meanings and the format version.

Everything written is described here; a reader that knows this file (or plain Zarr) can read a
store without the rest of the package::

    store.zarr/                         a Zarr v3 group; its attributes are the catalogue
      samples/<dataset>/<split>/        `SAMPLE_ARRAYS`: what is known before reading a file
      features/<feature set>/<view>/<dataset>/<split>/
                                        `FEATURE_ARRAYS`: what came out of the files
          commits/<block>.json          a block exists when its marker does

Row ``i`` of a feature group is row ``i`` of the sample table of its dataset and split. Rows are
grouped in blocks of ``block_rows`` rows; one chunk file holds one block of one layer.
"""

import re
from typing import NamedTuple
from urllib.parse import quote, unquote

from featstore.errors import ConfigError

FORMAT_VERSION = 1

SAMPLES, FEATURES, COMMITS = "samples", "features", "commits"
SAMPLE, LAYER, FEATURE, EMBEDDING = "sample", "layer", "feature", "embedding"
PROJ = "proj"
METADATA_PREFIX = "meta_"
NO_PAIR = -1
SAMPLE_ID_BYTES = 16
LONGEST_FOLDER = 200
"""Bytes; file systems end at 255."""


class ArraySpec(NamedTuple):
    """One array of a group: dtype, dimensions and what a value means."""

    dtype: str
    dims: tuple[str, ...]
    meaning: str


SAMPLE_ARRAYS = {
    "path": ArraySpec("string", (SAMPLE,), "path of the file, relative to the scanned folder"),
    "label": ArraySpec("int8", (SAMPLE,), "0 real, 1 generated"),
    "generator": ArraySpec("int16", (SAMPLE,), "index into the group's attribute 'generators'"),
    "pair": ArraySpec("int64", (SAMPLE,), "equal for images aligned with each other; -1 for none"),
}

FACTS = ("n_bytes", "width", "height", "format")
FORMATS = ("", "JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO", "AVIF", "other")

FEATURE_ARRAYS = {
    "cls": ArraySpec(
        "float16", (SAMPLE, LAYER, FEATURE), "class token (or pooled features) per layer"
    ),
    PROJ: ArraySpec("float16", (SAMPLE, EMBEDDING), "projected embedding of the whole image"),
    "sample_id": ArraySpec("uint8", (SAMPLE, "byte"), "BLAKE2b-128 of the file's bytes"),
    "file_facts": ArraySpec(
        "int64", (SAMPLE, "fact"), "n_bytes, width, height (pixels), index into 'formats'"
    ),
    COMMITS: ArraySpec("int32", ("block",), "rows of each block that may be read, 0 for none"),
}

BLOCK_ROWS = ((10_000, 256), (10_000_000, 2048))
"""Below so many planned rows a block has so many rows; above the last, `LARGEST_BLOCK`."""
LARGEST_BLOCK = 8192


def block_rows(n_rows: int) -> int:
    """Return the rows per block of a group with so many planned rows.

    Parameters
    ----------
    n_rows
        Rows planned when the sample table is created.

    Returns
    -------
    int
        256, 2048 or 8192: small groups must not waste a large last chunk, large ones must not
        consist of millions of files.

    Examples
    --------
    >>> block_rows(750), block_rows(100_000), block_rows(10**8)
    (256, 2048, 8192)
    """
    return next((rows for limit, rows in BLOCK_ROWS if n_rows < limit), LARGEST_BLOCK)


def folder_name(name: str) -> str:
    """Return a dataset, split or feature-set name as a folder name.

    Parameters
    ----------
    name
        Any non-empty text.

    Returns
    -------
    str
        The name with everything but letters, digits and ``" ._+-"`` percent-encoded, byte by byte
        where it is no Unicode.

    Raises
    ------
    ConfigError
        If the name is empty, or longer than `LONGEST_FOLDER` bytes when encoded.

    Examples
    --------
    >>> folder_name("SD 1.5/512"), folder_name("..")
    ('SD 1.5%2F512', '%2E.')
    """
    if not name:
        raise ConfigError("a dataset, split, feature set or view needs a name, got ''; name it.")
    folder = re.sub(r"^\.", "%2E", quote(name, safe=" ._+-", errors="surrogateescape"))
    if len(folder) > LONGEST_FOLDER:
        raise ConfigError(
            f"the name of a dataset, split, feature set or view must be shorter: at most "
            f"{LONGEST_FOLDER} bytes percent-encoded, got {len(folder)} of {name[:40]!r}…; "
            "rename it."
        )
    return folder


def plain_name(folder: str) -> str:
    """Return the name that `folder_name` encoded.

    Parameters
    ----------
    folder
        A folder name of the store.

    Returns
    -------
    str
        The original text.

    Examples
    --------
    >>> plain_name(folder_name("a/b%c"))
    'a/b%c'
    """
    return unquote(folder, errors="surrogateescape")


def array_spec(array: str) -> ArraySpec:
    """Return the specification of a feature array, ``cls_<width>`` included.

    Parameters
    ----------
    array
        Name of an array of a feature group.

    Returns
    -------
    ArraySpec
        Arrays of several widths live side by side: their dimensions carry the width too.

    Examples
    --------
    >>> array_spec("cls_512").dims
    ('sample', 'layer_512', 'feature_512')
    """
    if array in FEATURE_ARRAYS:
        return FEATURE_ARRAYS[array]
    width = array.removeprefix("cls_")
    return ArraySpec(
        "float16", (SAMPLE, f"{LAYER}_{width}", f"{FEATURE}_{width}"), "pooled stage features"
    )
