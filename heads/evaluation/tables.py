"""Tables of results, every number with its 95 % bootstrap interval and the numbers of images.

There is a row per dataset, one per generator against the real images of its dataset, and plain
means over both. All rows are evaluated on the same resamples, so the interval of a mean knows which
images its members share.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from heads.evaluation.bootstrap import CountedMetrics, interval, why_missing
from heads.evaluation.resampling import common_groups, n_distinct, resampled_counts, units_of
from heads.evaluation.roles import splits_of
from heads.evaluation.thresholds import Selection, with_oracle

ALL, MEAN = "all", "MEAN"
LABELS = ("dataset", "generator", "n_real", "n_fake")
Part = tuple[str, str, NDArray[np.intp]]
"""Dataset, generator and row positions of what becomes one row of the table."""


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
        Bootstrap resamples; 0 leaves the intervals out, and so do fewer than 20, with that reason.
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
        ``reason``: why a number or an interval is NaN. The last rows, dataset ``MEAN``, are
        unweighted means over datasets and over generators; they count an image once.

    Raises
    ------
    ValueError
        If the rows come from more than one split, a dataset is called ``MEAN`` or a generator
        ``all``.

    Notes
    -----
    Aligned pairs (equal ``pair``) and the rows of one image (equal ``sample_id``) are resampled
    together, in all datasets. O(n_resamples * n_samples) time for each generator's rows; memory
    does not grow with the number of resamples times samples.
    """
    if len(splits := splits_of(scores)) > 1:
        raise ValueError(f"a table must report one split, got {splits}; make one table for each.")
    parts = list(_parts(scores, by))
    metrics = [_counted(scores.iloc[part], thresholds, selection) for *_, part in parts]
    rows = _rows(scores, by[0], parts, metrics, n_resamples, np.random.default_rng(rng))
    records = [_record(row, metrics[0].names) for row in [*rows, *_means(rows, n_distinct(scores))]]
    return pd.DataFrame(records)


def _parts(scores: pd.DataFrame, by: Sequence[str]) -> Iterator[Part]:
    """Yield each pool, then each of its generators with all its real images."""
    real = scores["label"].to_numpy() == 0
    pools = np.asarray(scores[by[0]].astype(str))
    kinds = np.asarray(scores[by[1]].astype(str)) if len(by) > 1 else np.full(len(pools), "fake")
    for kind, names, reserved in (("dataset", pools, MEAN), ("generator", kinds[~real], ALL)):
        if reserved in names:
            raise ValueError(
                f"no {kind} may be called {reserved!r}, which names rows of the table, got one; "
                f"rename it in the column."
            )
    for pool in sorted(set(pools)):
        own = pools == pool
        generators = sorted(set(kinds[own & ~real]))
        if len(by) == 1 or len(generators) != 1:
            yield pool, ALL, np.flatnonzero(own)
        for generator in generators if len(by) > 1 else ():
            yield pool, generator, np.flatnonzero(own & (real | (kinds == generator)))


def _counted(
    part: pd.DataFrame, thresholds: Mapping[str, float], selection: Selection
) -> CountedMetrics:
    values, labels = part["score"].to_numpy(), part["label"].to_numpy()
    return CountedMetrics(values, labels, with_oracle(thresholds, values, labels, selection))


def _rows(
    scores: pd.DataFrame,
    divider: str,
    parts: Sequence[Part],
    metrics: Sequence[CountedMetrics],
    n_resamples: int,
    rng: np.random.Generator,
) -> list[Row]:
    """Resample all rows at once and evaluate each part on every resample."""
    fake = scores["label"].to_numpy() == 1
    pools = np.asarray(scores[divider].astype(str))
    generators = pd.factorize(scores["generator"])[0]
    units = units_of(np.where(fake, generators, -1), common_groups(scores), pools)
    found: list[list[NDArray[np.float64]]] = [[np.empty((0, len(m.names)))] for m in metrics]
    for counts in resampled_counts(units, n_resamples=n_resamples, rng=rng):
        for (*_, part), metric, collected in zip(parts, metrics, found, strict=True):
            collected.append(metric(counts[:, part]))
    rows = []
    for (dataset, generator, part), metric, collected in zip(parts, metrics, found, strict=True):
        estimates = metric(np.ones((1, len(part)), np.intp))[0]
        replicates, classes = np.concatenate(collected), (part[~fake[part]], part[fake[part]])
        reason = why_missing(estimates, replicates, classes, units)
        if reason and all(map(len, classes)):
            replicates = np.full_like(replicates, np.nan)
        n_real, n_fake = map(len, classes)
        rows.append(Row(dataset, generator, n_real, n_fake, estimates, replicates, reason))
    return rows


def _means(rows: Sequence[Row], sizes: tuple[int, int]) -> Iterator[Row]:
    """Yield the unweighted mean over datasets, and over generators where that is another one."""
    first = {row.dataset: row for row in reversed(rows)}
    datasets = [first[name] for name in sorted(first)]
    generators = [row for row in rows if row.generator != ALL]
    for kind, members in (("datasets", datasets), ("generators", generators)):
        if len(members) > 1 and (kind == "datasets" or members != datasets):
            name = f"{len(members)} {kind}"
            yield replace(_mean(members), generator=name, n_real=sizes[0], n_fake=sizes[1])


def _mean(rows: Sequence[Row]) -> Row:
    """Average the rows where each metric is defined."""
    estimates = np.stack([row.estimates for row in rows])
    defined = np.isfinite(estimates)
    n_defined = np.where(defined.any(axis=0), defined.sum(axis=0), np.nan)
    total = np.where(defined, estimates, 0.0).sum(axis=0)
    resampled = np.zeros_like(rows[0].replicates)
    for row, known in zip(rows, defined, strict=True):
        resampled += np.where(known, row.replicates, 0.0)
    undefined = sum(not (row.n_real and row.n_fake) for row in rows)
    reason = f"{undefined} of {len(rows)} rows lack a class" if undefined else ""
    if not reason and any(row.reason for row in rows):
        reason = "no interval: a row has none"
    return Row(MEAN, "", 0, 0, total / n_defined, resampled / n_defined, reason)


def _record(row: Row, names: Sequence[str]) -> dict[str, Any]:
    record: dict[str, Any] = {name: getattr(row, name) for name in LABELS}
    low, high = interval(row.replicates)
    for i, name in enumerate(names):
        record |= {name: row.estimates[i], f"{name}_low": low[i], f"{name}_high": high[i]}
    return record | {"reason": row.reason}
