"""Metrics of one set of scores, as plain functions; the positive class is *fake* (label 1).

A sample is called fake when ``score > threshold``: one rule, everywhere. Ranking metrics need no
threshold. With a class missing, what cannot be computed is NaN, never an exception. Intervals are
computed in `heads.evaluation.bootstrap`.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

Scores = NDArray[np.floating[Any]]
Labels = NDArray[Any]


def checked(scores: Scores, labels: Labels) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return scores as float64 and labels as booleans, or say what is wrong with them.

    Parameters
    ----------
    scores
        Decision values (n_samples,), finite.
    labels
        0 real or 1 fake, (n_samples,).

    Returns
    -------
    tuple
        Scores (n_samples,) float64 and whether each sample is fake (n_samples,).

    Raises
    ------
    ValueError
        If shapes differ, nothing is there, a score is not finite or a label is neither 0 nor 1.
    """
    values, classes = np.asarray(scores, np.float64), np.asarray(labels)
    if values.ndim != 1 or values.shape != classes.shape or not values.size:
        raise ValueError(
            "'scores' and 'labels' must be one-dimensional, equally long and not empty, "
            f"got shapes {values.shape} and {classes.shape}."
        )
    if not np.isfinite(values).all():
        raise ValueError(
            f"'scores' must be finite, got {np.count_nonzero(~np.isfinite(values))} that are not; "
            "look at the features of those samples."
        )
    if not np.isin(classes, (0, 1)).all():
        raise ValueError(f"'labels' must be 0 (real) or 1 (fake), got {np.unique(classes)[:10]!r}.")
    return values, classes.astype(bool)


def accuracy(scores: Scores, labels: Labels, threshold: float = 0.0) -> float:
    """Return the share of samples that are called what they are.

    Parameters
    ----------
    scores
        Decision values (n_samples,).
    labels
        0 real, 1 fake (n_samples,).
    threshold
        Scores *above* it are called fake; 0 on a logit is 0.5 on a probability.

    Returns
    -------
    float
        In [0, 1].

    Examples
    --------
    >>> accuracy(np.array([-1.0, 0.0, 2.0]), np.array([0, 1, 1]))
    0.6666666666666666
    """
    values, fake = checked(scores, labels)
    return float(np.mean((values > threshold) == fake))


def real_accuracy(scores: Scores, labels: Labels, threshold: float = 0.0) -> float:
    """Return the share of real samples that are called real (specificity).

    Parameters
    ----------
    scores
        Decision values (n_samples,).
    labels
        0 real, 1 fake (n_samples,).
    threshold
        Scores above it are called fake.

    Returns
    -------
    float
        In [0, 1]; NaN without real samples.

    Examples
    --------
    >>> real_accuracy(np.array([-1.0, 1.0, 2.0]), np.array([0, 0, 1]))
    0.5
    """
    values, fake = checked(scores, labels)
    return float("nan") if fake.all() else float(np.mean(values[~fake] <= threshold))


def fake_accuracy(scores: Scores, labels: Labels, threshold: float = 0.0) -> float:
    """Return the share of fake samples that are called fake (sensitivity).

    Parameters
    ----------
    scores
        Decision values (n_samples,).
    labels
        0 real, 1 fake (n_samples,).
    threshold
        Scores above it are called fake.

    Returns
    -------
    float
        In [0, 1]; NaN without fake samples.

    Examples
    --------
    >>> fake_accuracy(np.array([-1.0, 1.0, 2.0]), np.array([0, 1, 1]))
    1.0
    """
    values, fake = checked(scores, labels)
    return float(np.mean(values[fake] > threshold)) if fake.any() else float("nan")


def balanced_accuracy(scores: Scores, labels: Labels, threshold: float = 0.0) -> float:
    """Return the mean of `real_accuracy` and `fake_accuracy`.

    Parameters
    ----------
    scores
        Decision values (n_samples,).
    labels
        0 real, 1 fake (n_samples,).
    threshold
        Scores above it are called fake.

    Returns
    -------
    float
        In [0, 1]; NaN where a class is missing.

    Examples
    --------
    >>> balanced_accuracy(np.array([-1.0, 1.0, 2.0]), np.array([0, 0, 1]))
    0.75
    """
    rates = (real_accuracy(scores, labels, threshold), fake_accuracy(scores, labels, threshold))
    return (rates[0] + rates[1]) / 2


def auroc(scores: Scores, labels: Labels) -> float:
    """Return the area under the ROC curve: P(fake scores above real), ties counting one half.

    Parameters
    ----------
    scores
        Decision values (n_samples,).
    labels
        0 real, 1 fake (n_samples,).

    Returns
    -------
    float
        In [0, 1]; NaN where a class is missing.

    Examples
    --------
    >>> auroc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]))
    0.75
    """
    values, fake = checked(scores, labels)
    return float(roc_auc_score(fake, values)) if _both(fake) else float("nan")


def average_precision(scores: Scores, labels: Labels) -> float:
    """Return the step-wise area under the precision-recall curve, without interpolation.

    Parameters
    ----------
    scores
        Decision values (n_samples,).
    labels
        0 real, 1 fake (n_samples,).

    Returns
    -------
    float
        In [0, 1], and near the share of fakes for random scores: compare it only between sets of
        one class balance. NaN where a class is missing.

    Examples
    --------
    >>> average_precision(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]))
    0.8333333333333333
    """
    values, fake = checked(scores, labels)
    return float(average_precision_score(fake, values)) if _both(fake) else float("nan")


def tpr_at_fpr(scores: Scores, labels: Labels, fpr: float) -> float:
    """Return the largest share of fakes found by a threshold that calls at most `fpr` reals fake.

    Parameters
    ----------
    scores
        Decision values (n_samples,).
    labels
        0 real, 1 fake (n_samples,).
    fpr
        Allowed share of false alarms, in [0, 1].

    Returns
    -------
    float
        In [0, 1]; NaN where a class is missing.

    Notes
    -----
    Conservative step rule: only operating points that a threshold can reach count, so the promise
    ``FPR <= fpr`` holds. Interpolating the ROC curve linearly (``numpy.interp(fpr, …)``, as some
    published detectors do) is larger where scores are tied. With fewer than ``1 / fpr`` real
    samples no false alarm is allowed at all.

    Examples
    --------
    >>> tpr_at_fpr(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]), 0.05)
    0.5
    """
    if not 0 <= fpr <= 1:
        raise ValueError(f"'fpr' must be in [0, 1], got {fpr!r}.")
    values, fake = checked(scores, labels)
    if not _both(fake):
        return float("nan")
    false_alarms, found, _ = roc_curve(fake, values, drop_intermediate=False)
    return float(found[false_alarms <= fpr].max())


def _both(fake: NDArray[np.bool_]) -> bool:
    """Return whether both classes are there."""
    return bool(fake.any() and not fake.all())


THRESHOLD_METRICS: dict[str, Callable[[Scores, Labels, float], float]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "real_accuracy": real_accuracy,
    "fake_accuracy": fake_accuracy,
}
"""Metrics of a decision: functions of (scores, labels, threshold)."""

ALLOWED_FPR = {"tpr_at_1pct_fpr": 0.01, "tpr_at_5pct_fpr": 0.05}
"""The false positive rates that are reported."""

RANKING_METRICS: dict[str, Callable[[Scores, Labels], float]] = {
    "auroc": auroc,
    "average_precision": average_precision,
    **{name: partial(tpr_at_fpr, fpr=rate) for name, rate in ALLOWED_FPR.items()},
}
"""Metrics of the order of the scores: functions of (scores, labels)."""

METRICS: dict[str, Callable[..., float]] = {**RANKING_METRICS, **THRESHOLD_METRICS}
"""All of them by name."""


def columns(thresholds: Mapping[str, float]) -> list[str]:
    """Return the names of all numbers reported for one set of scores.

    Parameters
    ----------
    thresholds
        Decision thresholds by name.

    Returns
    -------
    list of str
        The ranking metrics, then ``metric@threshold`` for each threshold.

    Examples
    --------
    >>> columns({"0.5": 0.0})[-2:]
    ['real_accuracy@0.5', 'fake_accuracy@0.5']
    """
    decisions = [f"{metric}@{name}" for name in thresholds for metric in THRESHOLD_METRICS]
    return [*RANKING_METRICS, *decisions]
