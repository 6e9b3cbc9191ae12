"""What a study of continual learning found, for people: for the terminal and as ``report.md``."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from continual.comparison import BETTER, COMPARED, OPEN, REFERENCES, WORSE, compare
from continual.config import METRICS
from continual.summary import best_first, per_domain, summarise
from continual.ways import RUN, WAY, Way, told_apart
from featstore.display import table_text

Columns = Mapping[str, Mapping[Way, str]]
"""For each column of a table the cell of each way."""

SHORT = ("AA", "BWT", "forgetting")
"""Numbers for the terminal."""
NUMBERS = ("AA", "average_incremental", "BWT", "relative_BWT", "forgetting", "FWT")
JOINT, FINE_TUNE = (reference["learner"] for reference in REFERENCES[:2])
CHAIN = f"{JOINT} ≥ it ≥ {FINE_TUNE}"
OVER_TIME, MATRIX = "over-time.png", "matrix.png"

NOTES = """\
Means over n orders, seeds averaged first, ± the half width of the 95 % interval by Student's t; of
one order, over its seeds. They say nothing about new test images, which all runs share. `AA` is
the mean over domains after the last step; `average_incremental` the mean over steps of the mean
over the domains learned so far; `BWT` the mean change of a domain since it was learned,
`relative_BWT` in units of the score then; `forgetting` the mean fall from the best score (less is
better); `FWT` the mean score of a domain just before it is learned, above chance."""

DIFFERENCES = f"""\
Mean differences between runs of the same order and seed, way less reference, over n orders as
above: better or worse if the difference is beyond its 95 % interval, {OPEN} if not. Of many
differences that are none, one in twenty is beyond its interval."""

CHAINS = f"""\
`{CHAIN}` holds if both differences are beyond their intervals, fails if one of them is beyond its
interval to the other side, and is open otherwise."""


def text(scores: pd.DataFrame, metric: str) -> str:
    """Write what a study found for the terminal.

    Parameters
    ----------
    scores
        Table of a study.
    metric
        The column to show.

    Returns
    -------
    str
        The main numbers of each way, best first, and the paired differences of AA.
    """
    ways = best_first(scores, metric)
    found = compare(scores, metric)
    title = f"{metric}, {_size(scores, ways)}: mean ± 95 % interval over orders and seeds"
    parts = [title, table_text(_table(ways, _numbers(scores, metric, SHORT)))]
    if len(found):
        parts += ["AA against other ways, same orders and seeds"]
        parts += [table_text(_table(ways, _differences(found, "AA")))]
    return "\n\n".join(parts)


def report(scores: pd.DataFrame, metric: str, record: Mapping[str, Any] | None = None) -> str:
    """Write a study as Markdown.

    Parameters
    ----------
    scores
        Table of a study.
    metric
        The column that is shown first.
    record
        ``settings`` and ``environment`` of the study, for its origin.

    Returns
    -------
    str
        The text of ``report.md``; ways are sorted by AA, best first.
    """
    ways = best_first(scores, metric)
    parts = [
        f"# Continual learning: {_size(scores, ways)}",
        f"## {metric}",
        _markdown(_table(ways, _numbers(scores, metric, NUMBERS))),
        NOTES,
        f"![Mean over the domains learned so far]({OVER_TIME})",
        f"![Scores after each step]({MATRIX})",
    ]
    found = compare(scores, metric)
    if len(found):
        chains = _chains(found)
        parts += [f"## Differences of {metric}", DIFFERENCES, *([CHAINS] if chains else [])]
        for number in COMPARED:
            columns = _differences(found, number)
            more = {CHAIN: chains} if chains and number == "AA" else {}
            parts += [f"### {number}", _markdown(_table(ways, {**columns, **more}))]
    last = per_domain(scores, list(METRICS))
    for name in (name for name in METRICS if name in last):
        by_domain = last.groupby("domain", sort=False)
        domains = {str(domain): _cells(rows, name) for domain, rows in by_domain}
        parts += [f"## {name} after the last step", _markdown(_table(ways, domains))]
    parts += ["## Cost", _markdown(_table(ways, _cost(scores)))]
    parts += ["## Origin", _origin(record)] if record else []
    return "\n\n".join(parts) + "\n"


def _size(scores: pd.DataFrame, ways: Sequence[Way]) -> str:
    """Return how much was run, and what all ways have in common."""
    counts = {
        "way": len(ways),
        "base": len({way[0] for way in ways} - {""}),
        "domain": scores["domain"].nunique(),
        "order": int(scores.groupby("base")["order"].nunique().max()),
        "seed": scores["seed"].nunique(),
    }
    parts = [f"{n} {name}{'s' * (n > 1)}" for name, n in counts.items() if n]
    _, fixed = told_apart(ways)
    return ", ".join([*parts, *(f"{column} {value}" for column, value in fixed.items())])


def _numbers(scores: pd.DataFrame, metric: str, names: Sequence[str]) -> Columns:
    """Return the numbers of continual learning."""
    summary = summarise(scores, [metric])
    columns = {name: _cells(summary, name) for name in names if summary[name].notna().any()}
    return {"n": {way: f"{row['n']}" for way, row in _rows(summary)}, **columns}


def _differences(found: pd.DataFrame, number: str) -> Columns:
    """Return the differences of a number from each reference."""
    columns: dict[str, dict[Way, str]] = {"n": {}}
    for way, row in _rows(found[found["number"] == number]):
        interval = f" ± {row['half']:.3f}" if np.isfinite(row["half"]) else ""
        cell = f"{row['difference']:+z.3f}{interval} {row['verdict']}"
        columns["n"][way] = f"{row['n']}"
        columns.setdefault(f"against {row['against']}", {})[way] = cell
    return columns


def _chains(found: pd.DataFrame) -> dict[Way, str]:
    """Return of each way whether it is between joint training and fine-tuning."""
    verdicts: dict[Way, dict[str, str]] = {}
    for way, row in _rows(found[found["number"] == "AA"]):
        verdicts.setdefault(way, {})[row["against"]] = row["verdict"]
    chains = {}
    for way, own in verdicts.items():
        if {JOINT, FINE_TUNE} <= own.keys():
            to = own[JOINT], own[FINE_TUNE]
            fails = to[0] == BETTER or to[1] == WORSE
            chains[way] = "holds" if to == (WORSE, BETTER) else "fails" if fails else "open"
    return chains


def _cost(scores: pd.DataFrame) -> Columns:
    """Return how long steps and runs took, and how many rows were kept at their ends."""
    steps = scores.drop_duplicates([*RUN, "step"]).sort_values("step", kind="stable")
    runs = steps.groupby(RUN, sort=False).agg({"seconds": ["mean", "sum"], "n_memory": "last"})
    runs.columns = pd.Index(["seconds per step", "seconds per run", "rows kept"])
    means = runs.groupby(WAY, sort=False).mean().reset_index()
    return {
        name: {way: f"{row[name]:,.{digits}f}" for way, row in _rows(means)}
        for name, digits in zip(runs.columns, (2, 1, 0), strict=True)
    }


def _rows(table: pd.DataFrame) -> list[tuple[Way, dict[Any, Any]]]:
    """Return the rows of a table with the ways that they are of."""
    return [(tuple(row[name] for name in WAY), row) for row in table.to_dict("records")]


def _cells(table: pd.DataFrame, name: str) -> dict[Way, str]:
    """Return means with their intervals."""
    cells = {}
    for way, row in _rows(table):
        mean, half = row[name], row[f"{name}_half"]
        cells[way] = f"{mean:z.3f} ± {half:.3f}" if np.isfinite(half) else f"{mean:z.3f}"
    return {way: cell.replace("nan", "–") for way, cell in cells.items()}


def _table(ways: Sequence[Way], columns: Columns) -> pd.DataFrame:
    """Return a table of text, a row per way; ways without any cell are left out."""
    kept = [way for way in ways if any(way in cells for cells in columns.values())]
    shown, _ = told_apart(ways)
    table = pd.DataFrame(kept, columns=WAY)[shown]
    return table.assign(**{k: [cells.get(x, "") for x in kept] for k, cells in columns.items()})


def _markdown(table: pd.DataFrame) -> str:
    """Return a table as a pipe table; numbers stand right."""
    rule = ["---" if name in WAY else "---:" for name in table]
    lines: list[list[str]] = [table.columns.tolist(), rule, *table.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _origin(record: Mapping[str, Any]) -> str:
    """Return where the features came from and what computed the numbers."""
    settings, environment = record["settings"], record["environment"]
    versions = ", ".join(f"{name} {number}" for name, number in environment["versions"].items())
    return "\n".join(
        [
            f"- `{environment['command']}`",
            f"- store `{settings['store']}`, head {settings['head']}",
            f"- Python {environment['python']} on {environment['platform']}; {versions}",
        ]
    )
