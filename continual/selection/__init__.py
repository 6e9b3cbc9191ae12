"""Which rows to keep for replay: pure functions of representations, labels and a generator."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from continual.selection.herding import choose_by_herding
from continual.selection.hgr import choose_hgr, choose_k_center, choose_relevant
from continual.selection.proposals import choose_by_kernel_herding, choose_by_leverage
from continual.selection.sampling import Reservoir, choose_randomly
from featstore.errors import ConfigError, unknown_name

__all__ = ["SELECTIONS", "Reservoir", "n_kept", "select"]

SELECTIONS: Mapping[str, Callable[..., NDArray[np.int64]]] = {
    "random": choose_randomly,
    "herding": choose_by_herding,
    "k_center": choose_k_center,
    "hgr": choose_hgr,
    "relevance_only": choose_relevant,
    "kernel_herding": choose_by_kernel_herding,
    "leverage": choose_by_leverage,
}
"""Every selection by its name; all choose among the rows of one class. `Reservoir`, which sees a
stream, stands beside them under the name ``"reservoir"``."""


def n_kept(n_rows: int, keep: float | int) -> int:
    """Return how many rows of a class are kept.

    Parameters
    ----------
    n_rows
        Rows of the class.
    keep
        A fraction in (0, 1), rounded up, or a number of rows >= 1.

    Returns
    -------
    int
        At least 1 and at most `n_rows`.

    Examples
    --------
    >>> n_kept(250, 0.01), n_kept(250, 20), n_kept(7, 20)
    (3, 20, 7)
    """
    if keep <= 0:
        raise ConfigError(f"'keep' must be a fraction in (0, 1) or a number of rows, got {keep!r}.")
    return min(n_rows, max(1, int(np.ceil(keep * n_rows)) if keep < 1 else int(keep)))


def select(
    name: str,
    Z: NDArray[np.floating[Any]],
    y: ArrayLike,
    keep: float | int,
    rng: np.random.Generator,
    **options: Any,
) -> NDArray[np.int64]:
    """Choose rows of every class.

    Parameters
    ----------
    name
        A key of `SELECTIONS`, or ``"reservoir"``.
    Z
        Representations (n_samples, n_components), float32 or float64.
    y
        Class of each row (n_samples,).
    keep
        Fraction in (0, 1) or number of rows of each class; see `n_kept`.
    rng
        Decides whatever is random.
    **options
        What the selection takes besides.

    Returns
    -------
    ndarray
        Row numbers, int64: class by class, in the order in which they were chosen.

    Raises
    ------
    ConfigError
        If there is no such selection, or `keep` is not legal.

    Examples
    --------
    >>> Z = np.arange(11.0)[:, None]
    >>> select("k_center", Z, np.zeros(11), 4, np.random.default_rng(0), start=0).tolist()
    [0, 10, 5, 2]
    """
    labels = np.asarray(y)
    if name == "reservoir":
        counts = [n_kept(int((labels == c).sum()), keep) for c in np.unique(labels)]
        reservoir = Reservoir(sum(counts), rng)
        reservoir.offer(range(len(labels)), labels.tolist())
        return np.concatenate([rows for _, rows in sorted(reservoir.rows().items())])
    if name not in SELECTIONS:
        raise ConfigError(unknown_name("selection", name, [*SELECTIONS, "reservoir"]))
    chosen = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        kept = SELECTIONS[name](Z[rows], n_kept(len(rows), keep), rng, **options)
        chosen.append(rows[kept])
    return np.concatenate(chosen)
