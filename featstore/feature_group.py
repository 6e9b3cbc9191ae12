"""The features of one dataset and split under one feature set and view, on disk.

Chunk files are written and read here and nowhere else. A chunk file is the raw little-endian
``(block_rows, width)`` array, which is what plain Zarr expects of an uncompressed chunk, so it can
be memory-mapped. Rows that a marker vouches for never change: a block that gets more rows is
replaced by one that holds the same bytes for the old ones.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from featstore import schema
from featstore.blocks import Block
from featstore.durable import sync_folder, write_bytes
from featstore.errors import SchemaError
from featstore.layers import Layer
from featstore.markers import Marker, marker_path, publish, read_marker, read_markers
from featstore.zarr_nodes import open_group

__all__ = ["Block", "FeatureGroup"]


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

    def marker(self, block: int) -> Marker | None:
        """Read the marker of one block.

        Parameters
        ----------
        block
            Number of the block.

        Returns
        -------
        Marker or None
            None if the block is not committed.
        """
        try:
            return read_marker(marker_path(self.commits, block))
        except FileNotFoundError:
            return None

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

    def draft(self, number: int) -> Block:
        """Return a block to be filled in and written.

        Parameters
        ----------
        number
            Number of the block.

        Returns
        -------
        Block
            All planned rows: committed ones as they are, NaN and zeros in the others.

        Raises
        ------
        SchemaError
            If committed rows do not match their checksums.
        """
        n_rows = len(self.rows_of(number))
        owners = {layer.array: self.array_layers(layer.array) for layer in self.layers}
        shapes = {array: (n_rows, len(own), own[0].width) for array, own in owners.items()}
        block = Block(
            number,
            {array: np.full(shape, np.nan, np.float16) for array, shape in shapes.items()},
            np.zeros((n_rows, schema.SAMPLE_ID_BYTES), np.uint8),
            np.zeros((n_rows, len(schema.FACTS)), np.int64),
            {},
        )
        if marker := self.marker(number):
            start, n_kept = number * self.block_rows, min(marker.n_rows, n_rows)
            for path, values in self._chunks(block).items():
                values[:n_kept] = self._read_chunk(path, marker, values.dtype)[:n_kept]
            block.unreadable.update({int(r) - start: why for r, why in marker.unreadable.items()})
        return block

    def write(self, block: Block, provenance: Mapping[str, Any]) -> None:
        """Write a block and publish its marker; afterwards the block exists.

        Parameters
        ----------
        block
            The block; all its planned rows. Rows committed before must be those of `draft`. If
            another process has committed more rows meanwhile, nothing is written.
        provenance
            Recorded in the marker.

        Raises
        ------
        OSError
            If the disk is full; what was committed before still is.

        Notes
        -----
        Every chunk is synced before its rename and every folder after it, so a power loss leaves
        either no marker or a whole block. Where a marker is there already, it is first made to
        vouch for the new chunks too: a crash leaves a mixture of chunks, all of them sound.
        """
        assert block.n_rows == len(self.rows_of(block.number))
        chunks = self._chunks(block)
        if old := self.marker(block.number):
            if old.n_rows > block.n_rows:
                return
            coming = {self._name(path): _crc(self._whole(v)) for path, v in chunks.items()}
            allowed = {name: [*old.replacing.get(name, ()), crc] for name, crc in coming.items()}
            publish(self.commits, replace(old, replacing=allowed))
        checksums = {}
        for path, values in chunks.items():
            data = self._whole(values)
            write_bytes(path, data)
            checksums[self._name(path)] = _crc(data)
        for folder in {path.parent for path in chunks}:
            sync_folder(folder)
            sync_folder(folder.parent)
        self._write_committed(block.number, block.n_rows)
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
        marker_path(self.commits, block).unlink(missing_ok=True)
        sync_folder(self.commits)
        self._write_committed(block, 0)

    def _chunks(self, block: Block) -> dict[Path, NDArray[Any]]:
        """Return what every chunk file of a block holds, as views of the block's arrays."""
        chunks: dict[Path, NDArray[Any]] = {
            self.chunk_path("sample_id", block.number): block.sample_ids,
            self.chunk_path("file_facts", block.number): block.facts,
        }
        for array, values in block.features.items():
            assert values.shape[:2] == (block.n_rows, len(self.array_layers(array)))
            for layer in range(values.shape[1]):
                chunks[self.chunk_path(array, block.number, layer)] = values[:, layer]
        return chunks

    def _read_chunk(self, path: Path, marker: Marker, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Read a chunk of a committed block; refuse a damaged one."""
        data = path.read_bytes() if path.exists() else b""
        if not marker.vouches_for(self._name(path), _crc(data)):
            raise SchemaError(
                f"a committed block must match its checksums, got other bytes in {str(path)!r}; "
                "run 'featstore verify --repair' and extract again."
            )
        return np.frombuffer(data, dtype).reshape(self.block_rows, -1)

    def _whole(self, values: NDArray[Any]) -> bytes:
        """Return the bytes of a chunk file: the rows, padded to a whole block."""
        if len(values) < self.block_rows:
            fill = np.nan if values.dtype == np.float16 else 0
            padded = np.full((self.block_rows, *values.shape[1:]), fill, values.dtype)
            padded[: len(values)] = values
            values = padded
        return np.ascontiguousarray(values).tobytes()

    def _name(self, path: Path) -> str:
        """Return a chunk's name in the checksums."""
        return path.relative_to(self.path).as_posix()

    def _write_committed(self, block: int, n_rows: int) -> None:
        """Tell plain Zarr readers how many rows of a block are there."""
        path = self.chunk_path(schema.COMMITS, block)
        write_bytes(path, np.array([n_rows], "<i4").tobytes())
        sync_folder(path.parent)
        sync_folder(path.parent.parent)


def _crc(data: bytes) -> int:
    return int(google_crc32c.value(data))
