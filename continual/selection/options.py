"""Checks of what selections are given: options from a configuration file, rows and labels."""

from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from featstore.errors import ConfigError, unknown_name

LARGEST = 1e15
"""Largest size of a number, so that squares of float32 and their sums stay finite."""


class Rule(NamedTuple):
    """What an option may be."""

    text: str
    """In words, after "must be"."""
    holds: Callable[[Any], bool]
    """Whether it holds of a value."""


def _number(value: Any) -> bool:
    real = isinstance(value, Real) and not isinstance(value, bool)
    return real and bool(-LARGEST <= value <= LARGEST)


def _hint(value: Any) -> str:
    """Say what to do with a number that YAML took for text."""
    digits = isinstance(value, str) and value[:1].isdigit()
    return "; write numbers without quotes, and 1.0e-3 for 1e-3" if digits else ""


def _whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _one_of(*legal: Any) -> Rule:
    return Rule(f"one of {list(legal)}", lambda v: not isinstance(v, bool) and v in legal)


RULES: Mapping[str, Rule] = {
    "lambda_kc": Rule("a number in [0, 1e15]", lambda v: _number(v) and v >= 0),
    "sigma": Rule("a number in (0, 1e15] or null", lambda v: v is None or (_number(v) and v > 0)),
    "ridge": Rule("a number in [1e-9, 1e15]", lambda v: _number(v) and v >= 1e-9),
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

ROWS_AT_ONCE = 1024
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
    if not isinstance(options, Mapping):
        raise ConfigError(f"options of selection {name!r} must be a mapping, got {options!r}.")
    for option, value in options.items():
        if option not in legal:
            raise ConfigError(unknown_name(f"option of selection {name!r}", str(option), legal))
        if not RULES[option].holds(value):
            raise ConfigError(
                f"option {option!r} of selection {name!r} must be {RULES[option].text}, got "
                f"{value!r}{_hint(value)}."
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
        If there is not one axis, or a label is missing; the row is named.
    """
    labels = np.asarray(y)
    if labels.ndim != 1:
        raise ValueError(f"'y' must hold one label per row, got an array of shape {labels.shape}.")
    missing = np.asarray(pd.isna(labels))
    if missing.any():
        row = int(np.argmax(missing))
        raise ValueError(f"'y' must hold a label for each row, got {labels[row]!r} in row {row}.")
    return labels


def checked_rows(Z: ArrayLike | None, n_samples: int) -> NDArray[np.floating[Any]]:
    """Return representations of as many rows as there are labels, all finite, none too large.

    Parameters
    ----------
    Z
        Representations (n_samples, n_components).
    n_samples
        Number of labels.

    Returns
    -------
    ndarray
        `Z` itself if it is an array of native floats; numbers of other types as float64.

    Raises
    ------
    ValueError
        If the shape is another, or a value is not finite or beyond `LARGEST`; the row is named.
    """
    if Z is None:
        raise ValueError("'Z' must hold representations, got None; only chance needs none.")
    rows = np.asarray(Z)
    if rows.ndim != 2 or len(rows) != n_samples or rows.shape[1] == 0:
        raise ValueError(
            "'Z' must have the shape (n_samples, n_components) with a row for each of "
            f"{n_samples} labels, got {rows.shape}."
        )
    if rows.dtype not in (np.float16, np.float32, np.float64):
        rows = rows.astype(np.float64)
    for start in range(0, n_samples, ROWS_AT_ONCE):
        legal = np.abs(rows[start : start + ROWS_AT_ONCE]) <= np.float32(LARGEST)
        if not legal.all():
            row, column = np.argwhere(~legal)[0] + (start, 0)
            raise ValueError(
                f"'Z' must be finite and at most {LARGEST:g} in size, got {rows[row, column]} in "
                f"row {row}; leave such rows out or repair them."
            )
    return rows
