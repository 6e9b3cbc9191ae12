"""Batches of a lazy selection of the store, as heads see them."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.utils import parse_bytes
from numpy.typing import NDArray

from featstore.batches import iter_batches, row_source
from featstore.errors import ConfigError
from heads.loop.batch_source import Floats, Labels, Pass, RowBatch, Target, Targets
from heads.loop.sampling import draw_units
from heads.origins import layer_names, layer_widths

if TYPE_CHECKING:
    import xarray as xr


class StoreBatches:
    """Batches of a lazy selection, read anew in every pass.

    Parameters
    ----------
    ds
        A selection of the store.
    max_memory
        Bytes, or text such as ``"2GB"``, that reading may take.
    classes
        The sorted labels that exist; found in the rows if absent.
    """

    def __init__(
        self, ds: "xr.Dataset", max_memory: int | str = "2GB", *, classes: Any = None
    ) -> None:
        self._ds, self._max_memory, self._source = ds, max_memory, row_source(ds)
        self.targets: Mapping[str, Target] = _targets(ds)
        self._labels = Labels(self.targets["label"], classes)
        self.classes = self._labels.classes
        self.layers = tuple(layer_widths(ds))
        self.layer_names: tuple[str, ...] | None = tuple(layer_names(ds))
        self.n_samples, self.n_features = int(ds.sizes["sample"]), sum(self.layers)
        self.workspace = int(parse_bytes(max_memory)) // 8

    def counts(self) -> NDArray[np.intp]:
        """Return how many rows each class has."""
        return self._labels.counts()

    def batches(self, reading: Pass) -> Iterator[RowBatch]:
        """Yield the batches of one pass.

        Parameters
        ----------
        reading
            Batch size and order.

        Yields
        ------
        RowBatch
            ``X`` float32, layers one behind the other, labels and positions.

        Raises
        ------
        ConfigError
            If a feature is not finite; the message names its image.
        """
        shuffle = reading.seed is not None
        rng = reading.rng()
        rows = iter_batches(
            self._ds,
            reading.batch_size,
            shuffle=shuffle,
            units=draw_units(reading.sampling, self.targets, rng) if shuffle else None,
            rng=rng,
            max_memory=self._max_memory,
            source=self._source,
        )
        for batch in rows:
            X = batch.X.reshape(len(batch.X), -1)
            _require_finite(X, batch.index, self._ds)
            yield RowBatch(X, self._labels.at(batch.index), batch.index)


def _targets(ds: "xr.Dataset") -> Targets:
    """Return what the rows of a selection may be told apart by."""
    targets = {"label": lambda: Target.of(np.asarray(ds["label"].values))}
    if "generator" in ds.coords and "generators" in ds.attrs:
        names = np.asarray(ds.attrs["generators"])
        targets["generator"] = lambda: Target(np.asarray(ds["generator"].values), names)
    if "pair" in ds.coords and (ds["pair"].values >= 0).any():
        targets["pair"] = lambda: Target.of(np.asarray(ds["pair"].values))
    return Targets(targets)


def _require_finite(X: Floats, index: Any, ds: "xr.Dataset") -> None:
    """Refuse features that are not numbers, and name the first image that has them."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(X.sum()):
            return
    rows = np.sort(index[~np.isfinite(X).all(axis=1)])
    if len(rows):
        path = f" ({str(ds['path'][rows[0]].values)!r})" if "path" in ds.coords else ""
        raise ConfigError(
            f"features must be finite, got {len(rows)} rows in a batch that are not, first row "
            f"{rows[0]}{path}; extract them again in a higher precision, or leave them out."
        )
