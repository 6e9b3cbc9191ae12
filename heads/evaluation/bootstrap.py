"""Bootstrap intervals of all metrics at once.

A resample is a vector of how often each sample was drawn. Scores are sorted once; every metric is
then a function of cumulative counts, so a thousand resamples are a few passes over one matrix
instead of a thousand sorts. Samples are drawn within strata (real, and each generator), and samples
of one group, for instance an image and its reconstruction, are drawn together.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heads.evaluation.metrics import ALLOWED_FPR, Labels, Scores, checked, columns
from heads.evaluation.resampling import Units, resampled_counts, units_of

Counts = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]

TAILS = (0.025, 0.975)
"""Quantiles that bound a 95 % interval."""

FEWEST_RESAMPLES = 20
"""Fewer replicates have no tails of 2.5 %: their bounds may not even enclose the estimate."""


class Curve(NamedTuple):
    """Fakes and reals above each distinct score, highest first, for several resamples.

    Both are (n_resamples, n_levels + 1): column 0 is zero, the last holds the class totals.
    """

    fake: Floats
    real: Floats

    @property
    def n_fake(self) -> Floats:
        """Fake samples of each resample (n_resamples,)."""
        return self.fake[:, -1]

    @property
    def n_real(self) -> Floats:
        """Real samples of each resample (n_resamples,)."""
        return self.real[:, -1]


def _ratio(part: Floats, whole: Floats) -> Floats:
    """Divide, giving NaN where the whole is zero."""
    quotient = np.full(np.shape(part), np.nan)
    np.divide(part, whole, out=quotient, where=whole != 0)
    return quotient


def _auroc(curve: Curve) -> Floats:
    """Trapezoids: each real against the fakes above it and half of those at its level."""
    above = (curve.fake[:, 1:] + curve.fake[:, :-1]) / 2
    area = np.einsum("rl,rl->r", np.diff(curve.real, axis=1), above)
    return _ratio(area, curve.n_fake * curve.n_real)


def _average_precision(curve: Curve) -> Floats:
    """Precision at each level, weighted by the fakes at that level."""
    found = curve.fake[:, 1:]
    called = found + curve.real[:, 1:]
    precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
    area = np.einsum("rl,rl->r", np.diff(curve.fake, axis=1), precision)
    return _ratio(area, np.where(curve.n_real > 0, curve.n_fake, 0.0))


def _tpr_at(curve: Curve, fpr: float) -> Floats:
    """Fakes above the lowest level whose false alarms are allowed."""
    rates = _ratio(curve.real, np.broadcast_to(curve.n_real[:, None], curve.real.shape))
    last = np.maximum(np.count_nonzero(rates <= fpr, axis=1) - 1, 0)
    found = np.take_along_axis(curve.fake, last[:, None], axis=1)[:, 0]
    return _ratio(found, np.where(curve.n_real > 0, curve.n_fake, 0.0))


COUNTED_RANKING: dict[str, Callable[[Curve], Floats]] = {
    "auroc": _auroc,
    "average_precision": _average_precision,
    **{name: lambda curve, rate=rate: _tpr_at(curve, rate) for name, rate in ALLOWED_FPR.items()},  # type: ignore[misc]
}
"""`RANKING_METRICS` of `heads.evaluation.metrics`, on cumulative counts."""


def _decisions(curve: Curve, cut: int) -> dict[str, Floats]:
    """Return `THRESHOLD_METRICS` when the first so many levels are called fake."""
    found, passed = curve.fake[:, cut], curve.n_real - curve.real[:, cut]
    real, fake = _ratio(passed, curve.n_real), _ratio(found, curve.n_fake)
    return {
        "accuracy": _ratio(found + passed, curve.n_fake + curve.n_real),
        "balanced_accuracy": (real + fake) / 2,
        "real_accuracy": real,
        "fake_accuracy": fake,
    }


class CountedMetrics:
    """All metrics of one set of scores, for any number of times each sample counts.

    Parameters
    ----------
    scores
        Decision values (n_samples,).
    labels
        0 real, 1 fake (n_samples,).
    thresholds
        Decision thresholds by name.

    Examples
    --------
    >>> metrics = CountedMetrics(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]), {})
    >>> metrics(np.array([[1, 1, 1, 1], [0, 2, 1, 1]]))[:, 0]
    array([0.75, 0.5 ])
    """

    def __init__(self, scores: Scores, labels: Labels, thresholds: Mapping[str, float]) -> None:
        values, fake = checked(scores, labels)
        self.names = columns(thresholds)
        self._order = np.argsort(-values, kind="stable")
        descending = values[self._order]
        self._fake = fake[self._order]
        self._last = np.flatnonzero(np.append(descending[1:] != descending[:-1], True))
        levels = descending[self._last]
        self._cuts = [int(np.count_nonzero(levels > value)) for value in thresholds.values()]

    def __call__(self, counts: Counts) -> Floats:
        """Evaluate resamples.

        Parameters
        ----------
        counts
            How often each sample is drawn, (n_resamples, n_samples).

        Returns
        -------
        ndarray
            (n_resamples, n_metrics) in the order of ``names``; equal to scikit-learn's metrics with
            the counts as ``sample_weight``.
        """
        curve = self._curve(counts)
        values = [metric(curve) for metric in COUNTED_RANKING.values()]
        for cut in self._cuts:
            values += _decisions(curve, cut).values()
        return np.stack(values, axis=1)

    def _curve(self, counts: Counts) -> Curve:
        """Accumulate counts down the sorted scores, one column per distinct score."""
        drawn = counts[:, self._order].astype(np.float64)
        total = np.cumsum(drawn, axis=1)[:, self._last]
        drawn *= self._fake
        fake = np.cumsum(drawn, axis=1)[:, self._last]
        start = np.zeros((len(counts), 1))
        return Curve(np.hstack([start, fake]), np.hstack([start, total - fake]))


def interval(replicates: Floats) -> Floats:
    """Return the percentile bounds of bootstrap replicates.

    Parameters
    ----------
    replicates
        (n_resamples, n_metrics).

    Returns
    -------
    ndarray
        (2, n_metrics): lower and upper bound of the 95 % interval, NaN where a metric is undefined
        in a resample, or with fewer than `FEWEST_RESAMPLES` of them.
    """
    bounds = np.full((2, replicates.shape[1]), np.nan)
    defined = np.isfinite(replicates).all(axis=0) & (len(replicates) >= FEWEST_RESAMPLES)
    if defined.any():
        bounds[:, defined] = np.quantile(replicates[:, defined], TAILS, axis=0)
    return bounds


def why_missing(
    estimates: Floats,
    replicates: Floats,
    classes: tuple[NDArray[np.intp], NDArray[np.intp]],
    units: Units,
) -> str:
    """Return why numbers or intervals must be left out.

    Parameters
    ----------
    estimates
        Metrics of the sample itself (n_metrics,).
    replicates
        Metrics of the resamples (n_resamples, n_metrics).
    classes
        Positions of the real and of the fake samples.
    units
        What was drawn.

    Returns
    -------
    str
        One reason; empty where nothing is missing or no resamples were wanted.
    """
    for name, rows in zip(("real", "fake"), classes, strict=True):
        if not len(rows):
            return f"no {name} images"
    if not len(replicates):
        return ""
    if len(replicates) < FEWEST_RESAMPLES:
        return f"no interval: {len(replicates)} resamples, at least {FEWEST_RESAMPLES} are needed"
    for name, rows in zip(("real", "fake"), classes, strict=True):
        if units.too_few(rows):
            return f"no interval: too few {name} images to resample"
    lacking = np.isnan(replicates[:, np.isfinite(estimates)]).any()
    return "no interval: a resample lacked a class" if lacking else ""


def bootstrap_intervals(
    scores: Scores,
    labels: Labels,
    thresholds: Mapping[str, float],
    *,
    groups: NDArray[np.integer[Any]] | None = None,
    n_resamples: int = 1000,
    rng: int | np.random.Generator = 0,
) -> dict[str, tuple[float, float]]:
    """Return 95 % percentile intervals of all metrics of one set of scores.

    Parameters
    ----------
    scores
        Decision values (n_samples,).
    labels
        0 real, 1 fake (n_samples,).
    thresholds
        Decision thresholds by name; they are held fixed.
    groups
        Samples with equal non-negative numbers stay together, for instance aligned pairs.
    n_resamples
        Number of resamples.
    rng
        Seed or source of randomness.

    Returns
    -------
    dict
        Name of the metric to (low, high); NaN where a class has a single unit to resample.

    Notes
    -----
    The interval covers the sampling of test images alone, not of training images or seeds.
    Cost: O(n_resamples * n_samples).

    References
    ----------
    Efron, The Jackknife, the Bootstrap and Other Resampling Plans, 1982, percentile method.
    """
    metrics = CountedMetrics(scores, labels, thresholds)
    classes = np.asarray(labels)
    units = units_of(classes, groups)
    found = [np.empty((0, len(metrics.names)))]
    if not any(units.too_few(classes == label) for label in (0, 1)):
        draws = resampled_counts(units, n_resamples=n_resamples, rng=np.random.default_rng(rng))
        found += [metrics(counts) for counts in draws]
    low, high = interval(np.concatenate(found))
    pairs = zip(low.tolist(), high.tolist(), strict=True)
    return dict(zip(metrics.names, pairs, strict=True))
