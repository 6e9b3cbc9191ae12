"""The features of one dataset and split under one feature set and view, on disk.

Chunk files are written and read here and nowhere else. A chunk file is the raw little-endian
``(block_rows, width)`` array, which is what plain Zarr expects of an uncompressed chunk, so it can
be memory-mapped. Chunks are immutable once their block's marker is published.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numpy.typing import NDArray

from featstore import schema
from featstore.durable import sync_folder, write_bytes
from featstore.layers import Layer
from featstore.markers import Marker, publish, read_markers
from featstore.zarr_nodes import (
    create_array,
    open_group,
    require_group,
    sync_nodes,
    write_attributes,
)


@dataclass(frozen=True)
class Block:
    """Everything extraction knows about the rows of one block.

    Parameters
    ----------
    number
        Number of the block in its group.
    features
        Array name to float16 values (n_rows, n_layers, width); NaN in unreadable rows.
    sample_ids
        BLAKE2b-128 of each file, uint8 (n_rows, 16); zero where a file could not be read.
    facts
        ``n_bytes``, width, height and format code of each file, int64 (n_rows, 4).
    unreadable
        Row in the block to the reason its image could not be decoded.
    """

    number: int
    features: Mapping[str, NDArray[np.float16]]
    sample_ids: NDArray[np.uint8]
    facts: NDArray[np.int64]
    unreadable: Mapping[int, str]

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.sample_ids)


class FeatureGroup:
    """A feature group on disk.

    Parameters
    ----------
    path
        Folder of the group ``features/<feature set>/<view>/<dataset>/<split>``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        attributes: dict[str, Any] = dict(open_group(path).attrs)
        self.n_rows: int = int(attributes["n_rows"])
        self.block_rows: int = int(attributes["block_rows"])
        self.fingerprint: str = str(attributes["fingerprint"])
        self.layers = [Layer(*layer) for layer in attributes["layers"]]

    @property
    def n_blocks(self) -> int:
        """Number of blocks that the planned rows fill."""
        return -(-self.n_rows // self.block_rows)

    @property
    def commits(self) -> Path:
        """Folder of the block markers."""
        return self.path / schema.COMMITS

    def rows_of(self, block: int) -> range:
        """Return the planned rows of a block.

        Parameters
        ----------
        block
            Number of the block.

        Returns
        -------
        range
            Row numbers in the group.
        """
        start = block * self.block_rows
        return range(start, min(start + self.block_rows, self.n_rows))

    def markers(self) -> dict[int, Marker]:
        """Read the markers of all committed blocks.

        Returns
        -------
        dict
            Block number to marker.
        """
        return read_markers(self.commits)

    def array_layers(self, array: str) -> list[Layer]:
        """Return the layers stored in an array, in the order of its layer axis.

        Parameters
        ----------
        array
            ``cls``, ``cls_<width>`` or ``proj``.

        Returns
        -------
        list of Layer
            Its layers.
        """
        return [layer for layer in self.layers if layer.array == array]

    def chunk_path(self, array: str, block: int, layer: int = 0) -> Path:
        """Return the file of one chunk.

        Parameters
        ----------
        array
            Name of the array.
        block
            Number of the block.
        layer
            Position on the array's layer axis; ignored for arrays without one.

        Returns
        -------
        Path
            The chunk's file, whether or not it exists.
        """
        axes = len(schema.array_spec(array).dims)
        key = (block, layer, 0)[:axes] if axes != 2 else (block, 0)
        return self.path / array / "c" / "/".join(map(str, key))

    def chunk(self, array: str, block: int, layer: int = 0) -> NDArray[Any]:
        """Map one chunk of a committed block, reading nothing yet.

        Parameters
        ----------
        array, block, layer
            As in `chunk_path`.

        Returns
        -------
        numpy.memmap
            Read-only (block_rows, width) of the array's dtype.
        """
        spec = schema.array_spec(array)
        mapped = np.memmap(self.chunk_path(array, block, layer), spec.dtype, mode="r")
        return mapped.reshape(self.block_rows, -1)

    def write(self, block: Block, provenance: Mapping[str, Any]) -> None:
        """Write a block and publish its marker; afterwards the block exists.

        Parameters
        ----------
        block
            The block; all its planned rows.
        provenance
            Recorded in the marker.

        Raises
        ------
        OSError
            If the disk is full; the block then does not exist, and earlier ones still do.

        Notes
        -----
        Every chunk is synced before its rename and every folder after it, so a power loss leaves
        either no marker or a whole block.
        """
        assert block.n_rows == len(self.rows_of(block.number))
        chunks: dict[Path, NDArray[Any]] = {
            self.chunk_path("sample_id", block.number): block.sample_ids,
            self.chunk_path("file_facts", block.number): block.facts,
        }
        for array, values in block.features.items():
            assert values.shape[:2] == (block.n_rows, len(self.array_layers(array)))
            for layer in range(values.shape[1]):
                chunks[self.chunk_path(array, block.number, layer)] = values[:, layer]
        checksums = {
            path.relative_to(self.path).as_posix(): self._write_chunk(path, values)
            for path, values in chunks.items()
        }
        committed = self.chunk_path(schema.COMMITS, block.number)
        write_bytes(committed, np.array([block.n_rows], "<i4").tobytes())
        for folder in {path.parent for path in [*chunks, committed]}:
            sync_folder(folder)
            sync_folder(folder.parent)
        start = block.number * self.block_rows
        reasons = {str(start + row): why for row, why in sorted(block.unreadable.items())}
        publish(
            self.commits,
            Marker(block.number, block.n_rows, self.fingerprint, checksums, reasons, provenance),
        )

    def drop(self, block: int) -> None:
        """Make a block not exist, so that the next extraction refills it.

        Parameters
        ----------
        block
            Number of the block.
        """
        from featstore.markers import marker_path

        marker_path(self.commits, block).unlink(missing_ok=True)
        write_bytes(self.chunk_path(schema.COMMITS, block), np.array([0], "<i4").tobytes())
        sync_folder(self.commits)

    def _write_chunk(self, path: Path, values: NDArray[Any]) -> int:
        """Write rows as a whole chunk, padded; return the CRC32C of the file."""
        if len(values) < self.block_rows:
            fill = np.nan if values.dtype == np.float16 else 0
            padded = np.full((self.block_rows, *values.shape[1:]), fill, values.dtype)
            padded[: len(values)] = values
            values = padded
        data = np.ascontiguousarray(values).tobytes()
        write_bytes(path, data)
        return int(google_crc32c.value(data))


def require_feature_group(
    root: Path, path: Path, layers: Sequence[Layer], fingerprint: str, n_rows: int, block_rows: int
) -> FeatureGroup:
    """Create a feature group, or grow one to a longer sample table.

    Parameters
    ----------
    root
        The store's folder; the caller holds its planning lock.
    path
        Folder of the group.
    layers
        Layers of the feature set, in order.
    fingerprint
        Fingerprint of the feature set.
    n_rows
        Rows of the sample table.
    block_rows
        Rows per block of the sample table.

    Returns
    -------
    FeatureGroup
        The group. Its attribute ``n_rows`` is written last, so a crash leaves no half-made group.
    """
    group = require_group(root, *path.relative_to(root).parts)
    if group.attrs.get("n_rows", -1) == n_rows:
        return FeatureGroup(path)
    for array, tail in _tails(layers).items():
        shape = (n_rows, *tail) if array != schema.COMMITS else (-(-n_rows // block_rows),)
        if array in group:
            existing = group[array]
            assert isinstance(existing, zarr.Array)
            existing.resize(shape)
        else:
            chunks = (block_rows, *((1, *tail[1:]) if len(tail) == 2 else tail))
            chunks = chunks if array != schema.COMMITS else (1,)
            create_array(group, array, schema.array_spec(array), shape, chunks)
    sync_nodes(path, "*/zarr.json")
    write_attributes(
        path,
        block_rows=block_rows,
        fingerprint=fingerprint,
        layers=[list(layer) for layer in layers],
        formats=list(schema.FORMATS),
        n_rows=n_rows,
    )
    return FeatureGroup(path)


def _tails(layers: Sequence[Layer]) -> dict[str, tuple[int, ...]]:
    """Return the shape behind the row axis of every array of a group."""
    tails: dict[str, tuple[int, ...]] = {
        "sample_id": (schema.SAMPLE_ID_BYTES,),
        "file_facts": (len(schema.FACTS),),
        schema.COMMITS: (),
    }
    for array in dict.fromkeys(layer.array for layer in layers):
        own = [layer for layer in layers if layer.array == array]
        tails[array] = (own[0].width,) if array == schema.PROJ else (len(own), own[0].width)
    return tails
