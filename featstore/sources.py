"""Where the rows of a selection come from: chunk files, or any dataset through dask."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from featstore import schema
from featstore.errors import FingerprintError
from featstore.feature_group import FeatureGroup
from featstore.gather import gather
from featstore.lazy import StoredFeatures

if TYPE_CHECKING:
    import xarray as xr

LOGGER = logging.getLogger(__name__)
LAZY_STEPS = ("featstore-", "original-featstore-", "concatenate-", "getitem-")
"""Dask layers that only choose rows and layers; with any other the values have been changed."""
STEP_BYTES = 8 * 2**20


class RowSource(Protocol):
    """Something that rows can be read from."""

    @property
    def n_rows(self) -> int:
        """Number of rows."""

    @property
    def width(self) -> int:
        """Features per row."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the features as stored."""

    @property
    def blocks(self) -> NDArray[np.int64]:
        """Where each row lies: equal for rows of one chunk, ascending along the disk."""

    def read(self, positions: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Fill ``out`` (len(positions), width) with the rows at ascending positions."""


class Columns(NamedTuple):
    """Some layers of one array, side by side."""

    array: str
    layers: list[int]
    width: int


@dataclass(frozen=True)
class StoredRows:
    """Rows of feature groups, read straight from chunk files."""

    groups: list[FeatureGroup]
    group: NDArray[np.int64]
    row: NDArray[np.int64]
    columns: list[Columns]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Stored dtype."""
        return np.dtype(np.float16)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.row)

    @property
    def width(self) -> int:
        """Features per row."""
        return sum(len(layers) * width for _, layers, width in self.columns)

    @property
    def blocks(self) -> NDArray[np.int64]:
        """Block of every row."""
        block_rows = np.array([group.block_rows for group in self.groups])
        return np.asarray(self.group << 40 | self.row // block_rows[self.group])

    def read(self, positions: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Fill ``out`` with rows.

        Parameters
        ----------
        positions
            Positions along ``sample``; fastest when sorted by place on disk.
        out
            Float16 (len(positions), width).
        """
        codes = self.group[positions]
        for code in np.unique(codes):
            mine = np.flatnonzero(codes == code)
            adjacent = mine[-1] - mine[0] + 1 == len(mine)
            target = out[mine[0] : mine[-1] + 1] if adjacent else np.empty_like(out[: len(mine)])
            self._read_group(self.groups[code], self.row[positions[mine]], target)
            if not adjacent:
                out[mine] = target

    def _read_group(self, group: FeatureGroup, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        start = 0
        for array, layers, width in self.columns:
            stop = start + len(layers) * width
            target = out[:, start:stop].reshape(len(rows), len(layers), width)
            gather(group, array, layers, rows, target)
            start = stop


class LazyRows:
    """Rows of any dataset, computed through xarray and dask.

    Parameters
    ----------
    ds
        Every variable has the dimension ``sample`` and at least one more.

    Raises
    ------
    ValueError
        If a variable holds no features.
    """

    def __init__(self, ds: "xr.Dataset") -> None:
        for name, variable in ds.data_vars.items():
            if schema.SAMPLE not in variable.dims or variable.ndim < 2:
                raise ValueError(
                    f"variables of a dataset must be features along {schema.SAMPLE!r}, got "
                    f"{name!r} with dimensions {variable.dims}; make it a coordinate or drop it."
                )
        self._variables = [v.transpose(schema.SAMPLE, ...) for v in ds.data_vars.values()]
        self.n_rows = int(ds.sizes[schema.SAMPLE])
        self.width = sum(int(np.prod(v.shape[1:])) for v in self._variables)
        self.dtype = np.result_type(*(v.dtype for v in self._variables))
        chunks = self._variables[0].chunks
        sizes = (self.n_rows,) if chunks is None else chunks[0]
        self.blocks = np.repeat(np.arange(len(sizes)), sizes)

    def read(self, positions: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Fill ``out`` with rows, a few megabytes at a time.

        Parameters
        ----------
        positions
            Positions along ``sample``.
        out
            Of the common dtype (len(positions), width).
        """
        step = max(1, STEP_BYTES // max(1, self.width * self.dtype.itemsize))
        for first in range(0, len(positions), step):
            rows = positions[first : first + step]
            start = 0
            for variable in self._variables:
                values = variable.isel({schema.SAMPLE: rows}).values.reshape(len(rows), -1)
                out[first : first + step, start : start + values.shape[1]] = values
                start += values.shape[1]


@dataclass(frozen=True)
class _Places:
    """Stands in for stored features and says where they lie instead of what they are.

    Along axis 0 a value is group and row, along axis 1 the position on the layer axis, along axis 2
    that on the feature axis. For axis 0 the feature axis has one entry, so that probing is cheap.
    """

    source: StoredFeatures
    number: int
    axis: int

    def __getitem__(self, key: Any) -> NDArray[np.int64]:
        n_rows, n_layers, width = self.source.shape
        places = (
            self.number << 40 | self.source.rows,
            np.asarray(self.source.layers),
            np.arange(width),
        )[self.axis]
        shape = (n_rows, n_layers, 1 if self.axis == 0 else width)
        along = [1, 1, 1]
        along[self.axis] = -1
        return np.asarray(np.broadcast_to(places.reshape(along), shape)[key])


def _probe(data: Any, sources: Mapping[str, StoredFeatures], axis: int) -> NDArray[np.int64]:
    """Run the graph of a lazy array over places instead of values."""
    from dask.array import Array
    from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

    layers = dict(data.dask.layers)
    for number, (name, source) in enumerate(sources.items()):
        if name in layers:
            layers[name] = MaterializedLayer({name: _Places(source, number, axis)})
    graph = HighLevelGraph(layers, data.dask.dependencies)
    meta = np.empty((0,) * data.ndim, np.int64)
    places = Array(graph, data.name, data.chunks, meta=meta)
    return np.asarray(places.compute(scheduler="synchronous"))


def _sources(data: Any) -> dict[str, StoredFeatures] | None:
    """Return the stored features that a lazy array chooses from; None if it does more."""
    if not all(name.startswith(LAZY_STEPS) for name in data.dask.layers):
        return None
    values = {
        name: next(iter(dict(layer).values()))
        for name, layer in data.dask.layers.items()
        if name.startswith("original-")
    }
    return values if all(isinstance(v, StoredFeatures) for v in values.values()) else None


def stored_rows(ds: "xr.Dataset") -> StoredRows | None:
    """Return where the rows of a selection are stored.

    Parameters
    ----------
    ds
        Any dataset.

    Returns
    -------
    StoredRows or None
        None if the dataset is not merely a choice of samples and layers of a store.

    Raises
    ------
    FingerprintError
        If features of different origins were put together.

    Notes
    -----
    Nothing is believed of coordinates: the dask graph that would compute the values is run over
    row, layer and feature numbers, which tells exactly what it chooses.
    """
    choices: list[_Choice] = []
    for name, variable in ds.data_vars.items():
        data = variable.data
        lazy = hasattr(data, "dask") and variable.dims[:1] == (schema.SAMPLE,) and data.ndim > 1
        choice = _choice(data) if lazy and len(data) else None
        if choice is None or (choices and not choice.same_rows(choices[0])):
            LOGGER.info("%r is no plain choice of stored rows; reading through dask", name)
            return None
        choices.append(choice)
    if not choices:
        return None
    groups, places = choices[0].groups, choices[0].places
    columns = [choice.columns for choice in choices]
    return StoredRows(groups, places >> 40, places & ((1 << 40) - 1), columns)


class _Choice(NamedTuple):
    """What one lazy array chooses: rows (group number and row in one int) and layers."""

    groups: list[FeatureGroup]
    places: NDArray[np.int64]
    columns: Columns

    def same_rows(self, other: "_Choice") -> bool:
        """Whether another array chooses the same rows of the same groups."""
        paths, others = ([group.path for group in c.groups] for c in (self, other))
        return paths == others and np.array_equal(self.places, other.places)


def _choice(data: Any) -> _Choice | None:
    """Return what a lazy array chooses; None if it does anything else."""
    sources = _sources(data)
    columns = None if not sources else _columns(data, sources)
    if not sources or columns is None:
        return None
    groups = [source.group for source in sources.values()]
    origins = {group.fingerprint: str(group.path) for group in groups}
    if len(origins) > 1:
        raise FingerprintError(f"features of one origin are needed, got {origins}.")
    one_layer = data[(slice(None), *(0,) * (data.ndim - 2), slice(None))]
    return _Choice(groups, _probe(one_layer, sources, 0)[:, 0], columns)


def _columns(data: Any, sources: Mapping[str, StoredFeatures]) -> Columns | None:
    """Return the layers that a lazy array holds; None if features are missing or moved."""
    first = next(iter(sources.values()))
    if data.shape[-1] != first.width or len({s.array for s in sources.values()}) > 1:
        return None
    features = _probe(data[:1], sources, 2).reshape(-1, first.width)
    if (features != np.arange(first.width)).any():
        return None
    layers = _probe(data[:1], sources, 1).reshape(-1, first.width)[:, 0]
    return Columns(first.array, layers.tolist(), first.width)
