"""Means over episodes with their spread and intervals, as tables."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student

from heads.evaluation.metrics import columns
from heads.evaluation.thresholds import ORACLE
from heads.few_shot.choices import VAL
from heads.few_shot.judging import NEAREST

LEVEL = 0.95
GROUP = ["dataset", "head", "choice", "shots"]
"""What makes a row of the summary."""
SHOWN = ("auroc", "average_precision", "tpr_at_5pct_fpr", "accuracy@0.5", "accuracy@val", NEAREST)
"""Numbers for people, where they are there."""


def mean_interval(values: NDArray[np.floating[Any]]) -> tuple[float, float, float, float]:
    """Return the mean over episodes, the spread of single episodes, and the interval of the mean.

    Parameters
    ----------
    values
        One number per episode (n_episodes,).

    Returns
    -------
    tuple of float
        Mean; standard deviation of the episodes (divisor n - 1); lower and upper bound of the 95 %
        interval of the mean, Student's t with n - 1 degrees of freedom. NaN where a value is, and
        all but the mean for one episode.

    Notes
    -----
    The interval says how well so many episodes determine the mean over all draws of the support.
    It does not cover the choice of query images, which all episodes share. With a handful of
    episodes it may reach beyond the range of the numbers.

    Examples
    --------
    >>> [round(number, 3) for number in mean_interval(np.array([0.8, 0.9, 1.0]))]
    [0.9, 0.1, 0.652, 1.148]
    """
    n = len(values)
    mean = float(np.mean(values))
    if n < 2:
        return mean, float("nan"), float("nan"), float("nan")
    std = float(np.std(values, ddof=1))
    half = float(student.ppf((1 + LEVEL) / 2, n - 1)) * std / n**0.5
    return mean, std, mean - half, mean + half


def summarise(chosen: pd.DataFrame) -> pd.DataFrame:
    """Return mean, spread and interval of every number.

    Parameters
    ----------
    chosen
        Table from `heads.few_shot.choices.with_choices`.

    Returns
    -------
    DataFrame
        A row for each of `GROUP`: ``n_episodes``, ``layers`` (what was chosen how often), then each
        number with ``_std``, ``_low`` and ``_high``, see `mean_interval`.
    """
    order = {name: pd.unique(chosen[name]) for name in GROUP[:-1]}
    chosen = chosen.assign(**{k: pd.Categorical(chosen[k], v) for k, v in order.items()})
    known = [*columns({"0.5": 0.0, VAL: 0.0}), NEAREST]
    names = [name for name in known if name in chosen]
    records = []
    for group, rows in chosen.groupby(GROUP, observed=True):
        record = dict(zip(GROUP, group, strict=True))
        record |= {"n_episodes": len(rows), "layers": _counted(rows["layer"])}
        for name in names:
            numbers = mean_interval(rows[name].to_numpy(np.float64))
            suffixes = ("", "_std", "_low", "_high")
            record |= {f"{name}{s}": number for s, number in zip(suffixes, numbers, strict=True)}
        records.append(record)
    return pd.DataFrame(records)


def _counted(layers: pd.Series) -> str:
    """Return the layers chosen most often, ``block.9 (61), block.8 (39)``."""
    counts = layers.value_counts()
    return ", ".join(f"{name} ({number})" for name, number in counts.items())


def headline(summary: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a summary that a reader should look at first.

    Parameters
    ----------
    summary
        Table from `summarise`.

    Returns
    -------
    DataFrame
        Those of chosen layers; where nothing was chosen, all.
    """
    chosen = summary["choice"].isin((VAL, ORACLE))
    return summary[chosen] if chosen.any() else summary


def spread_cell(row: Mapping[Any, Any], name: str) -> str:
    """Return one number of a summary for people.

    Parameters
    ----------
    row
        A row of the summary.
    name
        Name of the number.

    Returns
    -------
    str
        Mean, standard deviation over episodes and the interval of the mean.

    Examples
    --------
    >>> row = {"auroc": 0.9, "auroc_std": 0.035, "auroc_low": 0.893, "auroc_high": 0.907}
    >>> spread_cell(row, "auroc")
    '0.900 ± 0.035 [0.893, 0.907]'
    """
    mean, std, low, high = (row[f"{name}{suffix}"] for suffix in ("", "_std", "_low", "_high"))
    if not np.isfinite(mean):
        return "–"
    return f"{mean:.3f} ± {std:.3f} [{low:.3f}, {high:.3f}]" if np.isfinite(std) else f"{mean:.3f}"


def curve_table(summary: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return one number as text, a column for each number of shots.

    Parameters
    ----------
    summary
        Table from `summarise`, or some of its rows.
    name
        The number, or ``layers``.

    Returns
    -------
    DataFrame
        Columns ``head``, ``choice``, ``dataset`` where there are several, ``5 shots`` and so on.
    """
    index = [column for column in GROUP[:-1] if column != "dataset" or len(_datasets(summary)) > 1]
    rows = summary.to_dict("records")
    cells = [_first(row["layers"]) if name == "layers" else spread_cell(row, name) for row in rows]
    columns_of = [f"{n} shot{'s' if n > 1 else ''}" for n in summary["shots"]]
    table = summary[index].astype(str).assign(cell=cells, column=columns_of)
    wide = table.pivot(index=index, columns="column", values="cell").fillna("–")
    order = table[index].drop_duplicates()
    wide = wide.loc[pd.MultiIndex.from_frame(order), list(dict.fromkeys(columns_of))]
    return wide.rename_axis(columns=None).reset_index()


def _datasets(summary: pd.DataFrame) -> list[str]:
    """Return the datasets that are reported."""
    return list(summary["dataset"].unique())


def _first(layers: str, most: int = 3) -> str:
    """Return the first of the layers that were chosen."""
    found = layers.split(", ")
    return ", ".join(found[:most]) + (", …" if len(found) > most else "")


def few_shot_markdown(summary: pd.DataFrame, name: str) -> str:
    """Write one number of a summary as Markdown.

    Parameters
    ----------
    summary
        Table from `summarise`, or some of its rows.
    name
        The number, or ``layers``.

    Returns
    -------
    str
        Lines of a pipe table, a column for each number of shots.
    """
    table = curve_table(summary, name)
    rule = ["---" if column in GROUP else "---:" for column in table]
    lines = [list(table), rule, *table.to_dict("split")["data"]]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
