"""Tables of results, every number with its 95 % bootstrap interval and the numbers of images.

There is a row per dataset, one per generator against the real images of its dataset, and plain
means over both. The rows of one dataset are resampled together, so the interval of a mean over
generators knows that they share their real images.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from heads.evaluation.bootstrap import CountedMetrics, interval, resampled_counts
from heads.evaluation.roles import splits_of
from heads.evaluation.thresholds import Selection, with_oracle

ALL, MEAN = "all", "MEAN"
LABELS = ("dataset", "generator", "n_real", "n_fake")


@dataclass(frozen=True)
class Row:
    """One row before it is written down: estimates (n_metrics,) and replicates (n, n_metrics)."""

    dataset: str
    generator: str
    n_real: int
    n_fake: int
    estimates: NDArray[np.float64]
    replicates: NDArray[np.float64]
    reason: str


def metric_table(
    scores: pd.DataFrame,
    thresholds: Mapping[str, float],
    *,
    by: Sequence[str] = ("dataset", "generator"),
    n_resamples: int = 1000,
    rng: int | np.random.Generator = 0,
    selection: Selection = "val",
) -> pd.DataFrame:
    """Return all metrics of a frame of scores, per dataset and generator.

    Parameters
    ----------
    scores
        Frame from `heads.evaluation.scoring.score`, rows of one split.
    thresholds
        Decision thresholds by name, chosen elsewhere (``{"0.5": 0.0, "val": …}``).
    by
        Column whose values have real images of their own, and the column that divides the fake ones
        (left out: one row per dataset). Each generator is compared with all real images of its
        dataset.
    n_resamples
        Bootstrap resamples; 0 leaves the intervals out.
    rng
        Seed or source of randomness.
    selection
        ``oracle`` adds columns named ORACLE: decisions at the threshold that is best on the very
        rows reported, as many published tables do it.

    Returns
    -------
    DataFrame
        Columns ``dataset``, ``generator`` (``all`` for a whole dataset of several), ``n_real``,
        ``n_fake``, then each of `heads.evaluation.metrics.columns` with ``_low`` and ``_high``, and
        ``reason``: why a number is NaN. The last rows, dataset ``MEAN``, are unweighted means over
        datasets and over generators.

    Raises
    ------
    ValueError
        If the rows come from more than one split.

    Notes
    -----
    Aligned pairs (equal ``pair``) are resampled together. O(n_resamples * n_samples) time for each
    generator's rows; memory does not grow with the number of samples.
    """
    if len(splits := splits_of(scores)) > 1:
        raise ValueError(f"a table must report one split, got {splits}; make one table for each.")
    pools = list(scores.groupby(by[0], observed=True, sort=True))
    rows: list[Row] = []
    names: list[str] = []
    for (name, pool), own in zip(pools, np.random.default_rng(rng).spawn(len(pools)), strict=True):
        parts = list(_parts(pool, by[1] if len(by) > 1 else None))
        metrics = [_counted(pool.iloc[part], thresholds, selection) for _, part in parts]
        replicates = _replicates(pool, [part for _, part in parts], metrics, n_resamples, own)
        names = metrics[0].names
        for (generator, part), metric, resampled in zip(parts, metrics, replicates, strict=True):
            rows.append(_row((str(name), generator), pool["label"].iloc[part], metric, resampled))
    return pd.DataFrame([_record(row, names) for row in [*rows, *_means(rows)]])


def _parts(pool: pd.DataFrame, divider: str | None) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """Yield the whole pool, then each generator with all real images, as row positions."""
    real = pool["label"].to_numpy() == 0
    kinds = np.asarray(pool[divider].astype(str)) if divider else np.full(len(pool), ALL)
    generators = sorted(set(kinds[~real]))
    if len(generators) != 1:
        yield ALL, np.arange(len(pool))
    for generator in generators:
        yield str(generator), np.flatnonzero(real | (kinds == generator))


def _counted(
    part: pd.DataFrame, thresholds: Mapping[str, float], selection: Selection
) -> CountedMetrics:
    values, labels = part["score"].to_numpy(), part["label"].to_numpy()
    return CountedMetrics(values, labels, with_oracle(thresholds, values, labels, selection))


def _replicates(
    pool: pd.DataFrame,
    parts: Sequence[NDArray[np.intp]],
    metrics: Sequence[CountedMetrics],
    n_resamples: int,
    rng: np.random.Generator,
) -> list[NDArray[np.float64]]:
    """Resample a pool once and evaluate each of its parts on every resample."""
    labels = pool["label"].to_numpy()
    _, fakes = np.unique(np.asarray(pool["generator"].astype(str)), return_inverse=True)
    strata = np.where(labels == 0, -1, fakes)
    groups = pool["pair"].to_numpy() if "pair" in pool else None
    found: list[list[NDArray[np.float64]]] = [[np.empty((0, len(m.names)))] for m in metrics]
    for counts in resampled_counts(strata, groups, n_resamples=n_resamples, rng=rng):
        for part, metric, collected in zip(parts, metrics, found, strict=True):
            collected.append(metric(counts[:, part]))
    return [np.concatenate(collected) for collected in found]


def _row(
    names: tuple[str, str],
    labels: "pd.Series[Any]",
    metric: CountedMetrics,
    replicates: NDArray[np.float64],
) -> Row:
    n_fake = int((labels == 1).sum())
    n_real = len(labels) - n_fake
    missing = [kind for kind, n in (("real", n_real), ("fake", n_fake)) if not n]
    reason = f"no {missing[0]} images" if missing else ""
    estimates = metric(np.ones((1, len(labels)), np.intp))[0]
    return Row(*names, n_real, n_fake, estimates, replicates, reason)


def _means(rows: Sequence[Row]) -> Iterator[Row]:
    """Yield the unweighted mean over datasets, and over generators where that is another one."""
    first = {row.dataset: row for row in reversed(rows)}
    datasets = [first[name] for name in sorted(first)]
    generators = [row for row in rows if row.generator != ALL]
    for kind, members in (("datasets", datasets), ("generators", generators)):
        if len(members) > 1 and (kind == "datasets" or members != datasets):
            mean = _mean(members)
            yield replace(
                mean,
                generator=f"{len(members)} {kind}",
                n_real=sum(row.n_real for row in datasets),
                n_fake=sum(row.n_fake for row in datasets),
            )


def _mean(rows: Sequence[Row]) -> Row:
    """Average the rows where each metric is defined."""
    estimates = np.stack([row.estimates for row in rows])
    defined = np.isfinite(estimates)
    n_defined = np.where(defined.any(axis=0), defined.sum(axis=0), np.nan)
    total = np.where(defined, estimates, 0.0).sum(axis=0)
    resampled = np.zeros_like(rows[0].replicates)
    for row, known in zip(rows, defined, strict=True):
        resampled += np.where(known, row.replicates, 0.0)
    undefined = sum(bool(row.reason) for row in rows)
    reason = f"{undefined} of {len(rows)} rows lack a class" if undefined else ""
    return Row(MEAN, "", 0, 0, total / n_defined, resampled / n_defined, reason)


def _record(row: Row, names: Sequence[str]) -> dict[str, Any]:
    record: dict[str, Any] = {name: getattr(row, name) for name in LABELS}
    low, high = interval(row.replicates)
    for i, name in enumerate(names):
        record |= {name: row.estimates[i], f"{name}_low": low[i], f"{name}_high": high[i]}
    return record | {"reason": row.reason}


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
        ``0.72 [0.66, 0.78]``, ``0.72`` without an interval, ``–`` where undefined.

    Examples
    --------
    >>> cell({"auroc": 0.72, "auroc_low": 0.66, "auroc_high": 0.777}, "auroc")
    '0.72 [0.66, 0.78]'
    """
    value, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    if not np.isfinite(value):
        return "–"
    return f"{value:.2f} [{low:.2f}, {high:.2f}]" if np.isfinite(low) else f"{value:.2f}"


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


def as_rich(table: pd.DataFrame, names: Sequence[str] | None = None, title: str = "") -> Any:
    """Return a table for the terminal.

    Parameters
    ----------
    table
        Table from `metric_table`.
    names
        Numbers to show; `default_columns` if absent.
    title
        Text above the table.

    Returns
    -------
    rich.table.Table
        To be printed by a Rich console.
    """
    from rich.box import SIMPLE
    from rich.table import Table

    head, lines = _cells(table, names)
    shown = Table(title=title or None, box=SIMPLE)
    for name in head:
        shown.add_column(name, justify="left" if name in LABELS[:2] else "right", no_wrap=True)
    for line in lines:
        shown.add_row(*line)
    return shown


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
