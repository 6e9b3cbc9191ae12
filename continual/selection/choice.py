"""What a selection answers: rows, what each was chosen by, and how."""

import math
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from continual.selection.centring import Vector
from featstore.errors import ConfigError

Rows = NDArray[np.int64]


class Choice(NamedTuple):
    """Rows that were chosen."""

    rows: Rows
    """Row numbers (n_kept,), class by class, each class in the order of its choice."""
    score: Vector
    """What each row was chosen by (n_kept,), as the selection defines it; nan where chance alone
    decides."""
    sigma: Vector
    """Bandwidth of the kernel of its class (n_kept,); nan where none was needed."""
    notes: dict[str, Any]
    """How it was chosen, of JSON types; of several classes by ``str(class)``."""


def choice_of(
    rows: Rows,
    score: Vector | None = None,
    sigma: float = math.nan,
    notes: Mapping[str, Any] | None = None,
) -> Choice:
    """Return the choice among the rows of one class.

    Parameters
    ----------
    rows
        Row numbers (n_kept,).
    score
        What each was chosen by (n_kept,); nan if None.
    sigma
        Bandwidth of the class.
    notes
        How it was chosen.

    Returns
    -------
    Choice
        With int64 rows and float64 numbers.
    """
    n = len(rows)
    values = np.full(n, np.nan) if score is None else np.asarray(score, np.float64)
    return Choice(np.asarray(rows, np.int64), values, np.full(n, sigma), dict(notes or {}))


def joined(choices: Iterable[tuple[str, Choice]]) -> Choice:
    """Return the choices of several classes as one.

    Parameters
    ----------
    choices
        Name and choice of each class, with row numbers among all rows.

    Returns
    -------
    Choice
        In the order given; without rows if there are none.
    """
    named = [("", choice_of(np.empty(0, np.int64))), *choices]
    rows, score, sigma, _ = zip(*(choice for _, choice in named), strict=True)
    notes = {name: choice.notes for name, choice in named[1:]}
    return Choice(np.concatenate(rows), np.concatenate(score), np.concatenate(sigma), notes)


def n_kept(n_rows: int, keep: float) -> int:
    """Return how many rows of a class are kept.

    Parameters
    ----------
    n_rows
        Rows of the class.
    keep
        A fraction in (0, 1), rounded up, or a whole number of rows >= 1.

    Returns
    -------
    int
        At most `n_rows`, and at least 1 if there are any.

    Raises
    ------
    ConfigError
        If `keep` is neither.

    Examples
    --------
    >>> n_kept(250, 0.01), n_kept(250, 20), n_kept(7, 20)
    (3, 20, 7)
    """
    legal = isinstance(keep, Real) and not isinstance(keep, bool)
    if not legal or not (0 < keep < 1 or (keep >= 1 and keep == keep // 1)):
        raise ConfigError(
            f"'keep' must be a fraction in (0, 1) or a whole number of rows >= 1, got {keep!r}."
        )
    if keep >= 1:
        return min(n_rows, int(keep))
    return min(n_rows, math.ceil(keep * n_rows * (1 - 1e-12)))  # 0.07 · 100 is above 7
