"""What a scan may not change about the samples that a store holds already."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray

from featstore import schema
from featstore.errors import ConfigError
from featstore.layouts import FAKE, REAL, Record
from featstore.schema import plain_name
from featstore.zarr_nodes import write_attributes

if TYPE_CHECKING:
    from featstore.samples import SampleTable


def stored_text(path: str) -> str:
    """Return a path as it is stored; the odd bytes of one that is no UTF-8 are spelt out.

    Parameters
    ----------
    path
        POSIX path.

    Returns
    -------
    str
        Text that is UTF-8.
    """
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def check_root(path: Path, table: "SampleTable", base: Path, *, moved: bool) -> None:
    """Refuse another folder; follow one that was moved with all its stored images.

    Parameters
    ----------
    path
        Folder of the table.
    table
        The table.
    base
        Folder that is scanned, absolute.
    moved
        Whether every stored image is found in the scan.

    Raises
    ------
    ConfigError
        If the table was scanned from another folder.
    """
    stored, found = Path(table.root), stored_text(base.as_posix())
    same = stored.exists() and base.exists() and stored.samefile(base)
    if table.root and (table.root == found or same):
        return
    if table.root and (stored.exists() or not moved):
        raise ConfigError(
            f"dataset {plain_name(path.parent.name)!r}, split {plain_name(path.name)!r} of the "
            f"store must be scanned from {table.root!r}, got {found!r}; scan that folder again, or "
            "name another dataset with '--dataset'. A folder that was moved is recognised once "
            "nothing is left at the old place and every stored image is found at the new one."
        )
    write_attributes(path, root=found)


def check_columns(table: "SampleTable", columns: Sequence[str]) -> None:
    """Refuse other metadata columns than those stored.

    Parameters
    ----------
    table
        The table.
    columns
        Names of the metadata columns of the scan, sorted.

    Raises
    ------
    ConfigError
        If the names differ.
    """
    if list(columns) != table.metadata_columns:
        raise ConfigError(
            f"samples need the metadata columns of the store {table.metadata_columns}, "
            f"got {list(columns)}; add or drop columns of the manifest."
        )


def check_type(group: zarr.Group, column: str, values: NDArray[Any]) -> None:
    """Refuse a metadata column whose values have become of another type.

    Parameters
    ----------
    group
        The table's group; it need not hold the column yet.
    column
        Name of the metadata column.
    values
        Values of the new samples.

    Raises
    ------
    ConfigError
        If they are not of the stored type.
    """
    array = group.get(schema.METADATA_PREFIX + column)
    if isinstance(array, zarr.Array) and array.dtype != values.dtype:
        names = {np.dtype(np.int64): "whole numbers", np.dtype(np.float64): "numbers"}
        raise ConfigError(
            f"metadata column {column!r} is stored as {names.get(array.dtype, 'text')} "
            f"({array.dtype}), but the new samples hold {names.get(values.dtype, 'text')} "
            f"({values.dtype}); correct the manifest, or extract into another dataset."
        )


def check_known(
    table: "SampleTable", known: Mapping[str, int], scanned: Mapping[str, Record]
) -> None:
    """Refuse a scan that calls a stored image something else.

    Parameters
    ----------
    table
        The table.
    known
        Stored path to row.
    scanned
        Stored path to record of the scan.

    Raises
    ------
    ConfigError
        If a label or generator differs.
    """
    labels, generators = table.column("label"), table.column("generator")
    for name, record in scanned.items():
        if (row := known.get(name)) is None:
            continue
        stored = (int(labels[row]), table.generators[generators[row]])
        if stored != (record.label, record.generator):
            words = {REAL: "real", FAKE: "generated"}
            raise ConfigError(
                f"{name!r} is stored as {words[stored[0]]} of generator {stored[1]!r}, but this "
                f"scan says {words[record.label]} of {record.generator!r}; correct the scan, or "
                "extract into another dataset."
            )
