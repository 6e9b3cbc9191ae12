"""YAML files as frozen dataclasses: every key is checked against the class, by name and by type."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from featstore.errors import ConfigError
from featstore.typed_values import Key, convert

Config = TypeVar("Config")


def load_config(path: str | Path, cls: type[Config], overrides: Iterable[str] = ()) -> Config:
    r"""Read a YAML file into a dataclass.

    Parameters
    ----------
    path
        The file.
    cls
        A dataclass.
    overrides
        Assignments that win over the file; see `apply_overrides`.

    Returns
    -------
    object
        An instance of `cls`.

    Raises
    ------
    ConfigError
        If the file cannot be read, is no YAML mapping, repeats a key, or does not fit `cls`.

    Examples
    --------
    >>> import tempfile
    >>> from featstore.extract_config import ExtractConfig
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "extract.yaml")
    ...     _ = file.write_text("images: photos\nstore: a.zarr\ntaps: [block, proj]")
    ...     load_config(file, ExtractConfig).taps
    ['block', 'proj']
    """
    return from_mapping(cls, apply_overrides(read_yaml(path), overrides), str(path))


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping, refusing repeated keys.

    Parameters
    ----------
    path
        The file, UTF-8.

    Returns
    -------
    dict
        Its content; empty for an empty file.

    Raises
    ------
    ConfigError
        If the file cannot be read, is no YAML mapping, or names a key twice.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration {str(path)!r} cannot be read: {error}") from error
    content = _parse(text, str(path))
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path}: must be a mapping ('key: value' lines), got {type(content).__name__} "
            f"{content!r}."
        )
    return content


def from_mapping(cls: type[Config], mapping: Mapping[str, Any], where: str) -> Config:
    """Make a dataclass of a mapping, checking names and types.

    Parameters
    ----------
    cls
        A dataclass; see `featstore.typed_values.convert` for the annotations it may have.
    mapping
        Keys are field names; fields with a default may be absent.
    where
        Where the mapping comes from, for messages: usually the file.

    Returns
    -------
    object
        An instance of `cls`.

    Raises
    ------
    ConfigError
        If a key is unknown or missing, a value has the wrong type, or `cls` refuses it.
    """
    made: Config = convert(mapping, cls, Key(where))
    return made


def to_mapping(obj: Any) -> dict[str, Any]:
    """Return a dataclass as plain values, the inverse of `from_mapping`.

    Parameters
    ----------
    obj
        An instance of a dataclass.

    Returns
    -------
    dict
        Mappings, lists, text, numbers, booleans and None: fit for YAML and JSON.
    """
    return {field.name: _plain(getattr(obj, field.name)) for field in fields(obj) if field.init}


def apply_overrides(mapping: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Apply assignments such as ``head.params.C=10``.

    Parameters
    ----------
    mapping
        A configuration as `read_yaml` returns it; left as it is.
    overrides
        ``key=value`` with dots between nested keys; the value is YAML (``[1, 2]``, ``null``).

    Returns
    -------
    dict
        A copy with the values set, intermediate mappings made where absent.

    Raises
    ------
    ConfigError
        If an assignment is malformed or leads through something that is no mapping.

    Examples
    --------
    >>> apply_overrides({"head": {"name": "logistic"}}, ["head.params.C=10", "seeds=[0, 1]"])
    {'head': {'name': 'logistic', 'params': {'C': 10}}, 'seeds': [0, 1]}
    """
    result: dict[str, Any] = deepcopy(dict(mapping))
    for override in overrides:
        name, equals, value = override.partition("=")
        *parents, last = name.strip().split(".")
        if not equals or not all([*parents, last]):
            raise ConfigError(f"an override must be 'key=value' or 'a.b=value', got {override!r}.")
        node = result
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ConfigError(
                    f"override {override!r}: {parent!r} must be a mapping, got {node!r}."
                )
        node[last] = _parse(value, f"override {override!r}")
    return result


def _parse(text: str, where: str) -> Any:
    """Parse YAML."""
    try:
        _refuse_repeated_keys(yaml.compose(text, Loader=yaml.SafeLoader), where)
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: must be valid YAML: {error}") from error


def _refuse_repeated_keys(root: yaml.Node | None, where: str) -> None:
    """Raise if a mapping names a key twice; the YAML reader would silently keep the last."""
    pending, visited = [root], set()
    while pending:
        node = pending.pop()
        if id(node) in visited:
            continue
        visited.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            pending += node.value
        elif isinstance(node, yaml.MappingNode):
            pending += [value for _, value in node.value]
            names: set[str] = set()
            for key, _ in node.value:
                name = str(key.value)
                if name in names:
                    line = key.start_mark.line + 1
                    raise ConfigError(f"{where}: key {name!r} occurs again in line {line}.")
                names.add(name)


def _plain(value: Any) -> Any:
    """Return a field's value as YAML and JSON know it."""
    if is_dataclass(value):
        return to_mapping(value)
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
