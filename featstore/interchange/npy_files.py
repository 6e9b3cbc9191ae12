"""Which ``.npy`` files of one folder hold which layers, checked by their headers alone."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from featstore.errors import SchemaError
from featstore.layers import Layer
from featstore.schema import PROJ

BLOCK = re.compile(r"feature_layer(0|[1-9][0-9]*)\.npy")
FINAL = "feature_before_projection.npy"
EMBEDDING = "feature_after_projection.npy"
PACKED = "packed_features.npy"


class Columns(NamedTuple):
    """The columns of a file that hold one layer."""

    path: Path
    start: int
    width: int

    def read(self, rows: NDArray[np.integer[Any]]) -> NDArray[np.floating[Any]]:
        """Read rows from a fresh memory map, shape (n_rows, width)."""
        columns = slice(self.start, self.start + self.width)
        values: NDArray[np.floating[Any]] = open_mapped(self.path)[:, columns][rows]
        return values


class LabelFiles(NamedTuple):
    """What one label folder holds: its layers, the columns of each, and the number of rows."""

    layers: tuple[Layer, ...]
    columns: tuple[Columns, ...]
    n_rows: int


def open_mapped(path: Path) -> NDArray[np.floating[Any]]:
    """Map a feature file into memory.

    Parameters
    ----------
    path
        A ``.npy`` file.

    Returns
    -------
    ndarray
        Shape (n_images, n_features), float16 or float32, read-only, backed by the file.

    Raises
    ------
    SchemaError
        If it is no complete ``.npy`` file, or of another dtype or number of dimensions; objects
        (pickles) are never loaded.
    """
    try:
        mapped = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, EOFError, OSError) as error:
        raise SchemaError(f"'{path}' must be a complete .npy file of numbers: {error}") from error
    if mapped.ndim != 2 or mapped.dtype.newbyteorder("=") not in (np.float16, np.float32):
        raise SchemaError(
            f"'{path}' must hold float16 or float32 of shape (n_images, n_features), "
            f"got {mapped.dtype} {mapped.shape}; convert it."
        )
    return np.asarray(mapped)


def label_files(folder: Path, n_layers: int) -> LabelFiles:
    """Find the layers in one folder.

    Parameters
    ----------
    folder
        A folder ``0_real`` or ``1_fake`` of feature files.
    n_layers
        How many layers the packed file holds, if it is all there is.

    Returns
    -------
    LabelFiles
        Layers in the order of the network.

    Raises
    ------
    SchemaError
        If there are none, some are missing, or files do not fit together.
    """
    shapes = _shapes(folder)
    if any(map(BLOCK.fullmatch, shapes)) or PACKED not in shapes:
        found = _separate_layers(folder, shapes)
    else:
        found = _packed_layers(folder / PACKED, shapes[PACKED][1], n_layers)
    if EMBEDDING in shapes:
        found[PROJ] = Columns(folder / EMBEDDING, 0, shapes[EMBEDDING][1])
    n_blocks = sum(name.startswith("block.") for name in found)
    layers = tuple(_layer(name, columns.width, n_blocks) for name, columns in found.items())
    n_rows = next(iter(shapes.values()))[0]
    return LabelFiles(layers, tuple(found.values()), n_rows)


def _layer(name: str, width: int, n_blocks: int) -> Layer:
    tap, _, number = name.partition(".")
    return Layer(name, tap, int(number or n_blocks), width, PROJ if name == PROJ else "cls")


def _shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the feature files of a folder: blocks in order, then the others."""
    names = [file.name for file in folder.iterdir()]
    blocks = sorted(int(match[1]) for match in map(BLOCK.fullmatch, names) if match)
    if blocks != list(range(len(blocks))):
        absent = min(set(range(blocks[-1])) - set(blocks))
        raise SchemaError(f"'{folder}' must hold all layers, got none for layer {absent}; add it.")
    known = [f"feature_layer{i}.npy" for i in blocks]
    known += [name for name in (FINAL, EMBEDDING, PACKED) if name in names]
    shapes = {name: open_mapped(folder / name).shape for name in known}
    if not shapes:
        raise SchemaError(
            f"'{folder}' must hold 'feature_layer<i>.npy' or {PACKED!r}, got neither."
        )
    if len({shape[0] for shape in shapes.values()}) > 1:
        rows = {name: shape[0] for name, shape in shapes.items()}
        raise SchemaError(f"files of '{folder}' must have equally many rows, got {rows}.")
    return shapes


def _separate_layers(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Columns]:
    """Return where the layers lie that have their own files."""
    blocks = [name for name in shapes if BLOCK.fullmatch(name)]
    layers = {name: f"block.{i}" for i, name in enumerate(blocks)} | {FINAL: "ln_post"}
    widths = {name: shapes[name][1] for name in layers if name in shapes}
    if len(set(widths.values())) > 1:
        raise SchemaError(f"layers of '{folder}' must have one width, got {widths}.")
    if PACKED in shapes and shapes[PACKED][1] != sum(widths.values()):
        raise SchemaError(
            f"{PACKED!r} of '{folder}' must be as wide as the files per layer together "
            f"({sum(widths.values())}), got {shapes[PACKED][1]}; add files or remove it."
        )
    return {layers[name]: Columns(folder / name, 0, width) for name, width in widths.items()}


def _packed_layers(path: Path, n_features: int, n_layers: int) -> dict[str, Columns]:
    """Return where the layers lie in a packed file."""
    width, rest = divmod(n_features, n_layers)
    if rest or not width:
        raise SchemaError(
            f"'{path}' must hold {n_layers} layers of one width, got {n_features} features; "
            "say how many layers it holds."
        )
    names = [*(f"block.{i}" for i in range(n_layers - 1)), "ln_post"]
    return {name: Columns(path, i * width, width) for i, name in enumerate(names)}
