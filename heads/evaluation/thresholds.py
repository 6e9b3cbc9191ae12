"""Decision thresholds, and the mark of numbers chosen on the rows they are computed from.

A threshold is a decision value; scores *above* it are called fake. For heads whose decision value
is a logit, `AT_HALF` is a probability of one half.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from featstore.errors import unknown_name
from heads.evaluation.metrics import Labels, Scores, checked

Selection = Literal["val", "oracle"]
"""Where thresholds and hyper-parameters may be chosen; ``oracle`` also looks at the test rows."""

ORACLE = "ORACLE"
"""Marks every name of a number that was chosen on the rows it is computed from."""

AT_HALF = 0.0


def best_threshold(scores: Scores, labels: Labels, metric: str = "balanced_accuracy") -> float:
    """Return the threshold with the best accuracy, found exactly.

    Parameters
    ----------
    scores
        Decision values (n_samples,) of *validation* rows.
    labels
        0 real, 1 fake (n_samples,).
    metric
        ``balanced_accuracy`` or ``accuracy``.

    Returns
    -------
    float
        The middle between two neighbouring scores, or just below the lowest or at the highest
        score. Of several equally good ones, the one in the widest gap; then the highest.

    Raises
    ------
    ValueError
        If the metric is unknown or a class is missing.

    Notes
    -----
    All cuts between distinct scores are tried: O(n log n). Published evaluations differ: a sweep
    with ``>=`` and a report with ``>`` (off by one sample), or a grid of 100 thresholds.

    Examples
    --------
    >>> best_threshold(np.array([0.0, 1.0, 2.0, 4.0]), np.array([0, 0, 1, 1]))
    1.5
    """
    values, fake = checked(scores, labels)
    n_fake = int(np.count_nonzero(fake))
    n_real = fake.size - n_fake
    weights = {
        "balanced_accuracy": (0.5 / max(n_real, 1), 0.5 / max(n_fake, 1)),
        "accuracy": (1 / fake.size, 1 / fake.size),
    }
    if metric not in weights:
        raise ValueError(unknown_name("metric", metric, weights))
    if not (n_fake and n_real):
        raise ValueError(
            f"choosing a threshold needs both classes, got {n_real} real and {n_fake} fake rows; "
            "validate on a split that holds both."
        )
    levels, level = np.unique(values, return_inverse=True)
    reals_below = np.concatenate([[0], np.cumsum(np.bincount(level[~fake], minlength=len(levels)))])
    fakes_below = np.concatenate([[0], np.cumsum(np.bincount(level[fake], minlength=len(levels)))])
    of_real, of_fake = weights[metric]
    quality = of_real * reals_below + of_fake * (n_fake - fakes_below)
    gaps = np.concatenate([[0.0], np.diff(levels), [0.0]])
    best = np.flatnonzero(np.isclose(quality, quality.max(), rtol=0, atol=1e-12))
    cut = int(best[np.lexsort((best, gaps[best]))[-1]])
    if cut == 0:
        return float(np.nextafter(levels[0], -np.inf))
    lower = levels[cut - 1]
    middle = lower + gaps[cut] / 2
    return float(lower if cut < len(levels) and middle >= levels[cut] else middle)


def with_oracle(
    thresholds: Mapping[str, float], scores: Scores, labels: Labels, selection: Selection
) -> dict[str, float]:
    """Return the thresholds, and the one chosen on the reported rows themselves where asked for.

    Parameters
    ----------
    thresholds
        Honest thresholds by name.
    scores
        Decision values (n_samples,) of the reported rows.
    labels
        0 real, 1 fake (n_samples,).
    selection
        ``val``, or ``oracle`` to add the threshold `ORACLE`.

    Returns
    -------
    dict
        Thresholds by name. Where a class is missing, the oracle has nothing to choose and uses 0.5.
    """
    if selection == "val":
        return dict(thresholds)
    both = len(np.unique(labels)) == 2
    return {**thresholds, ORACLE: best_threshold(scores, labels) if both else AT_HALF}
