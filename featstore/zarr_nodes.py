"""Creating the Zarr groups and arrays of a store, always in the same uncompressed layout."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from featstore.durable import sync_file, write_json
from featstore.schema import ArraySpec


def create_array(
    group: zarr.Group, name: str, spec: ArraySpec, shape: tuple[int, ...], chunks: tuple[int, ...]
) -> zarr.Array[Any]:
    """Create an array that is plain Zarr v3: no compression, no sharding, named dimensions.

    Parameters
    ----------
    group
        Parent group, open for writing.
    name
        Name of the array; an array of that name must not exist.
    spec
        Dtype, dimensions and meaning; the meaning is stored as the attribute ``comment``.
    shape, chunks
        Rows first; a chunk of a float16 array is one block of one layer.

    Returns
    -------
    zarr.Array
        The empty array. Unwritten floats read as NaN.
    """
    return group.create_array(
        name,
        shape=shape,
        chunks=chunks,
        dtype=spec.dtype,
        fill_value=np.nan if spec.dtype == "float16" else None,
        compressors=None,
        filters=None,
        dimension_names=spec.dims,
        attributes={"comment": spec.meaning},
    )


def require_group(root: Path, *parts: str) -> zarr.Group:
    """Return a nested group, creating it and its parents where absent.

    Parameters
    ----------
    root
        The store's folder, itself a Zarr group.
    *parts
        Folder names below it.

    Returns
    -------
    zarr.Group
        Open for writing.
    """
    return zarr.open_group(root, mode="r+", zarr_format=3).require_group("/".join(parts))


def open_group(path: Path, mode: Any = "r") -> zarr.Group:
    """Open an existing Zarr v3 group of the store without consolidated metadata.

    Parameters
    ----------
    path
        Folder of the group.
    mode
        ``"r"`` or ``"r+"``.

    Returns
    -------
    zarr.Group
        The group; its attributes are read with it.
    """
    return zarr.open_group(path, mode=mode, zarr_format=3, use_consolidated=False)


def write_attributes(path: Path, **values: Any) -> None:
    """Set attributes of a group all at once, durably.

    Parameters
    ----------
    path
        Folder of the group.
    **values
        Attributes to set; others stay.

    Notes
    -----
    ``group.attrs.update`` writes the file once per attribute: a crash in between would leave some
    old and some new.
    """
    content = json.loads((path / "zarr.json").read_bytes())
    content["attributes"] = {**content.get("attributes", {}), **values}
    write_json(path / "zarr.json", content)


def sync_nodes(path: Path, pattern: str) -> None:
    """Make files that zarr wrote below a group survive a power loss.

    Parameters
    ----------
    path
        Folder of the group.
    pattern
        Glob of the files.
    """
    files = [file for file in path.glob(pattern) if file.is_file()]
    for node in [*files, *{file.parent for file in files}]:
        sync_file(node)
