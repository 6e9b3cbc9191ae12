"""Checking plain values (from YAML, JSON or a command line) against type annotations."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from featstore.errors import ConfigError

_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_SEQUENCES = (list, tuple, Sequence)
_MAPPINGS = (dict, Mapping)


class Key(NamedTuple):
    """Where a value stands: the file, and the dotted key within it (empty for the whole)."""

    where: str
    path: str = ""

    def child(self, name: Any) -> "Key":
        """Return the place of a nested key."""
        return Key(self.where, f"{self.path}.{name}" if self.path else str(name))

    def error(self, what: str) -> ConfigError:
        """Return an error about this place."""
        return ConfigError(f"{self.where}: {what}")

    @property
    def inside(self) -> str:
        """The place as the end of a sentence."""
        return f" in {self.path!r}" if self.path else ""


def convert(value: Any, kind: Any, key: Key) -> Any:
    """Check a plain value against an annotation and convert it.

    Parameters
    ----------
    value
        Scalars, lists and mappings, as YAML gives them.
    kind
        ``Any``, a scalar type, `pathlib.Path`, ``Literal``, a union, a list, tuple, sequence or
        mapping, or a dataclass, nested as needed.
    key
        Where the value stands.

    Returns
    -------
    object
        A value of type `kind`: numbers that YAML 1.1 reads as text (``1e-4``) and integers become
        float where a float is wanted, text becomes a path, a list a tuple, a mapping a dataclass.

    Raises
    ------
    ConfigError
        If the value does not fit; the message names file, key, what was expected and received.

    Examples
    --------
    >>> convert(["1e-4", 1], tuple[float, ...], Key("a.yaml", "rates"))
    (0.0001, 1.0)
    """
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if kind is Any:
        return value
    if is_dataclass(kind):
        return _dataclass(value, kind, key)
    if origin in (Union, UnionType):
        return _union(value, kind, arguments, key)
    if origin is Literal:
        return _literal(value, kind, arguments, key)
    if origin in _SEQUENCES:
        return _sequence(value, kind, arguments, key)
    if origin in _MAPPINGS:
        return _mapping(value, kind, arguments, key)
    return _scalar(value, kind, key)


def _wrong(value: Any, kind: Any, key: Key) -> ConfigError:
    """Say what was expected and what came."""
    name = repr(key.path) if key.path else "the configuration"
    got = "null" if value is None else f"{type(value).__name__} {value!r}"
    unquoted = kind in (str, Path) and not isinstance(value, NoneType | list | dict)
    hint = "; write it in quotes" if unquoted else ""
    return key.error(f"{name} must be {_described(kind)}, got {got}{hint}.")


def _described(kind: Any) -> str:
    """Return an annotation in words."""
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin in (Union, UnionType):
        return " or ".join(map(_described, arguments))
    if origin in _SEQUENCES:
        of = dict.fromkeys(_described(item) for item in arguments if item is not Ellipsis)
        return f"a list of {' and '.join(of)}" if of else "a list"
    if origin in _MAPPINGS or is_dataclass(kind):
        return "a mapping"
    return {NoneType: "null", Path: "a path"}.get(kind) or str(getattr(kind, "__name__", kind))


def _dataclass(value: Any, cls: Any, key: Key) -> Any:
    """Make an instance of a dataclass."""
    if not isinstance(value, Mapping):
        raise _wrong(value, cls, key)
    hints = get_type_hints(cls)
    known = {field.name: field for field in fields(cls) if field.init}
    for name in value:
        if name not in known:
            raise key.error(_unknown_key(name, known, key))
    for name, field in known.items():
        if name not in value and field.default is MISSING and field.default_factory is MISSING:
            raise key.error(f"key {name!r} ({_described(hints[name])}) is missing{key.inside}.")
    values = {name: convert(item, hints[name], key.child(name)) for name, item in value.items()}
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        place = f"in {key.path!r}: " if key.path else ""
        raise key.error(f"{place}{error}") from error


def _unknown_key(name: Any, known: Iterable[str], key: Key) -> str:
    """Say that a key is unknown and which one was probably meant."""
    close = get_close_matches(str(name), known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"choose from {sorted(known)}."
    return f"unknown key {name!r}{key.inside}; {hint}"


def _union(value: Any, kind: Any, members: Sequence[Any], key: Key) -> Any:
    """Return the value as the first member that it fits."""
    if value is None and NoneType in members:
        return None
    members = [member for member in members if member is not NoneType]
    if len(members) == 1:
        return convert(value, members[0], key)
    for member in members:
        try:
            return convert(value, member, key)
        except ConfigError:
            continue
    raise _wrong(value, kind, key)


def _literal(value: Any, kind: Any, choices: Sequence[Any], key: Key) -> Any:
    """Return the choice that equals the value in type too (True is not 1)."""
    if (type(value), value) in [(type(choice), choice) for choice in choices]:
        return value
    raise _wrong(value, kind, key)


def _sequence(value: Any, kind: Any, items: Sequence[Any], key: Key) -> Any:
    """Convert every item; a list stays one, all else becomes a tuple."""
    if not isinstance(value, list | tuple):
        raise _wrong(value, kind, key)
    if not items or items[-1] is Ellipsis or get_origin(kind) is not tuple:
        items = [items[0] if items else Any] * len(value)
    if len(items) != len(value):
        raise key.error(f"{key.path!r} must have {len(items)} items, got {len(value)}: {value!r}.")
    made = [
        convert(item, of, key.child(i))
        for i, (item, of) in enumerate(zip(value, items, strict=True))
    ]
    return made if (get_origin(kind) or kind) is list else tuple(made)


def _mapping(value: Any, kind: Any, of: Sequence[Any], key: Key) -> dict[Any, Any]:
    """Convert every key and value."""
    if not isinstance(value, Mapping):
        raise _wrong(value, kind, key)
    name_kind, item_kind = of or (Any, Any)
    return {
        convert(name, name_kind, key.child(name)): convert(item, item_kind, key.child(name))
        for name, item in value.items()
    }


def _scalar(value: Any, kind: Any, key: Key) -> Any:
    """Return a scalar, converting what is a number or a path in all but type."""
    if kind is float and (
        type(value) is int or (isinstance(value, str) and _NUMBER.fullmatch(value))
    ):
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise _wrong(value, kind, key)
