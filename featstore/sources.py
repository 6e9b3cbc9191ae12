"""Where the rows of a selection come from: chunk files, or any dataset through dask."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from featstore import schema
from featstore.feature_group import FeatureGroup
from featstore.gather import gather
from featstore.subset import group_code

if TYPE_CHECKING:
    import xarray as xr

LOGGER = logging.getLogger(__name__)
LAZY_STEPS = ("featstore-", "original-featstore-", "concatenate-", "getitem-")
"""Dask layers that only choose rows and layers; with any other the values have been changed."""


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


@dataclass(frozen=True)
class StoredRows:
    """Rows of feature groups, read straight from chunk files."""

    groups: list[FeatureGroup]
    group: NDArray[np.int64]
    row: NDArray[np.int64]
    columns: list[tuple[str, list[int], int]]
    """Array, positions on its layer axis, and width, in feature order."""

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
        """Fill ``out`` with the rows at ascending positions.

        Parameters
        ----------
        positions
            Positions along ``sample``.
        out
            Float16 (len(positions), width).
        """
        codes = self.group[positions]
        for code in np.unique(codes):
            mine = np.flatnonzero(codes == code)
            part = out[mine[0] : mine[-1] + 1] if mine[-1] - mine[0] + 1 == len(mine) else None
            target = np.empty((len(mine), out.shape[1]), out.dtype) if part is None else part
            self._read_group(self.groups[code], self.row[positions[mine]], target)
            if part is None:
                out[mine] = target

    def _read_group(self, group: FeatureGroup, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        start = 0
        for array, layers, width in self.columns:
            stop = start + len(layers) * width
            target = out[:, start:stop].reshape(len(rows), len(layers), width)
            gather(group, array, layers, rows, target)
            start = stop


class LazyRows:
    """Rows of any dataset, computed through xarray and dask."""

    def __init__(self, ds: "xr.Dataset") -> None:
        self._variables = list(ds.data_vars.values())
        self.n_rows = int(ds.sizes[schema.SAMPLE])
        self.width = sum(int(np.prod(v.shape[1:])) for v in self._variables)
        self.dtype = np.result_type(*(v.dtype for v in self._variables))
        chunks = self._variables[0].chunksizes.get(schema.SAMPLE, (self.n_rows,))
        self.blocks = np.repeat(np.arange(len(chunks)), chunks)

    def read(self, positions: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Fill ``out`` with the rows at ascending positions.

        Parameters
        ----------
        positions
            Positions along ``sample``.
        out
            Of the common dtype (len(positions), width).
        """
        start = 0
        for variable in self._variables:
            values = variable.isel({schema.SAMPLE: positions}).values.reshape(len(positions), -1)
            out[:, start : start + values.shape[1]] = values
            start += values.shape[1]


def stored_rows(ds: "xr.Dataset") -> StoredRows | None:
    """Return where the rows of a selection are stored.

    Parameters
    ----------
    ds
        Any dataset.

    Returns
    -------
    StoredRows or None
        None if the dataset is no selection of a store, or its values were changed since.
    """
    if not {"group", "row"} <= set(ds.coords) or "groups" not in ds.attrs:
        return None
    groups = [FeatureGroup(Path(path)) for path in ds.attrs["groups"]]
    columns = []
    for array, variable in ds.data_vars.items():
        dims = schema.array_spec(str(array)).dims
        stored = groups[0].array_layers(str(array))
        graph = getattr(variable.data, "dask", None)
        if variable.dims != dims or not stored or graph is None:
            return None
        whole = np.array_equal(ds[dims[-1]].values, np.arange(stored[0].width))
        if not whole or not all(name.startswith(LAZY_STEPS) for name in graph.layers):
            LOGGER.info(
                "values of %r were changed after the selection; reading through dask", array
            )
            return None
        names = [layer.name for layer in stored]
        chosen = [names.index(str(n)) for n in ds[dims[1]].values] if len(dims) == 3 else [0]
        columns.append((str(array), chosen, stored[0].width))
    codes = np.array([group_code(path) for path in ds.attrs["groups"]])
    stored_codes = np.asarray(ds["group"].values)
    if not np.isin(stored_codes, codes).all():
        return None
    order = np.argsort(codes)
    group = order[np.searchsorted(codes[order], stored_codes)]
    return StoredRows(groups, group, np.asarray(ds["row"].values, np.int64), columns)
