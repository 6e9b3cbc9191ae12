"""Python values that JSON does not have, written in JSON so that they come back equal."""

from typing import Any

import numpy as np

TUPLE, ITEMS, TEXTS = "__tuple__", "__items__", "__texts__"
"""Keys of the objects that stand for a tuple, a dict whose keys are not text, an array of text."""


def encode(value: Any, name: str) -> Any:
    """Return a value in JSON types.

    Parameters
    ----------
    value
        None, bool, int, float, str, NumPy scalars and arrays of text, and lists, tuples and dicts
        of these.
    name
        What the value is, for the error message.

    Returns
    -------
    JSON value
        From which `decode` makes the value again.

    Raises
    ------
    TypeError
        If there is something else in the value.

    Examples
    --------
    >>> encode({0: (1, 2)}, "class_weight")
    {'__items__': [[0, {'__tuple__': [1, 2]}]]}
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [encode(item, name) for item in value]
    if isinstance(value, tuple):
        return {TUPLE: [encode(item, name) for item in value]}
    if isinstance(value, dict):
        if all(isinstance(key, str) and key not in (TUPLE, ITEMS, TEXTS) for key in value):
            return {key: encode(item, name) for key, item in value.items()}
        return {ITEMS: [[encode(key, name), encode(item, name)] for key, item in value.items()]}
    if isinstance(value, np.ndarray) and all(isinstance(item, str) for item in value.flat):
        return {TEXTS: value.tolist(), "object": value.dtype == object}
    raise TypeError(
        f"{name!r} must be made of numbers, texts, lists, tuples and dicts to be saved, "
        f"got {value!r}."
    )


def decode(value: Any) -> Any:
    """Return the value that was encoded.

    Parameters
    ----------
    value
        What `encode` returned.

    Returns
    -------
    object
        The value.

    Raises
    ------
    ValueError
        If the value was not made by `encode`.

    Examples
    --------
    >>> decode({"__items__": [[0, {"__tuple__": [1, 2]}]]})
    {0: (1, 2)}
    """
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"__tuple__": list(items)}:
            return tuple(decode(item) for item in items)
        case {"__items__": list(pairs)}:
            return {decode(key): decode(item) for key, item in pairs}
        case {"__texts__": list(texts), "object": bool(is_object)}:
            return np.array(texts, dtype=object if is_object else str)
    return {key: decode(item) for key, item in value.items()}
