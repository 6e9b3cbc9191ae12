"""Reading a CSV or Parquet file as typed Arrow columns, and its rows as light mappings."""

import csv
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from featstore.errors import ConfigError

Columns = dict[str, Any]
"""Column name to its ``pyarrow.Array``: int64, float64 or text, without nulls."""

_INTEGER = r"^(0|-?[1-9][0-9]{0,17})$"
_FLOAT = r"^([-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?|nan)$"


class Row(Mapping[str, Any]):
    """One row of a table as a mapping, holding no values of its own.

    Parameters
    ----------
    columns
        The table.
    row
        Number of the row.
    """

    __slots__ = ("_columns", "_row")

    def __init__(self, columns: Columns, row: int) -> None:
        self._columns = columns
        self._row = row

    def __getitem__(self, name: str) -> Any:
        return self._columns[name][self._row].as_py()

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __repr__(self) -> str:
        return f"Row({dict(self)!r})"


def read_table(path: Path, text: Collection[str] = ()) -> Columns:
    r"""Read a table.

    Parameters
    ----------
    path
        A ``.csv`` (UTF-8, commas, a header) or ``.parquet`` file.
    text
        Names of columns that are text whatever they look like.

    Returns
    -------
    dict
        Columns. In a CSV, those of which every filled cell is a plain number become int64 or
        float64; numbers with leading zeros are text. Integer columns with empty cells become
        float64 with NaN; booleans become 0 and 1; other types their text.

    Raises
    ------
    ConfigError
        If the file cannot be read, or a column has no usable name or a nested type.

    Notes
    -----
    The file is held in memory once, as Arrow columns; parsing takes about 1 s per million rows of
    15 columns.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = Path(folder, "t.csv")
    ...     _ = table.write_text("id,width,quality\n007,640,\n008,512,90\n")
    ...     {name: column.to_pylist() for name, column in read_table(table).items()}
    {'id': ['007', '008'], 'width': [640, 512], 'quality': [nan, 90.0]}
    """
    import pyarrow as pa

    readers = {".csv": _read_csv, ".parquet": _read_parquet}
    if path.suffix.lower() not in readers:
        raise ConfigError(
            f"a manifest must be a .csv or .parquet file, got {str(path)!r}; name the file itself."
        )
    try:
        table = readers[path.suffix.lower()](path, text)
        return {
            name: _plain(table.column(name).combine_chunks(), name in text)
            for name in table.column_names
        }
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"manifest {str(path)!r} cannot be read: {error}") from error


def _check_names(path: Path, names: list[str]) -> None:
    """Refuse column names that could not be told apart or stored."""
    for name, count in Counter(names).items():
        if not name or "/" in name or count > 1:
            raise ConfigError(
                f"columns of manifest {str(path)!r} need unique names without '/', got {names}; "
                "rename or remove columns (pandas writes a nameless index unless index=False)."
            )


def _read_csv(path: Path, text: Collection[str]) -> Any:
    """Read a CSV file as an Arrow table, all text but for columns of plain numbers."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    with path.open(newline="", encoding="utf-8-sig") as file:
        names = next(csv.reader(file), [])
    _check_names(path, names)
    table = arrow_csv.read_csv(
        path,
        parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
        convert_options=arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.large_string())
        ),
    )
    for at, name in enumerate(names):
        if name not in text:
            table = table.set_column(at, name, _as_numbers(table.column(name)))
    return table


def _read_parquet(path: Path, _: Collection[str]) -> Any:
    """Read a Parquet file as an Arrow table."""
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        _check_names(path, file.schema_arrow.names)
        return file.read()


def _as_numbers(values: Any) -> Any:
    """Return a text column as int64 or float64 if every filled cell is a number."""
    import pyarrow as pa
    from pyarrow import compute

    filled = compute.if_else(compute.equal(values, ""), None, values)
    for pattern, dtype in ((_INTEGER, pa.int64()), (_FLOAT, pa.float64())):
        if compute.all(compute.match_substring_regex(filled, pattern), min_count=1).as_py():
            return filled.cast(dtype)
    return values


def _plain(values: Any, text: bool) -> Any:
    """Return a column as int64, float64 or text, without nulls."""
    import pyarrow as pa
    from pyarrow import types

    if types.is_dictionary(values.type):
        values = values.dictionary_decode()
    number = types.is_integer(values.type) or types.is_boolean(values.type)
    if number and not text and values.null_count == 0:
        return values.cast(pa.int64())
    if (number or types.is_floating(values.type)) and not text:
        return values.cast(pa.float64()).fill_null(float("nan"))
    return values.cast(pa.large_string()).fill_null("")
