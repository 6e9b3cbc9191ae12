"""Checks of what selections are given: options from a configuration file, rows and labels."""

import math
from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featstore.errors import ConfigError, unknown_name


class Rule(NamedTuple):
    """What an option may be."""

    text: str
    """In words, after "must be"."""
    holds: Callable[[Any], bool]
    """Whether it holds of a value."""


def _number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _one_of(*legal: Any) -> Rule:
    return Rule(f"one of {list(legal)}", lambda v: not isinstance(v, bool) and v in legal)


RULES: Mapping[str, Rule] = {
    "lambda_kc": Rule("a finite number >= 0", lambda v: _number(v) and v >= 0),
    "sigma": Rule("a finite number > 0, or null", lambda v: v is None or (_number(v) and v > 0)),
    "ridge": Rule("a finite number > 0", lambda v: _number(v) and v > 0),
    "n_landmarks": Rule("a whole number >= 1", lambda v: _whole(v) and v >= 1),
    "shard_rows": Rule(
        "a whole number >= 1, or null", lambda v: v is None or (_whole(v) and v >= 1)
    ),
    "start": Rule("a whole number >= 0, or null", lambda v: v is None or (_whole(v) and v >= 0)),
    "rounds": _one_of(1, 2),
    "relevance": _one_of("auto", "exact", "nystrom", "columns"),
    "device": _one_of("cpu", "cuda", "auto"),
}
"""Every option of a selection; a name means the same for each that takes it."""

ROWS_AT_ONCE = 65_536
"""Rows looked at together for values that are not finite."""


def check_options(name: str, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Refuse options that a selection does not take, and values that are not legal.

    Parameters
    ----------
    name
        Name of the selection.
    function
        Its function, whose keyword-only parameters are its options.
    options
        What it is given.

    Raises
    ------
    ConfigError
        If an option is not known, in which case those known are listed, or a value is not legal.
    """
    parameters = signature(function).parameters.values()
    legal = [p.name for p in parameters if p.kind is Parameter.KEYWORD_ONLY]
    for option, value in options.items():
        if option not in legal:
            raise ConfigError(unknown_name(f"option of selection {name!r}", str(option), legal))
        if not RULES[option].holds(value):
            raise ConfigError(
                f"option {option!r} of selection {name!r} must be {RULES[option].text}, got "
                f"{value!r}."
            )


def checked_labels(y: ArrayLike) -> NDArray[Any]:
    """Return labels as an array of one axis.

    Parameters
    ----------
    y
        Class of each row.

    Returns
    -------
    ndarray
        (n_samples,).

    Raises
    ------
    ValueError
        If there is not one axis.
    """
    labels = np.asarray(y)
    if labels.ndim != 1:
        raise ValueError(f"'y' must hold one label per row, got an array of shape {labels.shape}.")
    return labels


def checked_rows(Z: ArrayLike | None, n_samples: int) -> NDArray[np.floating[Any]]:
    """Return representations of as many rows as there are labels, all finite.

    Parameters
    ----------
    Z
        Representations (n_samples, n_components).
    n_samples
        Number of labels.

    Returns
    -------
    ndarray
        `Z` itself if it is an array of floats; numbers of other types as float64.

    Raises
    ------
    ValueError
        If the shape is another, or a value is not finite; the row is named.
    """
    if Z is None:
        raise ValueError("'Z' must hold representations, got None; only chance needs none.")
    rows = np.asarray(Z)
    if rows.ndim != 2 or len(rows) != n_samples or rows.shape[1] == 0:
        raise ValueError(
            "'Z' must have the shape (n_samples, n_components) with a row for each of "
            f"{n_samples} labels, got {rows.shape}."
        )
    if not np.issubdtype(rows.dtype, np.floating):
        rows = rows.astype(np.float64)
    for start in range(0, n_samples, ROWS_AT_ONCE):
        finite = np.isfinite(rows[start : start + ROWS_AT_ONCE]).all(1)
        if not finite.all():
            row = start + int(np.argmin(finite))
            raise ValueError(
                f"'Z' must be finite, got {rows[row][~np.isfinite(rows[row])][0]} in row {row}; "
                "leave such rows out or repair them."
            )
    return rows
