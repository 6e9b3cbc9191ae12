"""Train × test tables: how heads trained on one set do on every other."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from heads.evaluation.table_text import cell
from heads.evaluation.tables import ALL, MEAN, metric_table
from heads.evaluation.thresholds import AT_HALF

LUMINANCE = (0.2126, 0.7152, 0.0722)
"""Weights of linear red, green and blue in the relative luminance (WCAG 2.1)."""
DARK = 0.179
"""Luminance below which white text has more contrast than black text: sqrt(1.05 * 0.05) - 0.05."""
COLUMNS = ("train", "test", "n_real", "n_fake")


def transfer_matrix(
    scores: Mapping[str, pd.DataFrame],
    *,
    metric: str = "auroc",
    by: Sequence[str] = ("dataset", "generator"),
    n_resamples: int = 1000,
    rng: int = 0,
) -> pd.DataFrame:
    """Return one metric for every pair of training set and test set.

    Parameters
    ----------
    scores
        Scores of each head on the same test rows, by the name of what it was trained on.
    metric
        A ranking metric, or a threshold metric at ``@0.5`` (``accuracy@0.5``).
    by
        As in `metric_table`: ``("dataset",)`` makes datasets the columns; with a second name each
        generator is a column, called by its own name where that is unambiguous.
    n_resamples
        Bootstrap resamples.
    rng
        Seed; every head is evaluated on the same resamples.

    Returns
    -------
    DataFrame
        Long form: ``train``, ``test``, ``n_real``, ``n_fake``, the metric, ``_low`` and ``_high``,
        ``reason``. `as_matrix` lays it out.
    """
    tables = []
    for train, frame in scores.items():
        table = metric_table(frame, {"0.5": AT_HALF}, by=by, n_resamples=n_resamples, rng=rng)
        if metric not in table:
            raise ValueError(f"'metric' must be a column of a metric table, got {metric!r}.")
        table = table[table["dataset"] != MEAN]
        if len(by) > 1:
            table = table[table["generator"] != ALL]
        tables.append(table.assign(train=train, test=_test_names(table, len(by) > 1)))
    kept = [*COLUMNS, metric, f"{metric}_low", f"{metric}_high", "reason"]
    return pd.concat(tables, ignore_index=True)[kept]


def _test_names(table: pd.DataFrame, by_generator: bool) -> list[str]:
    """Name test sets as shortly as they stay distinct."""
    datasets, generators = list(table["dataset"]), list(table["generator"])
    if not by_generator:
        return datasets
    if len(set(generators)) == len(generators):
        return generators
    return [f"{d}/{g}" for d, g in zip(datasets, generators, strict=True)]


def metric_of(transfer: pd.DataFrame) -> str:
    """Return the name of the metric that a transfer table holds.

    Parameters
    ----------
    transfer
        Table from `transfer_matrix`.

    Returns
    -------
    str
        Name of its metric.
    """
    return str(transfer.columns[len(COLUMNS)])


def as_matrix(transfer: pd.DataFrame) -> pd.DataFrame:
    """Lay a transfer table out as a matrix of numbers.

    Parameters
    ----------
    transfer
        Table from `transfer_matrix`.

    Returns
    -------
    DataFrame
        Training sets (rows) × test sets (columns), in order of appearance.
    """
    matrix = transfer.pivot(index="train", columns="test", values=metric_of(transfer))
    return matrix.loc[list(transfer["train"].unique()), list(transfer["test"].unique())]


def transfer_markdown(transfer: pd.DataFrame) -> str:
    """Write a transfer table as Markdown, with intervals.

    Parameters
    ----------
    transfer
        Table from `transfer_matrix`.

    Returns
    -------
    str
        Lines of a pipe table: a row per training set, a column per test set.
    """
    tests = list(transfer["test"].unique())
    sizes = transfer.drop_duplicates("test").set_index("test")
    head = [f"train \\ test ({metric_of(transfer)})"]
    head += [f"{test} (n={sizes.n_real[test]}+{sizes.n_fake[test]})" for test in tests]
    lines = [head, ["---", *["---:"] * len(tests)]]
    for train, rows in transfer.groupby("train", sort=False):
        cells = {row["test"]: cell(row, metric_of(transfer)) for row in rows.to_dict("records")}
        lines.append([str(train), *(cells[test] for test in tests)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def plot_matrix(transfer: pd.DataFrame, path: Any) -> None:
    """Draw a transfer table as an annotated heat map.

    Parameters
    ----------
    transfer
        Table from `transfer_matrix`.
    path
        PNG file to write.
    """
    from matplotlib.figure import Figure

    matrix = as_matrix(transfer)
    intervals = {(r["train"], r["test"]): r for r in transfer.to_dict("records")}
    figure = Figure(
        figsize=(2.5 + 1.3 * matrix.shape[1], 1.8 + 0.7 * matrix.shape[0]), layout="constrained"
    )
    axes = figure.add_subplot()
    values = matrix.to_numpy(np.float64)
    image = axes.imshow(values, cmap="RdBu", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(*matrix.shape):
        found = intervals[matrix.index[row], matrix.columns[column]]
        text = cell(found, metric_of(transfer)).replace(" [", "\n[")
        ink = _ink(np.asarray(image.cmap(image.norm(values[row, column]))))
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=ink)
    axes.set_xticks(range(matrix.shape[1]), matrix.columns, rotation=30, ha="right")
    axes.set_yticks(range(matrix.shape[0]), matrix.index)
    axes.set(xlabel="tested on", ylabel="trained on")
    figure.colorbar(image, label=metric_of(transfer))
    figure.savefig(path, dpi=150)


def _ink(colour: NDArray[np.float64]) -> str:
    """Return the colour of text that is legible on a background (sRGB and opacity, on white)."""
    seen = colour[:3] * colour[3] + (1 - colour[3])
    linear = np.where(seen <= 0.04045, seen / 12.92, ((seen + 0.055) / 1.055) ** 2.4)
    return "white" if linear @ np.asarray(LUMINANCE) < DARK else "black"
