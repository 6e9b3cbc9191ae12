"""Columns and features of a selection as dask arrays that read only what is sliced."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from featstore import schema
from featstore.feature_group import FeatureGroup
from featstore.gather import gather
from featstore.layers import Layer
from featstore.samples import SampleTable

if TYPE_CHECKING:
    import dask.array as da

    from featstore.store import GroupKey

BLOCKS_PER_TASK = 8
TEXT_ROWS = 8192


class Part(NamedTuple):
    """The selected rows of one feature group."""

    key: "GroupKey"
    group: FeatureGroup
    table: SampleTable
    rows: NDArray[np.int64]


def lazy_columns(part: Part) -> dict[str, "da.Array"]:
    """Return what is known of the selected images and read only when looked at.

    Parameters
    ----------
    part
        The selected rows of one group.

    Returns
    -------
    dict
        ``path``, ``sample_id``, the facts of `featstore.schema.FACTS` and the metadata columns.
    """
    readers: dict[str, Callable[[NDArray[np.int64]], NDArray[Any]]] = {
        "path": _Text(part.table, "path"),
        "sample_id": _Ids(part.group),
    }
    readers |= {fact: _Fact(part.group, i) for i, fact in enumerate(schema.FACTS)}
    for name in part.table.metadata_columns:
        readers[schema.METADATA_PREFIX + name] = _Text(part.table, name)
    return {name: _lazy_column(part, name, read) for name, read in readers.items()}


@dataclass(frozen=True)
class _Text:
    """A column of the sample table as Python objects."""

    table: SampleTable
    name: str

    def __call__(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        return self.table.rows(self.name, rows).astype(object)


@dataclass(frozen=True)
class _Ids:
    """Content ids as hexadecimal text."""

    group: FeatureGroup

    def __call__(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        ids = np.empty((len(rows), 1, schema.SAMPLE_ID_BYTES), np.uint8)
        gather(self.group, "sample_id", [0], rows, ids)
        return np.array([row.tobytes().hex() for row in ids], dtype=object)


@dataclass(frozen=True)
class _Fact:
    """One fact about each file."""

    group: FeatureGroup
    position: int

    def __call__(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        facts = np.empty((len(rows), 1, len(schema.FACTS)), np.int64)
        gather(self.group, "file_facts", [0], rows, facts)
        return facts[:, 0, self.position]


@dataclass(frozen=True)
class _Rows:
    """A one-dimensional array that is read when sliced."""

    rows: NDArray[np.int64]
    read: Callable[[NDArray[np.int64]], NDArray[Any]]
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows),)

    @property
    def ndim(self) -> int:
        return 1

    def __getitem__(self, key: Any) -> NDArray[Any]:
        values = self.read(np.atleast_1d(self.rows[key[0]]))
        return np.asarray(values[0] if isinstance(key[0], int) else values)


@dataclass(frozen=True)
class StoredFeatures:
    """Features (sample, layer, width) of one group that are read when sliced."""

    group: FeatureGroup
    array: str
    layers: Sequence[int]
    width: int
    rows: NDArray[np.int64]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Stored dtype."""
        return np.dtype(np.float16)

    @property
    def shape(self) -> tuple[int, ...]:
        """Samples, layers and width."""
        return (len(self.rows), len(self.layers), self.width)

    @property
    def ndim(self) -> int:
        """Three."""
        return 3

    def __getitem__(self, key: Any) -> NDArray[Any]:
        rows = np.atleast_1d(self.rows[key[0]])
        layers = np.atleast_1d(np.asarray(self.layers)[key[1]])
        out = np.empty((len(rows), len(layers), self.width), self.dtype)
        gather(self.group, self.array, layers.tolist(), rows, out)
        dropped = tuple(0 if isinstance(k, int) else slice(None) for k in key[:2])
        return np.asarray(out[(*dropped, key[2])])


def lazy_features(part: Part, array: str, own: Sequence[Layer]) -> "da.Array":
    """Return the chosen layers of one array of one group as a dask array."""
    import dask.array as da

    stored = [layer.name for layer in part.group.array_layers(array)]
    positions = [stored.index(layer.name) for layer in own]
    source = StoredFeatures(part.group, array, positions, own[0].width, part.rows)
    chunks = (BLOCKS_PER_TASK * part.group.block_rows, 1, own[0].width)
    name = _name(part, array, repr(positions))
    meta = np.empty((0, 0, 0), np.float16)
    features: da.Array = da.from_array(source, chunks, name=name, asarray=False, meta=meta)
    return features


def _lazy_column(
    part: Part, name: str, read: Callable[[NDArray[np.int64]], NDArray[Any]]
) -> "da.Array":
    """Return one column of a part as a dask array."""
    import dask.array as da

    source = _Rows(part.rows, read, np.dtype(np.int64 if name in schema.FACTS else object))
    meta = np.empty(0, source.dtype)
    column: da.Array = da.from_array(
        source, (TEXT_ROWS,), name=_name(part, name), asarray=False, meta=meta
    )
    return column


def _name(part: Part, *what: str) -> str:
    """Return a dask key that is the same exactly when the content is."""
    digest = blake2b(part.rows.tobytes(), digest_size=12)
    for text in (str(part.group.path), part.group.fingerprint, *what):
        digest.update(text.encode() + b"\0")
    return f"featstore-{digest.hexdigest()}"
