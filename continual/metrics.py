"""Numbers of continual learning from the matrix R of scores: after each step, on each domain.

``R[t, i]`` is the score (accuracy, AUROC, …) on domain i after step t. AA, BWT and FWT: Lopez-Paz,
Ranzato, "Gradient Episodic Memory for Continual Learning", NeurIPS 2017. Forgetting: Chaudhry et
al., "Riemannian Walk for Incremental Learning", ECCV 2018.

Avalanche's stream metrics are the same where every domain is learned once: its stream accuracy is
AA if all domains have as many test images, its BWT and forward transfer are BWT and FWT, the latter
above the untrained model. Its forgetting is the fall since a domain was learned, which is -BWT;
the forgetting of this module is the fall from the best score, equal to it where no score rises
after the domain was learned, and never less.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Matrix = NDArray[np.float64]


def continual_metrics(
    scores: ArrayLike, learned: Sequence[int] | None = None, baseline: ArrayLike | None = None
) -> dict[str, float]:
    """Return all numbers of one run.

    Parameters
    ----------
    scores
        R (n_steps, n_domains); nan where a domain was not tested or has no score.
    learned
        The domain learned at each step, (n_steps,); step t learns domain t if None. A domain may be
        learned again; domains that are never learned do not count.
    baseline
        Scores (n_domains,) before any training, or one number, for FWT; nan without it.

    Returns
    -------
    dict
        ``AA`` mean over the learned domains after the last step; ``average_incremental`` mean over
        steps of the mean over the domains learned so far; ``BWT`` mean change of a domain since it
        was last learned, without those of the last step; ``relative_BWT`` the same in units of the
        score then; ``forgetting`` mean fall from the best score before the last step; ``FWT`` mean
        score, above the baseline, of a domain just before it is first learned. nan where there is
        nothing to average or a score that is needed is missing; for the best score, those that
        are there will do.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> R = [[0.9, 0.5, 0.5], [0.8, 0.95, 0.6], [0.7, 0.9, 0.97]]
    >>> {name: round(value, 4) for name, value in continual_metrics(R, baseline=0.5).items()}
    ... # doctest: +NORMALIZE_WHITESPACE
    {'AA': 0.8567, 'average_incremental': 0.8772, 'BWT': -0.125, 'relative_BWT': -0.1374,
     'forgetting': 0.125, 'FWT': 0.05}
    """
    R, order = _checked(scores, learned)
    domains = list(dict.fromkeys(order))
    first = {i: order.index(i) for i in domains}
    last = {i: len(order) - 1 - order[::-1].index(i) for i in domains}
    before = [i for i in domains if last[i] < len(R) - 1]
    then = np.array([R[last[i], i] for i in before])
    change = R[-1, before] - then
    relative = np.divide(change, then, out=np.full(len(before), np.nan), where=then != 0)
    best = np.array([np.fmax.reduce(R[:-1, i]) for i in before])
    return {
        "AA": _mean(R[-1, domains]),
        "average_incremental": _mean(mean_so_far(R, order)),
        "BWT": _mean(change),
        "relative_BWT": _mean(relative),
        "forgetting": _mean(best - R[-1, before]),
        "FWT": _forward(R, first, baseline),
    }


def mean_so_far(scores: ArrayLike, learned: Sequence[int] | None = None) -> Matrix:
    """Return the mean over the domains learned so far after each step.

    Parameters
    ----------
    scores, learned
        As of `continual_metrics`.

    Returns
    -------
    ndarray
        One number per step (n_steps,); nan where a score is missing.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> mean_so_far([[0.5, 0.25], [1.0, 0.5]])
    array([0.5 , 0.75])
    """
    R, order = _checked(scores, learned)
    return np.array([R[t, list(dict.fromkeys(order[: t + 1]))].mean() for t in range(len(R))])


def _checked(scores: ArrayLike, learned: Sequence[int] | None) -> tuple[Matrix, list[int]]:
    """Return R and the domain learned at each step."""
    R = np.asarray(scores, np.float64)
    order = list(range(len(R))) if learned is None else list(learned)
    if R.ndim != 2 or len(order) != len(R) or not set(order) <= set(range(R.shape[1])):
        raise ValueError(
            f"'scores' must have a row per step and a column per domain, got shape {R.shape} for "
            f"steps that learn {order}."
        )
    return R, order


def _forward(R: Matrix, first: dict[int, int], baseline: ArrayLike | None) -> float:
    """Return the mean score above the baseline of a domain just before it is first learned."""
    if baseline is None:
        return float("nan")
    base = np.broadcast_to(np.asarray(baseline, np.float64), R.shape[1:])
    later = [i for i, step in first.items() if step > 0]
    return _mean(np.array([R[first[i] - 1, i] - base[i] for i in later]))


def _mean(values: Matrix) -> float:
    """Return the mean, nan of nothing."""
    return float(values.mean()) if len(values) else float("nan")
