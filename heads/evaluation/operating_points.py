"""Single points of the ROC curve that need no threshold to be chosen."""

import numpy as np
from sklearn.metrics import roc_curve

from heads.evaluation.metrics import Labels, Scores, checked


def equal_error_rate(scores: Scores, labels: Labels) -> float:
    """Return the error rate where as large a share of reals as of fakes is called wrongly.

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

    Notes
    -----
    Where the ROC curve, joined by straight lines, meets ``fpr = 1 - tpr``: the chance to err at
    random between two thresholds. Published code differs, see
    `heads.evaluation.published_metrics.dm_equal_error_rate`.

    Examples
    --------
    >>> equal_error_rate(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]))
    0.5
    """
    values, fake = checked(scores, labels)
    if fake.all() or not fake.any():
        return float("nan")
    false_alarms, found, _ = roc_curve(fake, values, drop_intermediate=False)
    balance = false_alarms + found - 1  # grows from -1 to 1
    after = int(np.argmax(balance >= 0))
    before = after - 1
    share = -balance[before] / (balance[after] - balance[before])
    return float(false_alarms[before] + share * (false_alarms[after] - false_alarms[before]))


def interpolated_tpr_at_fpr(scores: Scores, labels: Labels, fpr: float) -> float:
    """Return the share of fakes found at a rate of false alarms, on the ROC curve's lines.

    Parameters
    ----------
    scores
        Decision values (n_samples,).
    labels
        0 real, 1 fake (n_samples,).
    fpr
        Share of false alarms, in [0, 1].

    Returns
    -------
    float
        In [0, 1]; NaN where a class is missing. Never less than
        `heads.evaluation.metrics.tpr_at_fpr`, and more where no single threshold has this rate:
        then it is reached only by calling at random between two.

    Examples
    --------
    >>> scores, labels = np.array([0, 1, 1, 2.0]), np.array([0, 0, 1, 1])
    >>> interpolated_tpr_at_fpr(scores, labels, 0.25)
    0.75
    """
    if not 0 <= fpr <= 1:
        raise ValueError(f"'fpr' must be in [0, 1], got {fpr!r}.")
    values, fake = checked(scores, labels)
    if fake.all() or not fake.any():
        return float("nan")
    false_alarms, found, _ = roc_curve(fake, values)
    return float(np.interp(fpr, false_alarms, found))
