"""Tables of results as text for people: Markdown, and as wide as a terminal."""

import sys
from collections.abc import Mapping, Sequence
from shutil import get_terminal_size
from typing import Any

import numpy as np
import pandas as pd

from heads.evaluation.tables import LABELS

NEARLY_ONE = 0.99
WIDEST = 1000
"""Characters in a line beyond which no table is measured."""
NARROWEST = 8
"""Characters that names may be folded to."""


def default_columns(table: pd.DataFrame) -> list[str]:
    """Return the numbers that fit on a screen: AUROC, average precision and each accuracy.

    Parameters
    ----------
    table
        Table from `metric_table`.

    Returns
    -------
    list of str
        Names of columns.
    """
    names = [str(name) for name in table.columns if str(name).startswith("accuracy@")]
    decisions = [name for name in names if not name.endswith(("_low", "_high"))]
    return ["auroc", "average_precision", *decisions]


def cell(row: Mapping[Any, Any], name: str) -> str:
    """Return one number with its interval, for people.

    Parameters
    ----------
    row
        A row of a table.
    name
        Name of the number.

    Returns
    -------
    str
        ``0.72 [0.66, 0.78]``, ``0.72`` without an interval, ``–`` where undefined; three decimals
        for estimates above 0.99.

    Examples
    --------
    >>> cell({"auroc": 0.72, "auroc_low": 0.66, "auroc_high": 0.777}, "auroc")
    '0.72 [0.66, 0.78]'
    """
    value, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    if not np.isfinite(value):
        return "–"
    digits = 3 if value > NEARLY_ONE else 2
    text = f"{value:.{digits}f}"
    return f"{text} [{low:.{digits}f}, {high:.{digits}f}]" if np.isfinite(low) else text


def as_markdown(table: pd.DataFrame, names: Sequence[str] | None = None) -> str:
    """Write a table as Markdown.

    Parameters
    ----------
    table
        Table from `metric_table`.
    names
        Numbers to show; `default_columns` if absent.

    Returns
    -------
    str
        Lines of a pipe table.
    """
    head, lines = _cells(table, names)
    rule = ["---" if name in LABELS[:2] else "---:" for name in head]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *lines])


def as_rich(
    table: pd.DataFrame,
    names: Sequence[str] | None = None,
    title: str = "",
    width: int | None = None,
) -> Any:
    """Return a table for the terminal.

    Parameters
    ----------
    table
        Table from `metric_table`.
    names
        Numbers to show; `default_columns` if absent.
    title
        Text above the table.
    width
        Characters in a line; those of the terminal if absent, any number where there is none. If
        the lines would be longer, intervals are written below their numbers and generators below
        their datasets.

    Returns
    -------
    rich.table.Table
        To be printed by a Rich console.
    """
    room = width or (get_terminal_size().columns if sys.stdout.isatty() else WIDEST)
    head, lines = _cells(table, names)
    wide = _rich(head, lines, title, left=2)
    if _width(wide) <= room:
        return wide
    spaced = [_broken(name) for name in head[len(LABELS) :] if name != "reason"]
    folded = _rich(["dataset", "n", *spaced], [_folded(head, x) for x in lines], title, left=1)
    folded.padding, folded.pad_edge = (0, 1, 0, 0), False
    excess = max(_width(folded) - room, 0)
    first = folded.columns[0]
    first.overflow, first.no_wrap = "fold", False
    longest = max(len(part) for line in lines for part in _named(head, line))
    first.max_width = max(longest - excess, NARROWEST)
    return folded


def as_text(table: pd.DataFrame) -> str:
    """Return a table as lines for the terminal.

    Parameters
    ----------
    table
        Table from `metric_table`.

    Returns
    -------
    str
        Lines without trailing blanks, see `as_rich`.
    """
    from rich.console import Console

    shown = as_rich(table)
    console = Console(width=_width(shown))
    with console.capture() as captured:
        console.print(shown)
    lines = (line.rstrip() for line in captured.get().splitlines())
    return "\n".join(line for line in lines if line)


def _rich(head: Sequence[str], lines: Sequence[Sequence[str]], title: str, left: int) -> Any:
    """Return a Rich table, its first columns of names, the others of numbers."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    shown = Table(title=title or None, box=SIMPLE_HEAD)
    for number, name in enumerate(head):
        shown.add_column(name, justify="left" if number < left else "right", no_wrap=True)
    for line in lines:
        shown.add_row(*line)
    return shown


def _width(table: Any) -> int:
    """Return how many characters the lines of a Rich table would like to have."""
    from rich.console import Console

    return int(Console(width=WIDEST).measure(table).maximum)


def _named(head: Sequence[str], line: Sequence[str]) -> list[str]:
    """Return what stands in the first column of a folded table, one below the other."""
    reason = [line[-1]] if head[-1] == "reason" else []
    return [text for text in (*line[:2], *reason) if text]


def _folded(head: Sequence[str], line: Sequence[str]) -> list[str]:
    """Return a line of a folded table."""
    numbers = line[len(LABELS) : -1 if head[-1] == "reason" else None]
    counts = f"{line[2]}+{line[3]}"
    return ["\n".join(_named(head, line)), counts, *map(_stacked, numbers)]


def _broken(name: str) -> str:
    """Return the name of a number in several lines."""
    return name.replace("_", "\n").replace("@", "\n@")


def _stacked(text: str) -> str:
    """Return a number of a table with its interval below it."""
    return text.replace(" [", "\n").replace(", ", "–").removesuffix("]")


def _cells(table: pd.DataFrame, names: Sequence[str] | None) -> tuple[list[str], list[list[str]]]:
    """Return the head and the lines of a table as text; reasons are shown where there are any."""
    numbers = list(default_columns(table) if names is None else names)
    extra = ["reason"] if table["reason"].any() else []
    lines = [
        [
            *(str(row[name]) for name in LABELS),
            *(cell(row, name) for name in numbers),
            *(str(row[name]) for name in extra),
        ]
        for row in table.to_dict("records")
    ]
    return [*LABELS, *numbers, *extra], lines
