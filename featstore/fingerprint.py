"""What a feature set is, in one number: two fingerprints never mix."""

import json
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any


def fingerprint(description: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a description.

    Parameters
    ----------
    description
        Everything that determines the numbers, as JSON types.

    Returns
    -------
    str
        64 hexadecimal digits; the order of keys does not matter.

    Examples
    --------
    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    True
    """
    return sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def difference(features: str, stored: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Say in what a feature set differs from the one of the same name.

    Parameters
    ----------
    features
        Name of the feature set.
    stored, new
        What the store says it is, and what would be written.

    Returns
    -------
    str
        An error message naming every differing entry (at most twelve).
    """
    rows = [
        f"  {name}: stored {old!r}, now {now!r}"
        for name, old, now in _leaves(stored, new)
        if old != now and name != "fingerprint"
    ]
    return (
        f"feature set {features!r} of the store must stay what it is, but this extraction differs "
        "in\n" + "\n".join(rows[:12]) + "\ngive it another name with '--features NAME'."
    )


def _leaves(old: Any, new: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Walk two descriptions side by side."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(set(new) - set(old))]:
            yield from _leaves(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))
    else:
        yield name, old, new
