"""What the nearest neighbours of a sample say about its class: published scoring rules.

Every rule gives each class a score; of two classes the decision value is the difference, so that
the logistic function of it (the softmax of more than two) is the rule's probability. All functions
return the scores for the first 1, 2, …, K neighbours at once, from one search.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from heads.loop.batch_source import Floats

Rule = Literal["legacy", "exponential", "two_banks"]

TEMPERATURES: dict[str, float] = {"legacy": 0.05, "exponential": 0.07, "two_banks": 1.0}
"""The published temperature of every rule; it multiplies similarities for ``"legacy"``, and divides
them for the others."""

LIMIT = 700.0
"""Largest decision value of ``"exponential"``, where no neighbour is of the other class."""


def scores_by_k(
    similarity: Floats, of_class: NDArray[np.bool_], rule: Rule, temperature: float
) -> NDArray[np.float64]:
    """Return the score of one class for every number of neighbours.

    Parameters
    ----------
    similarity
        Similarities (n_samples, K), nearest first: of all neighbours for ``"legacy"`` and
        ``"exponential"``, of the neighbours within the class for ``"two_banks"``.
    of_class
        Which of them are of the class, (n_samples, K).
    rule
        With the first k similarities s and the temperature T:

        - ``"legacy"``: ``T · Σ_of_class s``;
        - ``"exponential"``: ``log(Σ_of_class exp(s/T) / Σ_all exp(s/T))``, at least ``-LIMIT``;
        - ``"two_banks"``: ``mean(s) / T``.
    temperature
        T > 0.

    Returns
    -------
    ndarray
        Scores (n_samples, K), float64; column k-1 is that of k neighbours.

    Notes
    -----
    ``"legacy"`` adds similarities up, so that the more frequent class of the bank is favoured.

    References
    ----------
    FiSeR, 2026, public code, for ``"legacy"`` and ``"exponential"``. Ojha, Li, Lee, "Towards
    universal fake image detectors that generalize across generative models", CVPR 2023, for two
    banks; the paper leaves the number of neighbours and their mean open.

    Examples
    --------
    >>> near = np.array([[0.9, 0.5, 0.4]])
    >>> scores_by_k(near, np.array([[True, False, True]]), "legacy", 0.05).round(3).tolist()
    [[0.045, 0.045, 0.065]]
    """
    s = similarity.astype(np.float64)
    if rule == "legacy":
        return temperature * np.cumsum(np.where(of_class, s, 0), axis=1)
    if rule == "two_banks":
        return np.cumsum(s, axis=1) / np.arange(1, s.shape[1] + 1) / temperature
    weights = np.exp((s - s[:, :1]) / temperature)
    shares = np.cumsum(np.where(of_class, weights, 0), axis=1) / np.cumsum(weights, axis=1)
    scores: NDArray[np.float64] = np.log(np.maximum(shares, np.exp(-LIMIT)))
    return scores


def auroc_by_k(scores: Floats, labels: NDArray[Any]) -> NDArray[np.float64]:
    """Return the area under the ROC curve of every column of scores.

    Parameters
    ----------
    scores
        Decision values (n_samples, K), finite.
    labels
        0 real, 1 fake (n_samples,), both there.

    Returns
    -------
    ndarray
        Areas (K,) in [0, 1], ties counting one half.

    Raises
    ------
    ValueError
        If a class is missing or the numbers of rows differ.

    Notes
    -----
    From the mean rank of the fakes (Mann and Whitney, 1947): one sort per column.

    Examples
    --------
    >>> auroc_by_k(np.array([[0.1, 5], [0.4, 5], [0.35, 5], [0.8, 5]]), np.array([0, 0, 1, 1]))
    array([0.75, 0.5 ])
    """
    fake = labels.astype(bool)
    n_fake, n_real = np.count_nonzero(fake), np.count_nonzero(~fake)
    if len(scores) != len(fake) or not n_fake or not n_real:
        raise ValueError(
            f"ranking needs a label of every sample and both classes, got {len(scores)} samples, "
            f"{n_real} real and {n_fake} fake."
        )
    rank_sums = np.array([rankdata(column)[fake].sum() for column in scores.T])
    areas: NDArray[np.float64] = (rank_sums - n_fake * (n_fake + 1) / 2) / (n_fake * n_real)
    return areas


def select_k(scores: Floats, labels: NDArray[Any]) -> int:
    """Return the number of neighbours with the largest area under the ROC curve.

    Parameters
    ----------
    scores
        Decision values (n_samples, K) of *validation* rows; column k-1 is that of k neighbours.
    labels
        0 real, 1 fake (n_samples,).

    Returns
    -------
    int
        In [1, K]; the smallest of equally good ones.

    Examples
    --------
    >>> select_k(np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 1.0]]), np.array([0, 0, 1]))
    2
    """
    return int(auroc_by_k(scores, labels).argmax()) + 1
