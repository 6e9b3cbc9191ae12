"""Reading RINE heads as published, without executing anything in the file. Imports torch."""

import re
import struct
import warnings
from collections.abc import Mapping, Sequence
from os import SEEK_END, PathLike
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heads.persistence import HeadFileError
from heads.rine.weights import RINEShape

MALFORMED = (
    BadZipFile,
    OSError,
    UnpicklingError,
    EOFError,
    struct.error,
    RuntimeError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    AssertionError,
)
"""What the readers of archives and of pickled tensors raise on files that make no sense."""

PRECISIONS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}

SHOWN = 3
"""Names in a message."""


def read_checkpoint(path: str | PathLike[str]) -> tuple[RINEShape, dict[str, NDArray[np.float32]]]:
    """Read the weights of a published head.

    Parameters
    ----------
    path
        A file of tensors by name as ``torch.save`` writes it (since torch 1.6).

    Returns
    -------
    shape : RINEShape
        All sizes, as found in the file.
    weights : dict
        Float32 arrays by the names they have on a `heads.RINEHead`.

    Raises
    ------
    HeadFileError
        If the file is missing, damaged, no such file, or holds other tensors.

    Notes
    -----
    Memory: twice the file's size; a file that would unpack to more than its size is refused.
    """
    try:
        state = _read(Path(path))
        shape = _shape(state)
        return shape, _weights(state, shape)
    except (ValueError, OSError) as err:
        raise HeadFileError(f"RINE checkpoint {str(path)!r}: {err}") from err


def _read(path: Path) -> dict[str, Tensor]:
    """Return the tensors in a file."""
    with path.open("rb") as file:
        try:
            _require_whole(file)
            with warnings.catch_warnings(action="ignore"):  # what comes out is checked below
                state: Any = torch.load(file, map_location="cpu", weights_only=True)
        except MALFORMED as err:
            raise ValueError(
                "it must be a whole file of plain tensors, as torch.save has written it since 1.6, "
                "and is not: it is damaged, or would run code; get it again from its publishers."
            ) from err
    if not isinstance(state, dict) or not all(map(_is_plain, state.values())):
        raise ValueError("it must hold a dict of dense floating-point tensors by name.")
    if sum(tensor.nbytes for tensor in state.values()) > path.stat().st_size:
        raise ValueError("it must hold tensors of their own, and several are one part of the file.")
    return state


def _require_whole(file: BinaryIO) -> None:
    """Refuse archives whose parts are damaged, or larger than the file."""
    size = file.seek(0, SEEK_END)
    with ZipFile(file) as archive:
        entries = archive.infolist()
        packed = any(entry.compress_type != ZIP_STORED for entry in entries)
        if packed or sum(entry.file_size for entry in entries) > size:
            raise BadZipFile("parts must be stored as they are")
        if (damaged := archive.testzip()) is not None:
            raise BadZipFile(f"part {damaged!r} has another checksum")
    file.seek(0)


def _is_plain(value: Any) -> bool:
    """Return whether a value is a tensor that takes as much memory as it seems."""
    return (
        type(value) is Tensor
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and value.dtype in PRECISIONS
        and value.is_contiguous()
    )


def _shape(state: Mapping[str, Tensor]) -> RINEShape:
    """Return the sizes that the file's tensors have."""
    for name, n_dims in (("alpha", 3), ("proj1.1.weight", 2)):
        found = tuple(state[name].shape) if name in state else "none"
        if name not in state or len(found) != n_dims or 0 in found:
            raise ValueError(
                f"it must hold the weights of a RINE head, {name!r} with {n_dims} dimensions among "
                f"them, got {found}, and the names {_some(list(state))}."
            )
    _, n_layers, proj_dim = state["alpha"].shape
    nproj = sum(re.fullmatch(r"proj1\.\d+\.weight", str(name)) is not None for name in state)
    return RINEShape(n_layers, state["proj1.1.weight"].shape[1], proj_dim, nproj)


def _weights(state: Mapping[str, Tensor], shape: RINEShape) -> dict[str, NDArray[np.float32]]:
    """Return the weights by attribute, every tensor of the file accounted for."""
    expected = {weight.published: weight.shape for weight in shape.weights()}
    expected["alpha"] = (1, *expected["alpha"])
    faults = {
        "missing": [name for name in expected if name not in state],
        "unexpected": [name for name in state if name not in expected],
        "of another shape": [
            f"{name} {tuple(state[name].shape)} instead of {wanted}"
            for name, wanted in expected.items()
            if name in state and state[name].shape != wanted
        ],
        "not finite": [name for name, tensor in state.items() if not tensor.isfinite().all()],
    }
    if told := [
        f"{len(names)} {fault} ({_some(names)})" for fault, names in faults.items() if names
    ]:
        raise ValueError(f"its tensors do not make a RINE head: {'; '.join(told)}.")
    arrays = {
        weight: state[weight.published].detach().float().numpy() for weight in shape.weights()
    }
    return {weight.attribute: array.reshape(weight.shape) for weight, array in arrays.items()}


def _some(names: Sequence[object]) -> str:
    """Return the first names, for a message."""
    return ", ".join(map(str, names[:SHOWN])) + ", …" * (len(names) > SHOWN)
