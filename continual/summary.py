"""Means over the runs of a study, with intervals: the numbers, the domains, the course, R itself.

Intervals say how well so many orders and seeds determine the mean
over all of them. They say nothing about new test images, which all runs share.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student

from continual.metrics import continual_metrics, mean_so_far
from continual.ways import RUN, WAY, Way, ways_of

LEVEL = 0.95
CHANCE = 0.5
"""Score of a domain before any training, but for average precision: there the share of fakes."""
MEAN = "MEAN"
"""Stands for all domains together."""

Matrix = NDArray[np.float64]


def measured(scores: pd.DataFrame, metrics: Sequence[str]) -> list[str]:
    """Return the metrics that a study has.

    Parameters
    ----------
    scores
        Its table.
    metrics
        Names of columns.

    Returns
    -------
    list of str
        Those that are there and not nan all through.

    Raises
    ------
    ValueError
        If there are none.
    """
    found = [name for name in metrics if name in scores and scores[name].notna().any()]
    if not found:
        raise ValueError(
            f"a study must have a score to be summarised, got {list(metrics)}, which it lacks; "
            "choose a metric that was measured."
        )
    return found


def run_numbers(scores: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Return the numbers of continual learning of every run.

    Parameters
    ----------
    scores
        Table of a study: one row per run, step and domain tested.
    metrics
        Columns to use, see `measured`.

    Returns
    -------
    DataFrame
        One row per run and metric: the columns `RUN`, ``metric``, and each number of
        `continual.metrics.continual_metrics`. FWT is above `CHANCE`; nan where the test rows of a
        domain are all real or all fake, and in studies of more classes, which have no AUROC.
    """
    metrics = measured(scores, metrics)
    two_classes = "auroc" in scores and scores["auroc"].notna().any()
    records = []
    for run in _runs(scores, metrics):
        for metric, R in zip(metrics, run.scores, strict=True):
            chance = _chance(run, metric) if two_classes else None
            numbers = continual_metrics(R, run.learned, chance)
            records.append({**dict(zip(RUN, run.key, strict=True)), "metric": metric, **numbers})
    return pd.DataFrame(records)


def summarise(scores: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Return the numbers of continual learning, averaged over orders and seeds.

    Parameters
    ----------
    scores
        Table of a study.
    metrics
        Columns to use; those without any score are left out.

    Returns
    -------
    DataFrame
        One row per way and metric, in the order in which they come: ``n`` orders, the mean of every
        number of `run_numbers` and, as ``<number>_half``, the half width of its 95 % interval by
        Student's t over orders, seeds averaged first (`per_order`; nan of one). Runs without a
        number do not count in its mean.
        The intervals say nothing about new test images.
    """
    return _averaged(run_numbers(scores, metrics), [*WAY, "metric"])


def best_first(scores: pd.DataFrame, metric: str) -> list[Way]:
    """Return the ways of a study with those of highest AA first, base by base.

    Parameters
    ----------
    scores
        Table of a study.
    metric
        Column to use.

    Returns
    -------
    list of tuple
        Values of `continual.ways.WAY`; ways without AA last.
    """
    summary = summarise(scores, [metric])
    bases = pd.Categorical(summary["base"], summary["base"].unique())
    return ways_of(summary.assign(place=bases, less=-summary["AA"]).sort_values(["place", "less"]))


def per_domain(scores: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Return the scores after the last step.

    Parameters
    ----------
    scores
        Table of a study.
    metrics
        Columns to use; those without any score are left out.

    Returns
    -------
    DataFrame
        One row per way and domain, and one per way named `MEAN`, the unweighted mean over domains:
        ``n`` orders, mean and, as ``<metric>_half``, half width as of `summarise`.
    """
    last = scores[scores["step"] == scores.groupby(RUN)["step"].transform("max")]
    last = last[[*RUN, "domain", *measured(scores, metrics)]]
    grouped = last.drop(columns="domain").groupby(RUN, sort=False)
    pooled = grouped.mean().where(grouped.count().eq(grouped.size(), axis=0)).reset_index()
    both = pd.concat([last, pooled.assign(domain=MEAN)], ignore_index=True)
    return _averaged(both, [*WAY, "domain"])


def over_time(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the mean over the domains learned so far after each step.

    Parameters
    ----------
    scores
        Table of a study.
    metric
        Column to use.

    Returns
    -------
    DataFrame
        One row per way and step: ``n`` orders, ``score`` and, as ``score_half``, half width as of
        `summarise`.
    """
    records = [
        {**dict(zip(RUN, run.key, strict=True)), "step": step, "score": score}
        for run in _runs(scores, [metric])
        for step, score in enumerate(mean_so_far(run.scores[0], run.learned))
    ]
    return _averaged(pd.DataFrame(records), [*WAY, "step"])


def matrices(scores: pd.DataFrame, metric: str) -> dict[Way, Matrix]:
    """Return R of each way with domains in the order in which a run learned them.

    Parameters
    ----------
    scores
        Table of a study.
    metric
        Column to use.

    Returns
    -------
    dict
        Way, the values of `WAY`, to R (n_steps, n_domains): row t, column i is the mean over runs
        of the score after step t on the domain that was the i-th to be learned. nan where no run
        has a score; domains that are never learned are left out.
    """
    found: dict[Way, list[Matrix]] = {}
    for run in _runs(scores, [metric]):
        learned = run.scores[0][:, list(dict.fromkeys(run.learned))]
        found.setdefault(run.key[: len(WAY)], []).append(learned)
    return {way: _mean(own) for way, own in found.items()}


class _Run(NamedTuple):
    """The scores of a run: of each metric R, and the tested images of each domain."""

    key: tuple[Any, ...]
    scores: Matrix
    learned: list[int]
    n_real: Matrix
    n_fake: Matrix


def _runs(scores: pd.DataFrame, metrics: Sequence[str]) -> Iterator[_Run]:
    """Yield the runs of a study."""
    numbers = scores.groupby(RUN, sort=False).ngroup().to_numpy()
    every, domains = pd.factorize(scores["domain"])
    learned = domains.get_indexer(pd.Index(scores["learned"]))
    steps, keys = scores["step"].to_numpy(), scores[RUN].to_numpy()
    values = scores[[*metrics, "n_real", "n_fake"]].to_numpy(np.float64).T
    rows = np.argsort(numbers, kind="stable")
    for own in np.split(rows, np.flatnonzero(np.diff(numbers[rows])) + 1):
        tested, first, places = np.unique(every[own], return_index=True, return_inverse=True)
        R = np.full((len(metrics), steps[own].max() + 1, len(tested)), np.nan)
        R[:, steps[own], places] = values[:-2, own]
        order = np.full(R.shape[1], -1)
        order[steps[own]] = pd.Index(tested).get_indexer(pd.Index(learned[own]))
        yield _Run(tuple(keys[own[0]]), R, order.tolist(), *values[-2:, own[first]])


def _chance(run: _Run, metric: str) -> Matrix:
    """Return the score of each domain before any training."""
    n = run.n_real + run.n_fake
    share = np.divide(run.n_fake, n, out=np.zeros(len(n)), where=n > 0)
    chance = share if metric == "average_precision" else np.full(len(n), CHANCE)
    return np.where((share > 0) & (share < 1), chance, np.nan)


def per_order(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Average the seeds of each order, so that runs count as independent that are.

    Parameters
    ----------
    table
        One row per run, with the columns ``order`` and ``seed``.
    keys
        Columns that tell apart what is not averaged.

    Returns
    -------
    DataFrame
        Keys and means, one row per order; of what has one order, one row per seed.
    """
    numbers = [name for name in table if name not in (*keys, "order", "seed")]
    several = table.groupby(keys, sort=False)["order"].transform("nunique") > 1
    unit = table["order"].where(several, table["seed"].astype(str))
    grouped = table.assign(unit=unit).groupby([*keys, "unit"], sort=False)
    return grouped[numbers].mean().reset_index().drop(columns="unit")


def _averaged(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return n, means and half widths over orders for each of the keys."""
    averaged = per_order(table, keys)
    numbers = [name for name in averaged if name not in keys]
    grouped = averaged.groupby(keys, sort=False)[numbers]
    half: pd.DataFrame = half_width(grouped.sem(), grouped.count())
    return pd.concat(
        [grouped.size().rename("n"), grouped.mean(), half.add_suffix("_half")], axis=1
    ).reset_index()


def half_width(error: Any, n: Any) -> Any:
    """Return the half width of the 95 % interval of a mean by Student's t.

    Parameters
    ----------
    error
        Standard error of the mean, from the divisor n - 1; nan of one value.
    n
        How many values it is of.

    Returns
    -------
    array-like
        Of the same kind as `error`.

    Examples
    --------
    >>> round(float(half_width(0.1, 3)), 4)
    0.4303
    """
    return error * student.ppf((1 + LEVEL) / 2, np.maximum(n - 1, 1))


def _mean(own: Sequence[Matrix]) -> Matrix:
    """Return the mean of matrices; those that are smaller lack their last rows and columns."""
    shape = np.max([R.shape for R in own], axis=0)
    whole = np.full((len(own), *shape), np.nan)
    for R, place in zip(own, whole, strict=True):
        place[: R.shape[0], : R.shape[1]] = R
    n = np.isfinite(whole).sum(0)
    mean: Matrix = np.divide(np.nansum(whole, 0), n, out=np.full(shape, np.nan), where=n > 0)
    return mean
