"""The sample table of one dataset and split: which files there are and what they are.

It holds what is known before a file is read (path, label, generator, pair, metadata). What reading
brings to light (content id, size, format) is written with the features. Rows are in a seeded random
order, so that any run of rows is a fair sample, and only ever appended: features refer to rows.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from featstore import schema
from featstore.errors import ConfigError
from featstore.layouts import Record
from featstore.sample_checks import check_columns, check_known, check_root, check_type, stored_text
from featstore.zarr_nodes import (
    create_array,
    open_group,
    require_group,
    sync_nodes,
    write_attributes,
)

LOGGER = logging.getLogger(__name__)
TEXT_CHUNK = 65_536
MOST_GENERATORS = int(np.iinfo(np.int16).max)


class SampleTable:
    """A sample table on disk, open for reading.

    Parameters
    ----------
    path
        Folder of the group ``samples/<dataset>/<split>``.
    """

    def __init__(self, path: Path) -> None:
        self._group = open_group(path)
        attributes: dict[str, Any] = dict(self._group.attrs)
        self.n_rows: int = int(attributes["n_rows"])
        self.block_rows: int = int(attributes["block_rows"])
        self.generators: list[str] = list(attributes["generators"])
        self.metadata_columns: list[str] = list(attributes["metadata"])
        self.root: str = str(attributes.get("root", ""))

    def column(self, name: str) -> NDArray[Any]:
        """Read one whole column.

        Parameters
        ----------
        name
            ``path``, ``label``, ``generator``, ``pair`` or the name of a metadata column.

        Returns
        -------
        ndarray
            Values of all rows, shape (n_rows,).
        """
        return self.rows(name, slice(None))

    def rows(self, name: str, rows: Any) -> NDArray[Any]:
        """Read some rows of a column.

        Parameters
        ----------
        name
            As in `column`.
        rows
            A slice or sorted integer array.

        Returns
        -------
        ndarray
            The values.
        """
        if name in self.metadata_columns:
            name = schema.METADATA_PREFIX + name
        array = self._group[name]
        assert isinstance(array, zarr.Array)
        if isinstance(rows, slice):
            start, stop, step = rows.indices(self.n_rows)
            return np.asarray(array[start:stop:step])
        return np.asarray(array.oindex[rows])


def add_records(root: Path, records: Sequence[Record], base: Path) -> SampleTable:
    """Add the records of one dataset and split that the table does not hold yet.

    Parameters
    ----------
    root
        The store's folder; the caller holds its planning lock.
    records
        Records of one dataset and one split.
    base
        Folder that stored paths are relative to, absolute; files outside keep their absolute path.

    Returns
    -------
    SampleTable
        The table, with known rows where they were and new ones behind them in random order.

    Raises
    ------
    ConfigError
        If a path occurs twice, or a known path comes back with another label or generator, or
        metadata columns or their types differ from those stored, or the table was made of another
        folder. A folder that was moved as a whole is the same one.

    Notes
    -----
    A crash at any point leaves the table as it was: new rows count from the final update of the
    attribute ``n_rows``.
    """
    dataset, split = records[0].dataset, records[0].split
    path = root / schema.SAMPLES / schema.folder_name(dataset) / schema.folder_name(split)
    names = stored_paths(records, base)
    columns = sorted(records[0].metadata)
    if not (path / "zarr.json").exists() or open_group(path).attrs.get("n_rows", 0) == 0:
        known: dict[str, int] = {}
        _create(root, path, len(records), columns, base)
    else:
        table = SampleTable(path)
        known = {str(name): row for row, name in enumerate(table.column("path"))}
        check_root(path, table, base, moved=known.keys() <= set(names))
        check_columns(table, columns)
        check_known(table, known, dict(zip(names, records, strict=True)))
        if missing := known.keys() - set(names):
            LOGGER.warning(
                "%d samples of %s/%s are in the store but not in this scan, e.g. %s",
                len(missing), dataset, split, min(missing),
            )  # fmt: skip
    new = [(name, record) for name, record in zip(names, records, strict=True) if name not in known]
    if new:
        seed = (len(known), int.from_bytes(_digest(dataset, split)[:4], "little"))
        order = np.random.default_rng(seed).permutation(len(new))
        _append(path, len(known), [new[i] for i in order], columns)
    return SampleTable(path)


def stored_paths(records: Sequence[Record], base: Path) -> list[str]:
    """Return the paths under which records are stored.

    Parameters
    ----------
    records
        Records of a scan.
    base
        Folder that paths are made relative to where they lie below it.

    Returns
    -------
    list of str
        POSIX paths, in the order of the records.

    Raises
    ------
    ConfigError
        If two records share a path.
    """
    prefix = base.as_posix().rstrip("/") + "/"
    names = [stored_text(record.path.as_posix().removeprefix(prefix)) for record in records]
    twice, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise ConfigError(
            f"a file can be only one sample of a dataset and split, got {twice!r} twice; "
            "remove one of its entries."
        )
    return names


def pair_code(dataset: str, pair: str) -> int:
    """Return the number that aligned images share.

    Parameters
    ----------
    dataset
        Name of the dataset.
    pair
        Pair key of the layout; empty for none.

    Returns
    -------
    int
        A 63-bit hash of dataset and key, -1 for no pair.
    """
    if not pair:
        return schema.NO_PAIR
    return int.from_bytes(_digest(dataset, pair)[:8], "little") >> 1


def _digest(*parts: str) -> bytes:
    return blake2b("\0".join(parts).encode("utf-8", "surrogateescape"), digest_size=8).digest()


def _create(root: Path, path: Path, n_planned: int, columns: Sequence[str], base: Path) -> None:
    """Create an empty table."""
    require_group(root, *path.relative_to(root).parts)
    write_attributes(
        path,
        n_rows=0,
        block_rows=schema.block_rows(n_planned),
        generators=["real"],
        metadata=list(columns),
        root=stored_text(base.as_posix()),
    )


def _append(
    path: Path, start: int, new: Sequence[tuple[str, Record]], columns: Sequence[str]
) -> None:
    """Write rows behind the first ``start`` ones, then publish the new length."""
    group = open_group(path, "r+")
    records = [record for _, record in new]
    generators = list(group.attrs["generators"])  # type: ignore[arg-type]
    generators += sorted({record.generator for record in records} - set(generators))
    if len(generators) > MOST_GENERATORS:
        raise ConfigError(
            f"a dataset and split can have up to {MOST_GENERATORS} generators, got "
            f"{len(generators)}; spread them over several datasets."
        )
    codes = {name: code for code, name in enumerate(generators)}
    values: dict[str, NDArray[Any]] = {
        "path": np.array([name for name, _ in new], dtype=np.dtypes.StringDType()),
        "label": np.array([record.label for record in records], np.int8),
        "generator": np.array([codes[record.generator] for record in records], np.int16),
        "pair": np.array([pair_code(r.dataset, r.pair) for r in records], np.int64),
    }
    for column in columns:
        values[schema.METADATA_PREFIX + column] = _column([r.metadata[column] for r in records])
    for name in columns:
        check_type(group, name, values[schema.METADATA_PREFIX + name])
    for name, column_values in values.items():
        _extend(group, name, column_values, start)
    sync_nodes(path, "**/*")
    write_attributes(path, n_rows=start + len(new), generators=generators)


def _column(values: Sequence[Any]) -> NDArray[Any]:
    """Return a metadata column as int64, float64 or text."""
    kinds = {type(value) for value in values}
    if kinds <= {int, bool}:
        return np.array(values, np.int64)
    if kinds <= {int, float}:
        return np.array(values, np.float64)
    return np.array(["" if v is None else str(v) for v in values], np.dtypes.StringDType())


def _extend(group: zarr.Group, name: str, values: NDArray[Any], start: int) -> None:
    """Write values from row ``start`` on, creating or resizing the array."""
    if name not in group:
        text = values.dtype == np.dtypes.StringDType()
        spec = schema.SAMPLE_ARRAYS.get(name) or schema.ArraySpec(
            "string" if text else values.dtype.name, (schema.SAMPLE,), "column of the manifest"
        )
        create_array(group, name, spec, (start + len(values),), (TEXT_CHUNK,))
    array = group[name]
    assert isinstance(array, zarr.Array)
    array.resize((start + len(values),))
    array[start:] = values
