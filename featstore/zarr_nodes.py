"""Creating the Zarr groups and arrays of a store, always in the same uncompressed layout."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from featstore import schema
from featstore.durable import sync_file, write_json
from featstore.errors import SchemaError
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

    Raises
    ------
    SchemaError
        If one of them is damaged.
    """
    with _group_expected(root.joinpath(*parts)):
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

    Raises
    ------
    SchemaError
        If there is none, or its ``zarr.json`` is damaged or an array's; the message says what
        to do.
    """
    with _group_expected(path):
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


@contextmanager
def _group_expected(path: Path) -> Iterator[None]:
    """Turn what zarr raises for metadata that is absent or damaged into one sentence."""
    try:
        yield
    except (FileNotFoundError, ValueError, TypeError, AttributeError) as err:
        raise SchemaError(
            f"{str(path / 'zarr.json')!r} must describe a Zarr v3 group, got {_found(path, err)}; "
            f"{_remedy(path)}."
        ) from err


def _found(path: Path, err: Exception) -> str:
    """Say what is there instead of a group."""
    if isinstance(err, zarr.errors.ContainsArrayError):
        return "an array"
    if not (path / "zarr.json").exists():
        return "no such file"
    return f"a damaged file ({err})"


def _remedy(path: Path) -> str:
    """Say how to get on without the metadata of a group."""
    if (path / schema.SAMPLES).is_dir():
        return (
            "put the file of a new store (featstore.create) in its place and run "
            "'featstore verify --rebuild'"
        )
    if schema.FEATURES in path.parts[-5:-4]:
        return (
            "restore it from a copy, or remove what is left of the folder, run "
            "'featstore verify --rebuild' and extract again"
        )
    return "open the folder of a store, or restore the file from a copy"
