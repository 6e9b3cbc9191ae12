"""Layout ``manifest``: a CSV or Parquet table with one row per image.

Columns ``path`` and ``label`` are required; ``generator``, ``dataset``, ``split`` and ``pair`` (or
``pair_id``) are understood; all others become metadata of the samples.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from featstore.errors import ConfigError
from featstore.layouts.labelled_tree import NO_SPLIT
from featstore.layouts.records import FAKE, REAL, Record, Scan
from featstore.layouts.tables import Columns, Row, read_table

LABELS = {"0": REAL, "real": REAL, "1": FAKE, "fake": FAKE}
REQUIRED = ("path", "label")
UNDERSTOOD = (*REQUIRED, "generator", "dataset", "split", "pair", "pair_id")
MAX_PROBLEMS = 5


class _Row(NamedTuple):
    """The understood cells of one row, as text."""

    path: str
    label: str
    generator: str
    dataset: str
    split: str
    pair: str


def scan_manifest(
    manifest: Path,
    *,
    root: Path | None = None,
    dataset: str | None = None,
    split: str | None = None,
) -> Scan:
    r"""Read a table of images.

    Parameters
    ----------
    manifest
        A ``.csv`` (UTF-8, commas, a header) or ``.parquet`` file. Column ``label`` holds 0 and 1 or
        ``real`` and ``fake``. ``generator`` is ``real`` or empty for real images, and the dataset's
        name where the column is missing. An empty ``pair`` means none.
    root
        Folder that relative paths start from; the manifest's own if left out.
    dataset
        Name of the dataset of all images; if left out, their column, or the manifest's name without
        suffix.
    split
        Name of the split where the table has no such column; ``"all"`` if left out.

    Returns
    -------
    Scan
        Records sorted by the bytes of their path, whatever its suffix: what is listed is meant.
        Metadata of a column are all int, all float (NaN where empty) or all text. Nothing is
        ignored.

    Raises
    ------
    ConfigError
        If the table cannot be read or a row misses a value, lists a file of its dataset again, or
        contradicts itself or `split`; the first five such rows are named (row 1 is the first below
        the header).

    Notes
    -----
    Files are not looked for: extraction reports those that are missing. The table is held as Arrow
    columns, its rows as views of them.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = Path(folder, "sd3.csv")
    ...     _ = table.write_text("path,label,width\na.jpg,real,640\nb.png,fake,512\n")
    ...     for record in scan_manifest(table).records:
    ...         print(record.path.name, *record[1:5], dict(record.metadata))
    a.jpg 0 real sd3 all {'width': 640}
    b.png 1 sd3 sd3 all {'width': 512}
    """
    manifest = Path(manifest)
    table = read_table(manifest, text=UNDERSTOOD)
    for name in REQUIRED:
        if name not in table:
            raise ConfigError(
                f"manifest {str(manifest)!r} must have a column {name!r}, got {list(table)}; "
                "rename one."
            )
    base = str(manifest.parent if root is None else root)
    rows = _rows(table, manifest.stem, dataset, split)
    records: list[Record] = []
    problems: list[str] = []
    seen: set[tuple[str, str]] = set()
    for number, row in enumerate(rows):
        path = Path(base, row.path)
        if problem := _problem(row, split, (row.dataset, str(path)) in seen):
            problems.append(f"row {number + 1}: {problem}")
            if len(problems) == MAX_PROBLEMS:
                break
            continue
        seen.add((row.dataset, str(path)))
        label = LABELS[row.label.strip().lower()]
        records.append(Record(path, label, *row[2:], Row(table, number)))
    if problems or not records:
        found = "; ".join(problems) or "no row at all"
        raise ConfigError(f"manifest {str(manifest)!r} must list usable images, got {found}.")
    records.sort(key=lambda record: os.fsencode(record.path))
    return Scan(records, [])


def _label(text: str) -> int | None:
    return LABELS.get(text.strip().lower())


def _rows(table: Columns, name: str, dataset: str | None, split: str | None) -> Iterator[_Row]:
    """Take the understood columns out of the table and return their rows, defaults filled in."""
    n_rows = len(table["path"])
    unnamed = "generator" not in table

    def take(column: str, default: str = "") -> list[str]:
        if column not in table:
            return [default] * n_rows
        cells: list[str] = table.pop(column).to_pylist()
        return cells

    paths, labels, datasets = take("path"), take("label"), take("dataset", name)
    if dataset is not None:
        datasets = [dataset] * n_rows
    generators = [
        cell or ("real" if _label(label) == REAL else other if unnamed else "")
        for cell, label, other in zip(take("generator"), labels, datasets, strict=True)
    ]
    splits = take("split", split or NO_SPLIT)
    pairs = take("pair" if "pair" in table else "pair_id")
    return map(_Row, paths, labels, generators, datasets, splits, pairs)


def _problem(row: _Row, split: str | None, twice: bool) -> str:
    """Say what is wrong with a row; empty if nothing is."""
    if "" in row[:5]:
        return f"{row._fields[row.index('')]!r} is missing"
    label = _label(row.label)
    if label is None:
        return f"'label' must be 0, 1, 'real' or 'fake', got {row.label!r}"
    if (row.generator == "real") != (label == REAL):
        return f"label {row.label!r} contradicts generator {row.generator!r} ('real' = photographs)"
    if split is not None and row.split != split:
        return f"split {row.split!r} contradicts the split {split!r} asked for"
    return f"path {row.path!r} is listed a second time" if twice else ""
