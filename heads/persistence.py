"""Saving and loading heads: arrays in safetensors, everything else in JSON, never pickle.

A saved head is a folder::

    head.safetensors   the learned arrays
    head.json          format version, head (a key of ``heads.HEADS``), hyper-parameters, other
                       learned attributes, shape and dtype of the arrays, versions, checksum

The arrays of a head within a head, or of a dict of arrays, have names like ``scorer_/coef_``. The
file names a head; what that name means is looked up here, nothing in the file is imported or
executed. Whatever is wrong with a folder is a `HeadFileError` that says what.
"""

import hashlib
import json
import platform
import secrets
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from heads.parts import Arrays, check_origin, put_together, take_apart
from heads.plain_json import encode

ARRAYS = "head.safetensors"
RECORD = "head.json"
FORMAT_VERSION = 1
FIELDS = {"format_version", "head", "parameters", "learned", "arrays", "versions", "checksum"}


class HeadFileError(ValueError):
    """A saved head is missing, damaged, or not what it claims to be."""


def save(
    head: Any, path: str | Path, *, origin: Mapping[str, Any] | None = None, overwrite: bool = False
) -> None:
    """Save a fitted head.

    Parameters
    ----------
    head
        A fitted head of one of the classes in ``heads.HEADS``.
    path
        Folder to be made.
    origin
        Where the features came from (fingerprint of the store, layers, …), made of JSON types; a
        loaded head has it as ``origin_``. If absent, the ``origin_`` the head has already.
    overwrite
        Whether a head that is saved there may be replaced.

    Raises
    ------
    FileExistsError
        If there is something at the path that may not be replaced.
    TypeError
        If the head's class is not in ``heads.HEADS`` or an attribute cannot be saved.
    ValueError
        If the head is not fitted, its weights are not finite, or the origin's layers are not names.

    Notes
    -----
    The folder appears complete or not at all.
    """
    target = Path(path)
    replaceable = overwrite and (target / RECORD).exists()
    if target.exists() and not replaceable:
        remedy = "choose another folder" if overwrite else "pass overwrite=True or another folder"
        raise FileExistsError(
            f"'path' must be free{' or hold a saved head' * overwrite}, got {str(target)!r}, "
            f"which exists; {remedy}."
        )
    record, arrays = _describe(head, origin)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    replaced = temporary.with_name(temporary.name + ".replaced")
    temporary.mkdir(parents=True)
    try:
        (temporary / ARRAYS).write_bytes(arrays)
        (temporary / RECORD).write_text(json.dumps(record, indent=1) + "\n")
        if replaceable:
            target.rename(replaced)
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary)
        if replaced.exists():
            replaced.rename(target)
        raise
    shutil.rmtree(replaced, ignore_errors=True)


def load(path: str | Path) -> Any:
    """Load a saved head.

    Parameters
    ----------
    path
        Folder written by `save`.

    Returns
    -------
    estimator
        The head, with the same hyper-parameters and the same decision values, bit for bit.

    Raises
    ------
    HeadFileError
        If the folder is missing, damaged, written by a newer version, or not a saved head.
    """
    folder = Path(path)
    try:
        return _load(folder)
    except FileNotFoundError as err:
        raise HeadFileError(
            f"{str(folder)!r} must be a saved head with {RECORD!r} and {ARRAYS!r}, "
            f"{Path(err.filename).name!r} is missing; save the head again."
        ) from err
    except (ValueError, TypeError, KeyError, OSError, RecursionError, SafetensorError) as err:
        raise HeadFileError(f"saved head {str(folder)!r}: {err}") from err


def _describe(head: Any, origin: Mapping[str, Any] | None) -> tuple[dict[str, Any], bytes]:
    """Return the record and the arrays of a head, as they are written."""
    fields, found = take_apart(head)
    if origin is not None:
        check_origin(origin)
        fields["learned"]["origin_"] = encode(dict(origin), "origin_")
    arrays = {path: np.ascontiguousarray(array) for path, array in found.items()}
    record = {
        "format_version": FORMAT_VERSION,
        **fields,
        "arrays": {k: {"shape": list(v.shape), "dtype": str(v.dtype)} for k, v in arrays.items()},
        "versions": {name: version(name) for name in ("featstore", "numpy", "scikit-learn")}
        | {"python": platform.python_version()},
    }
    data: bytes = safetensors.save(arrays)
    return record | {"checksum": _checksum(record, data)}, data


def _checksum(record: Mapping[str, Any], arrays: bytes) -> str:
    """Return the BLAKE2b of both files, the checksum in the record left out."""
    rest = {name: value for name, value in record.items() if name != "checksum"}
    digest = hashlib.blake2b(json.dumps(rest, sort_keys=True).encode(), digest_size=32)
    digest.update(arrays)
    return digest.hexdigest()


def _load(folder: Path) -> Any:
    """Return the head, raising whatever is found to be wrong."""
    record = _read_record(folder / RECORD)
    data = (folder / ARRAYS).read_bytes()
    if record["checksum"] != _checksum(record, data):
        raise ValueError(
            "its content must have the checksum written in it, but does not: it was damaged or "
            "edited; save the head again."
        )
    return put_together(record, _read_arrays(data, record["arrays"]))


def _read_record(path: Path) -> dict[str, Any]:
    """Return the content of the JSON file, its fields and its version checked."""
    try:
        record = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as err:
        raise ValueError(f"{path.name!r} must be JSON: {err}.") from err
    newest = record.get("format_version") if isinstance(record, dict) else None
    if isinstance(newest, int) and newest > FORMAT_VERSION:
        raise ValueError(
            f"format version {newest} is newer than {FORMAT_VERSION}, the newest that this "
            f"featstore reads; upgrade featstore."
        )
    if not isinstance(record, dict) or set(record) != FIELDS or newest != FORMAT_VERSION:
        raise ValueError(
            f"{path.name!r} must be an object with the fields {sorted(FIELDS)} and "
            f"format_version {FORMAT_VERSION}; save the head again."
        )
    for field in ("parameters", "learned", "arrays"):
        if not isinstance(record[field], dict):
            raise ValueError(f"{field!r} must be an object, got {record[field]!r}.")
    return record


def _read_arrays(data: bytes, described: Mapping[str, Any]) -> Arrays:
    """Return writable copies of the arrays, which must be as described."""
    arrays: Arrays = safetensors.load(data)
    for name in sorted(set(arrays) | set(described)):
        found = None
        if name in arrays:
            found = {"shape": list(arrays[name].shape), "dtype": str(arrays[name].dtype)}
        if found != described.get(name):
            raise ValueError(
                f"array {name!r} must be {described.get(name, 'absent')}, got {found or 'none'}."
            )
    return {name: array.copy() for name, array in arrays.items()}
