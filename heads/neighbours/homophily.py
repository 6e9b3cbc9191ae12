"""How often near rows are of one class: homophily of the graph of nearest neighbours."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heads.loop.batch_source import Floats
from heads.neighbours.search import knn_search


class Homophily(NamedTuple):
    """``observed`` share of neighbours of a row's own class, ``chance``, ``normalised``.

    ``chance`` is the share of pairs of rows that are of one class, ``normalised`` is
    ``(observed - chance) / (1 - chance)``: 1 if all neighbours are of one class, 0 by chance.
    """

    observed: float
    chance: float
    normalised: float


def homophily(X: Floats, labels: NDArray[Any], k: int = 10, *, skip: int = 0) -> Homophily:
    """Return how often the k nearest rows, by cosine, are of a row's own class.

    Parameters
    ----------
    X
        Features (n_samples, n_features), finite.
    labels
        Classes (n_samples,).
    k
        Neighbours of every row, without the row itself.
    skip
        Nearest neighbours left out: 0, or 1 for FiSeR's published numbers, whose code takes the
        row itself away twice and with it the nearest neighbour.

    Returns
    -------
    Homophily
        Observed share, chance, and the share normalised by chance.

    Raises
    ------
    ValueError
        If labels are not as many as rows, of one class only, or rows are too few.

    Notes
    -----
    Cost and memory are those of `heads.neighbours.search.knn_search` with the rows as queries.

    References
    ----------
    FiSeR, 2026, public code, ``knn_graph_homophily``.

    Examples
    --------
    >>> X = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    >>> homophily(X, np.array([0, 0, 1, 1]), k=1).observed
    1.0
    """
    n_samples = len(X)
    if labels.shape != (n_samples,):
        raise ValueError(f"'labels' must have shape ({n_samples},), got {labels.shape}.")
    if n_samples < k + skip + 1:
        raise ValueError(
            f"{k} neighbours without the row itself and {skip} skipped need {k + skip + 1} rows, "
            f"got {n_samples}."
        )
    counts = np.unique(labels, return_counts=True)[1]
    if len(counts) == 1:
        raise ValueError(f"'labels' must be of two classes or more, got one: {labels[0]!s}.")
    near = knn_search(X, X, k + skip + 1).index
    itself = near == np.arange(n_samples)[:, None]
    others = np.take_along_axis(near, itself.argsort(1, kind="stable"), 1)[:, skip : skip + k]
    observed = float((labels[others] == labels[:, None]).mean())
    chance = float((counts * (counts - 1)).sum() / (n_samples * (n_samples - 1)))
    return Homophily(observed, chance, (observed - chance) / (1 - chance))
