"""Turning an anomaly score into a decision: its direction, and a threshold at a stated rate."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from heads.loop.batch_source import Floats

Direction = Literal["high", "low", "two_sided"]
"""Which scores are unusual: those above, those below, or those far from the middle."""

ROUNDING = 1e-9
"""Of ``rate * n_rows``, which may be an integer that floats miss."""


SLACK = 1e-10
"""Share of a threshold by which it is raised, as scores change by rounding with their batch."""


class DecisionRule(NamedTuple):
    """How a score becomes a decision value; `rule_at` makes it.

    ``threshold`` and ``spread`` are of the score once turned so that high is unusual, ``rate`` is
    the share of the ``n_threshold_rows`` rows that is called unusual.
    """

    direction: Direction
    center: float
    threshold: float
    spread: float
    rate: float
    n_threshold_rows: int

    def margins(self, scores: Floats) -> Floats:
        """Return how far scores (n,) lie above the threshold, in units of the spread."""
        excess = turned(scores, self.direction, self.center) - self.threshold
        margins: Floats = excess / self.spread
        return margins


def turned(scores: Floats, direction: Direction, center: float) -> Floats:
    """Return scores turned so that high ones are the unusual ones.

    Parameters
    ----------
    scores
        Anomaly scores (n,).
    direction
        Which of them are unusual.
    center
        The middle, for ``"two_sided"``.

    Returns
    -------
    numpy.ndarray
        Shape (n,).
    """
    match direction:
        case "high":
            return scores
        case "low":
            return -scores
        case "two_sided":
            distances: Floats = np.abs(scores - center)
            return distances


def threshold_at(scores: Floats, rate: float) -> float:
    """Return the lowest score above which lies at most a stated share of the scores.

    Parameters
    ----------
    scores
        Scores (n,), n >= 1, finite.
    rate
        The share, in [0, 1).

    Returns
    -------
    float
        One of the scores; the largest if there are fewer than ``1 / rate``.

    Examples
    --------
    >>> threshold_at(np.arange(100.0), 0.05)
    94.0
    """
    place = max(0, len(scores) - 1 - int(rate * len(scores) + ROUNDING))
    return float(np.partition(scores, place)[place])


def rule_at(scores: Floats, rate: float, direction: Direction) -> DecisionRule:
    """Return the rule by which a stated share of ordinary rows is called unusual.

    Parameters
    ----------
    scores
        Anomaly scores (n,) of ordinary rows.
    rate
        The share, in [0, 1).
    direction
        Which scores are unusual.

    Returns
    -------
    DecisionRule
        Its threshold is the lowest that calls no more of these rows unusual, and a rounding more:
        the row that it comes from stays below when it is scored again in other company.

    Raises
    ------
    ValueError
        If there are no rows, or a score is not finite.

    Examples
    --------
    >>> rule = rule_at(np.arange(100.0), 0.05, "high")
    >>> round(rule.threshold, 6), rule.rate
    (94.0, 0.05)
    """
    if not len(scores) or not np.isfinite(scores).all():
        raise ValueError(
            f"a threshold needs finite scores of at least one real row, got {len(scores)} rows, "
            f"{np.count_nonzero(~np.isfinite(scores))} of them not finite; give real rows."
        )
    center = float(np.median(scores)) if direction == "two_sided" else 0.0
    unusual = turned(scores, direction, center)
    threshold = threshold_at(unusual, rate)
    threshold += SLACK * (abs(threshold) + abs(center))
    spread = float(unusual.std())
    found = float(np.mean(unusual > threshold))
    return DecisionRule(direction, center, threshold, spread or 1.0, found, len(scores))


def better_direction(scores: Floats, y: NDArray[np.intp]) -> Direction:
    """Return the direction in which scores tell two classes apart.

    Parameters
    ----------
    scores
        Anomaly scores (n,).
    y
        0 for ordinary rows, 1 for unusual ones (n,).

    Returns
    -------
    str
        ``"high"`` if the area under the ROC curve is at least one half, ``"low"`` otherwise.

    Raises
    ------
    ValueError
        If the rows are of one class.
    """
    if len(np.unique(y)) < 2:
        raise ValueError(
            "direction='validation' needs validation rows of both classes, got one class only; "
            "choose other rows, or direction='high'."
        )
    return "high" if roc_auc_score(y, scores) >= 0.5 else "low"
