"""Which rows to keep for replay: pure functions of representations, labels and a generator."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from continual.selection.choice import Choice, Rows, joined, n_kept
from continual.selection.herding import choose_by_herding, choose_by_kernel_herding
from continual.selection.hgr import choose_hgr, choose_k_center, choose_relevant
from continual.selection.leverage import choose_by_leverage
from continual.selection.options import check_options, checked_labels, checked_rows
from continual.selection.sampling import Reservoir, choose_by_reservoir, choose_randomly
from featstore.errors import ConfigError, unknown_name

__all__ = [
    "LABELS_ONLY",
    "SELECTIONS",
    "Choice",
    "Reservoir",
    "check_selection",
    "choose",
    "n_kept",
    "select",
]

BY_LABELS: Mapping[str, Callable[..., Choice]] = {
    "random": choose_randomly,
    "reservoir": choose_by_reservoir,
}
"""Selections of labels, what to keep and a generator, which choose among all rows."""

BY_REPRESENTATION: Mapping[str, Callable[..., Choice]] = {
    "herding": choose_by_herding,
    "k_center": choose_k_center,
    "hgr": choose_hgr,
    "relevance_only": choose_relevant,
    "kernel_herding": choose_by_kernel_herding,
    "leverage": choose_by_leverage,
}
"""Selections of representations, a number and a generator, which choose among rows of a class."""

SELECTIONS: Mapping[str, Callable[..., Choice]] = {**BY_LABELS, **BY_REPRESENTATION}
"""Every selection by its name."""

LABELS_ONLY = frozenset(BY_LABELS)
"""Selections that never look at representations and need none."""


def check_selection(name: str, options: Mapping[str, Any]) -> None:
    """Refuse a selection or an option that there is not, and values that are not legal.

    Parameters
    ----------
    name
        A key of `SELECTIONS`.
    options
        What it is given besides; the keyword-only parameters of its function are legal.

    Raises
    ------
    ConfigError
        If a name is not known, in which case those known are listed, or a value is not legal.

    Examples
    --------
    >>> check_selection("hgr", {"lambda_kc": 2.0, "device": "cpu"})
    """
    if name not in SELECTIONS:
        raise ConfigError(unknown_name("selection", name, SELECTIONS))
    check_options(name, SELECTIONS[name], options)


def choose(
    name: str,
    Z: ArrayLike | None,
    y: ArrayLike,
    keep: float,
    rng: np.random.Generator,
    **options: Any,
) -> Choice:
    """Choose rows of every class, and say by what.

    Parameters
    ----------
    name
        A key of `SELECTIONS`.
    Z
        Representations (n_samples, n_components), finite floats of any width, at most 1e15 in size;
        not looked at, and None will do, for the selections `LABELS_ONLY`.
    y
        Class of each row (n_samples,).
    keep
        Fraction in (0, 1) or number of rows of each class; see `n_kept`.
    rng
        Decides whatever is random; the same state chooses the same rows.
    **options
        What the selection takes besides, such as ``device`` for all that look at `Z`.

    Returns
    -------
    Choice
        Classes in sorted order; nothing of no rows.

    Raises
    ------
    ConfigError
        If there is no such selection or option, or a value is not legal.
    ValueError
        If shapes do not fit, a label is missing, or a value of `Z` is not finite or too large.

    Notes
    -----
    Memory: a copy of the rows of one class at a time, and what the selection needs for it, always
    in proportion to the number of rows.

    Examples
    --------
    >>> Z = np.arange(11.0)[:, None]
    >>> chosen = choose("k_center", Z, np.zeros(11), 4, np.random.default_rng(0), start=0)
    >>> chosen.rows.tolist(), chosen.score.tolist()
    ([0, 10, 5, 2], [nan, 10.0, 5.0, 2.0])
    """
    check_selection(name, options)
    labels = checked_labels(y)
    if name in LABELS_ONLY:
        return SELECTIONS[name](labels, keep, rng, **options)
    representations = checked_rows(Z, len(labels))
    found = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        own = np.take(representations, rows, axis=0)
        chosen = SELECTIONS[name](own, n_kept(len(rows), keep), rng, **options)
        found.append((str(label), chosen._replace(rows=rows[chosen.rows])))
    return joined(found)


def select(
    name: str,
    Z: ArrayLike | None,
    y: ArrayLike,
    keep: float,
    rng: np.random.Generator,
    **options: Any,
) -> Rows:
    """Choose rows of every class.

    Parameters
    ----------
    name, Z, y, keep, rng
        As for `choose`.
    **options
        As for `choose`.

    Returns
    -------
    ndarray
        Row numbers, int64: class by class, in the order in which they were chosen.

    Examples
    --------
    >>> Z = np.arange(11.0)[:, None]
    >>> select("k_center", Z, np.zeros(11), 4, np.random.default_rng(0), start=0).tolist()
    [0, 10, 5, 2]
    """
    return choose(name, Z, y, keep, rng, **options).rows
