"""How well generators are told apart and unknown ones rejected, with bootstrap intervals.

All metrics are functions of how often each sample counts, so that the resamples of a bootstrap are
evaluated together.
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from heads.evaluation.bootstrap import interval
from heads.evaluation.resampling import resampled_counts, units_of

Floats = NDArray[np.float64]

NAMES = (
    "accuracy",
    "balanced_accuracy",
    "open_auroc",
    "oscr",
    "known_rejected",
    "unknown_rejected",
    "open_accuracy",
)
"""What is computed, see `attribution_metrics`."""


class Attributed(NamedTuple):
    """What is known of samples (n,) and what a head made of them.

    ``generator`` is the true one, ``named`` the known generator that is nearest, ``score`` how far
    the sample is from it, ``rejected`` whether that is too far.
    """

    generator: NDArray[Any]
    named: NDArray[Any]
    score: Floats
    rejected: NDArray[np.bool_]


class CountedAttribution:
    """All metrics of one set of samples, for any number of times each sample counts.

    Parameters
    ----------
    samples
        What a head made of them; scores finite.
    known
        Names of the generators that it knows.
    """

    def __init__(self, samples: Attributed, known: NDArray[Any]) -> None:
        self._known = np.isin(samples.generator, known)
        self._right = samples.named == samples.generator
        self._rejected = samples.rejected
        present = np.unique(samples.generator[self._known])
        self._of = np.equal.outer(samples.generator, present).astype(np.float64)
        self._order = np.argsort(samples.score, kind="stable")
        ordered = samples.score[self._order]
        self._starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))

    def __call__(self, counts: NDArray[np.integer[Any]]) -> Floats:
        """Evaluate resamples.

        Parameters
        ----------
        counts
            How often each sample is drawn, (n_resamples, n_samples).

        Returns
        -------
        numpy.ndarray
            Shape (n_resamples, n_metrics) in the order of `NAMES`; NaN where what is needed is
            missing.
        """
        known, unknown = counts * self._known, counts * ~self._known
        right = known * self._right
        n_known, n_unknown = known.sum(1), unknown.sum(1)
        recalls = _ratio(right @ self._of, known @ self._of)
        settled = right * ~self._rejected
        rejected = unknown * self._rejected
        return np.stack(
            [
                _ratio(right.sum(1), n_known),
                recalls.mean(1) if recalls.shape[1] else np.full(len(counts), np.nan),
                _ratio(self._pairs(known, unknown), n_known * n_unknown),
                _ratio(self._pairs(right, unknown), n_known * n_unknown),
                _ratio((known * self._rejected).sum(1), n_known),
                _ratio(rejected.sum(1), n_unknown),
                _ratio(settled.sum(1) + rejected.sum(1), n_known + n_unknown),
            ],
            axis=1,
        )

    def _pairs(self, nearer: NDArray[Any], farther: NDArray[Any]) -> Floats:
        """Count the pairs in which one of the first has the smaller score; equal ones half."""
        first = np.add.reduceat(nearer[:, self._order], self._starts, axis=1).astype(np.float64)
        second = np.add.reduceat(farther[:, self._order], self._starts, axis=1)
        below = np.cumsum(first, axis=1) - first / 2
        pairs: Floats = np.einsum("rl,rl->r", below, second.astype(np.float64))
        return pairs


def attribution_metrics(
    samples: Attributed,
    known: NDArray[Any],
    *,
    groups: NDArray[np.integer[Any]] | None = None,
    n_resamples: int = 1000,
    rng: int | np.random.Generator = 0,
) -> pd.DataFrame:
    """Return all metrics of attributed samples, with 95 % bootstrap intervals.

    Parameters
    ----------
    samples
        What a head made of them.
    known
        Names of the generators that it knows; samples of others are unknown.
    groups
        Samples with equal non-negative numbers are drawn together, for instance aligned pairs.
    n_resamples
        Bootstrap resamples; 0 leaves the intervals out.
    rng
        Seed or source of randomness.

    Returns
    -------
    DataFrame
        Columns ``metric``, ``value``, ``low``, ``high``. Of known samples: ``accuracy``,
        ``balanced_accuracy`` (the mean over generators of the share named right) and
        ``known_rejected``; of both: ``open_auroc``, the probability that an unknown sample is
        farther than a known one, ``oscr``, the area under the curve of known samples kept and named
        right over unknown samples kept, and ``open_accuracy``, the share of samples named right or
        rejected as they should; ``unknown_rejected``.

    Raises
    ------
    ValueError
        If shapes differ, there are no samples or a score is not finite.

    Notes
    -----
    Samples are drawn within generators, so that each keeps its size. The area ``oscr`` is that of
    the curve through all thresholds joined by straight lines, which is the share of pairs (known,
    unknown) in which the known one is named right and is nearer, those of equal score half.
    Cost: O(n_resamples · n_samples).

    References
    ----------
    Dhamija, Günther, Boult, "Reducing network agnostophobia", NeurIPS 2018, for the OSCR curve.

    Examples
    --------
    >>> samples = Attributed(
    ...     np.array(["a", "a", "b", "x"]), np.array(["a", "b", "b", "a"]),
    ...     np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, False, False, True]),
    ... )
    >>> table = attribution_metrics(samples, np.array(["a", "b"]), n_resamples=0)
    >>> dict(zip(table.metric, table.value.round(2)))["balanced_accuracy"]
    0.75
    """
    _check(samples)
    counted, strata = CountedAttribution(samples, known), samples.generator
    found = [np.empty((0, len(NAMES)))]
    if n_resamples:
        units = units_of(strata, groups)
        draws = resampled_counts(units, n_resamples=n_resamples, rng=np.random.default_rng(rng))
        found += [counted(counts) for counts in draws]
    low, high = interval(np.concatenate(found))
    values = counted(np.ones((1, len(strata)), np.intp))[0]
    return pd.DataFrame({"metric": NAMES, "value": values, "low": low, "high": high})


def oscr_curve(samples: Attributed, known: NDArray[Any]) -> tuple[Floats, Floats]:
    """Return the open-set classification rate curve.

    Parameters
    ----------
    samples
        What a head made of them.
    known
        Names of the generators that it knows.

    Returns
    -------
    tuple of numpy.ndarray
        Share of unknown samples kept and share of known samples kept and named right, for each
        threshold from none kept to all; NaN where there are no such samples.

    Examples
    --------
    >>> samples = Attributed(
    ...     np.array(["a", "x"]), np.array(["a", "a"]), np.array([1.0, 2.0]), np.zeros(2, bool)
    ... )
    >>> [axis.tolist() for axis in oscr_curve(samples, np.array(["a"]))]
    [[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]]
    """
    _check(samples)
    is_known = np.isin(samples.generator, known)
    right = is_known & (samples.named == samples.generator)
    order = np.argsort(samples.score, kind="stable")
    ordered = samples.score[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    axes = []
    for kept, total in ((~is_known, (~is_known).sum()), (right, is_known.sum())):
        found = np.append(0, np.cumsum(kept[order])[last])
        axes.append(_ratio(found, np.full(len(found), total)))
    return axes[0], axes[1]


def confusion(samples: Attributed, known: NDArray[Any], rejected: str = "rejected") -> pd.DataFrame:
    """Return how many samples of each generator are attributed to which.

    Parameters
    ----------
    samples
        What a head made of them.
    known
        Names of the generators that it knows.
    rejected
        Name of the column of rejected samples.

    Returns
    -------
    DataFrame
        Counts; rows are the generators present, known ones first, columns the known generators and
        the rejected.
    """
    _check(samples)
    present = np.unique(samples.generator)
    rows = [*(g for g in known if g in present), *(g for g in present if g not in known)]
    to = np.where(samples.rejected, rejected, samples.named)
    table = pd.crosstab(samples.generator, to)
    return table.reindex(index=rows, columns=[*known, rejected], fill_value=0)


def _check(samples: Attributed) -> None:
    """Refuse what is not one finite score per sample."""
    shapes = {np.shape(values) for values in samples}
    if len(shapes) > 1 or shapes == {(0,)} or len(next(iter(shapes))) != 1:
        raise ValueError(
            f"attributed samples must be arrays of one shape (n_samples,), n_samples >= 1, got "
            f"shapes {sorted(shapes)}."
        )
    if not np.isfinite(samples.score).all():
        raise ValueError(
            f"'score' must be finite, got {np.count_nonzero(~np.isfinite(samples.score))} that are "
            f"not; look at the features of those samples."
        )


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> Floats:
    """Divide, giving NaN where the whole is zero."""
    quotient = np.full(np.shape(part), np.nan)
    np.divide(part, whole, out=quotient, where=whole != 0)
    return quotient
