"""The state of a training after each pass, so that an interrupted one goes on where it was."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from featstore.durable import sync_folder, write_bytes
from featstore.errors import ConfigError
from heads.plain_json import encode

if TYPE_CHECKING:
    from heads.loop.passes import Trainer


class Checkpoint:
    """A file with the states of trainers.

    Parameters
    ----------
    path
        The file; its folder exists.
    rows
        What identifies the rows learned from (store, fingerprint, selection), of JSON types.
    """

    def __init__(self, path: Path, rows: Mapping[str, Any] | None = None) -> None:
        self.path = Path(path)
        self._rows = dict(rows or {})

    def save(self, trainers: Sequence["Trainer"]) -> None:
        """Write the states of trainers; those that return none begin anew after an interruption.

        Parameters
        ----------
        trainers
            All of them, in the order in which they were made.
        """
        arrays: dict[str, Any] = {}
        for number, trainer in enumerate(trainers):
            for name, array in (trainer.state() or {}).items():
                arrays[f"{number}/{name}"] = array
        if not arrays:
            return
        known = {"of": self._identity(trainers), "checksum": _checksum(arrays)}
        data = safetensors.numpy.save(arrays, known)
        write_bytes(self.path, data)
        sync_folder(self.path.parent)

    def load(self, trainers: Sequence["Trainer"]) -> None:
        """Restore the states of trainers, if the file exists.

        Parameters
        ----------
        trainers
            Made for the same heads and rows, in the same order.

        Raises
        ------
        ConfigError
            If the file is of other heads or rows, or is damaged.
        """
        if not self.path.exists():
            return
        try:
            with safetensors.safe_open(self.path, "numpy") as file:
                known = file.metadata() or {}
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (safetensors.SafetensorError, OSError) as err:
            raise ConfigError(
                f"a checkpoint must be readable, got {str(self.path)!r}: {err}; remove it to "
                "train from the beginning."
            ) from err
        if known.get("checksum") != _checksum(arrays):
            raise ConfigError(
                f"a checkpoint must have the checksum written in it, got {str(self.path)!r}, which "
                "was damaged or edited; remove it to train from the beginning."
            )
        if known.get("of") != self._identity(trainers):
            raise ConfigError(
                f"a checkpoint must be of the same heads and rows, got {str(self.path)!r} of "
                "others; remove it to train from the beginning."
            )
        for number, trainer in enumerate(trainers):
            prefix = f"{number}/"
            own = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
            if own:
                trainer.restore(own)

    def remove(self) -> None:
        """Remove the file; the training is over."""
        self.path.unlink(missing_ok=True)

    def _identity(self, trainers: Sequence["Trainer"]) -> str:
        """Return a digest of the heads with their parameters, and of the rows."""
        members = [member for trainer in trainers for member in trainer.members]
        heads = [
            [type(head).__name__, {k: encode(v, k) for k, v in head.get_params(False).items()}]
            for head in members
        ]
        text = json.dumps([heads, self._rows], sort_keys=True, default=str)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _checksum(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return a digest of arrays with their names, shapes and types."""
    digest = hashlib.blake2b(digest_size=16)
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape};".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
