"""What a head is made of, taken apart into JSON and arrays and put together again.

A head is its name in ``heads.HEADS``, its hyper-parameters, and its learned attributes. These have
public names that end in "_", and hold numbers, texts, lists, tuples and dicts of such, an array, a
dict of arrays by name, or another head. Putting together looks names up and sets attributes;
nothing is imported or executed.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from heads.plain_json import decode, encode

Arrays = dict[str, NDArray[Any]]

FIELDS = ("head", "parameters", "learned")
"""What describes a head, besides its arrays."""

NESTED = "__head__"
"""Key of the object that stands for a head among the learned attributes."""


def take_apart(head: Any) -> tuple[dict[str, Any], Arrays]:
    """Return a fitted head as JSON fields and arrays.

    Parameters
    ----------
    head
        A head of one of the classes in ``heads.HEADS``.

    Returns
    -------
    tuple
        The `FIELDS`, and the arrays by path: ``coef_``, or ``scorer_/coef_`` of the head that is
        the attribute ``scorer_``, or ``weights_/a`` of a dict of arrays.

    Raises
    ------
    TypeError
        If the head's class is not in ``heads.HEADS`` or an attribute cannot be saved.
    ValueError
        If the head is not fitted, or what it learned does not fit together.
    """
    from heads import HEADS

    names = [name for name, kind in HEADS.items() if kind is type(head)]
    if not names:
        raise TypeError(f"'head' must be one of {sorted(HEADS)}, got {type(head).__name__}.")
    check_is_fitted(head)
    head.check_learned()
    learned: dict[str, Any] = {}
    arrays: Arrays = {}
    for name, value in vars(head).items():
        if not _is_learned(name):
            continue
        inner: Mapping[str, Any] = {}
        if _is_numeric(value):
            arrays[name] = value
        elif isinstance(value, dict) and value and all(map(_is_numeric, value.values())):
            inner = value
        elif type(value) in HEADS.values():
            fields, inner = take_apart(value)
            learned[name] = {NESTED: fields}
        else:
            learned[name] = encode(value, name)
        arrays |= {f"{name}/{key}": array for key, array in inner.items()}
    parameters = {k: encode(v, k) for k, v in head.get_params(deep=False).items()}
    return {"head": names[0], "parameters": parameters, "learned": learned}, arrays


def put_together(fields: Mapping[str, Any], arrays: Arrays) -> Any:
    """Return the head that was taken apart.

    Parameters
    ----------
    fields, arrays
        What `take_apart` returned, or what someone else wrote.

    Returns
    -------
    estimator
        The head, which has checked what it was given.

    Raises
    ------
    ValueError, TypeError, KeyError
        If these are not the parts of a head.
    """
    from heads import HEADS

    kind = HEADS[_known("head", fields["head"], HEADS)]
    parameters = {k: decode(v) for k, v in fields["parameters"].items()}
    for name in parameters:
        _known("hyper-parameter", name, kind().get_params(deep=False))
    head = kind(**parameters)
    head._validate_params()
    learned = _by_attribute(arrays)
    for name, value in fields["learned"].items():
        if isinstance(value, dict) and set(value) == {NESTED}:
            learned[name] = put_together(_checked(value[NESTED]), learned.pop(name, {}))
        else:
            learned[name] = decode(value)
    for name, value in learned.items():
        if not (name.isidentifier() and _is_learned(name)):
            raise ValueError(f"learned attributes must be named like 'coef_', got {name!r}.")
        setattr(head, name, value)
    if "origin_" in learned:
        check_origin(learned["origin_"])
    head.check_learned()
    return head


def check_origin(origin: Any) -> None:
    """Check what a head says of the origin of its features.

    Parameters
    ----------
    origin
        A dict; its ``"layers"``, if they are known, are names.

    Raises
    ------
    ValueError
        If it is something else.
    """
    layers = origin.get("layers", ["any"]) if isinstance(origin, Mapping) else None
    if not (layers and isinstance(layers, list) and all(isinstance(n, str) for n in layers)):
        raise ValueError(f"'origin_' must be a dict, its 'layers' a list of names, got {origin!r}.")


def _is_learned(name: str) -> bool:
    return name.endswith("_") and not name.startswith("_")


def _is_numeric(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "fiub"


def _by_attribute(arrays: Arrays) -> dict[str, Any]:
    """Return arrays by name, those with a path in a dict of their own."""
    found: dict[str, Any] = {}
    for path, array in arrays.items():
        name, inside, rest = path.partition("/")
        own = found.setdefault(name, {} if inside else array)
        if inside and isinstance(own, dict):
            own[rest] = array
        elif own is not array:
            raise ValueError(f"{name!r} must be one array or several, got both.")
    return found


def _checked(fields: Any) -> Mapping[str, Any]:
    """Return the fields of a nested head if they are."""
    if not isinstance(fields, dict) or set(fields) != set(FIELDS):
        raise ValueError(f"a nested head must have the fields {list(FIELDS)}, got {fields!r}.")
    for name in ("parameters", "learned"):
        if not isinstance(fields[name], dict):
            raise ValueError(f"{name!r} must be an object, got {fields[name]!r}.")
    return fields


def _known(kind: str, name: Any, choices: Mapping[str, Any]) -> str:
    """Return the name if it is one of the choices."""
    if isinstance(name, str) and name in choices:
        return name
    close = get_close_matches(str(name), choices, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise ValueError(f"unknown {kind} {name!r}{hint}; choose from {sorted(choices)}.")
