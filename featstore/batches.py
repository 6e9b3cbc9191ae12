"""Reading a selection batch by batch, shuffled or not, within a memory limit.

Three steps, kept apart: `plan` decides which rows make which batch (arithmetic on integers), a
source moves the rows of a window into a buffer, and `iter_batches` cuts the buffer into batches.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from featstore.errors import ConfigError
from featstore.schema import SAMPLE
from featstore.sources import LazyRows, RowSource, stored_rows

if TYPE_CHECKING:
    import xarray as xr

READER_SHARE = 0.9
"""Part of `max_memory` that batches and their buffer may take; the rest is their consumer's."""
SCAN_BYTES = 16 * 2**20
"""Window of an unshuffled pass: large enough for whole chunks, small enough for the cache."""


class Batch(NamedTuple):
    """Some rows of a selection.

    ``X`` is float32 (n, n_layers, n_features), or (n, n_total) when layers differ in width;
    ``y`` int8 labels (n,); ``index`` int64 positions along the selection's ``sample`` axis.
    """

    X: NDArray[np.float32]
    y: NDArray[np.int8]
    index: NDArray[np.int64]  # type: ignore[assignment]  # shadows tuple.index


def plan(
    blocks: NDArray[np.int64],
    window_rows: int,
    rng: np.random.Generator | None = None,
) -> Iterator[NDArray[np.int64]]:
    """Cut all rows into windows that fit into memory, in reading order.

    Parameters
    ----------
    blocks
        Block of every row, as `RowSource.blocks`.
    window_rows
        Rows per window; the last may be smaller.
    rng
        Generator that shuffles blocks among windows and rows within a window; None keeps order.

    Yields
    ------
    ndarray
        Positions in the order in which they are to be delivered. When everything fits into one
        window, that order is ``rng.permutation(len(blocks))``, as for arrays in memory.

    Notes
    -----
    Rows are stored in random order, so mixing whole blocks inside windows is as good as a global
    shuffle, and costs sequential reads only.

    Examples
    --------
    >>> [window.tolist() for window in plan(np.array([0, 0, 1, 1, 2]), 2)]
    [[0, 1], [2, 3], [4]]
    """
    n_rows = len(blocks)
    sequence = np.arange(n_rows)
    if rng is not None and window_rows < n_rows:
        by_block = np.argsort(blocks, kind="stable")
        runs = np.split(by_block, np.flatnonzero(np.diff(blocks[by_block])) + 1)
        sequence = np.concatenate([runs[i] for i in rng.permutation(len(runs))])
    for start in range(0, n_rows, window_rows):
        window = sequence[start : start + window_rows]
        yield window if rng is None else window[rng.permutation(len(window))]


def iter_batches(  # noqa: PLR0913  keyword-only options
    ds: "xr.Dataset",
    batch_size: int = 256,
    *,
    shuffle: bool = False,
    rng: int | np.random.Generator = 0,
    units: NDArray[np.int64] | None = None,
    max_memory: int | str = "2GB",
    source: RowSource | None = None,
) -> Iterator[Batch]:
    """Read a selection once, batch by batch, out of core.

    Parameters
    ----------
    ds
        What `Store.select` returned, or any subset of its samples and layers made with ``isel``
        or ``sel``; also any dataset with a first dimension ``sample`` and a coordinate ``label``.
    batch_size
        Rows per batch; only the last batch may be smaller. Without `shuffle` all batches are
        smaller where `max_memory` asks for it.
    shuffle
        Whether rows come in random order.
    rng
        Seed or generator of that order.
    units
        Positions (n_units, rows_per_unit) of the rows to read, if not every row once: positions
        may be repeated or left out, and those of a unit come side by side in one batch.
    max_memory
        Bytes, or text such as ``"500MB"``: limit of the row buffer and the batches in flight.
    source
        `row_source` of `ds`, for those who read it often; found anew if None.

    Yields
    ------
    Batch
        Features as float32, labels and positions. Every row exactly once, or as `units` say.

    Raises
    ------
    ConfigError
        If `max_memory` cannot hold one batch.
    ValueError
        If `ds` has no labels, `batch_size` is not positive, or units would be cut.

    Notes
    -----
    One sequential read of the chunks; with `shuffle`, rows are mixed within a window that fills
    `max_memory` and windows are made of randomly chosen blocks. Values that were changed after
    the selection (``ds * 2``) are computed through dask, slower but right.
    """
    from dask.utils import parse_bytes

    if batch_size < 1:
        raise ValueError(f"'batch_size' must be a positive int, got {batch_size!r}.")
    if "label" not in ds.coords:
        raise ValueError(
            f"a dataset must have the coordinate 'label', got {sorted(map(str, ds.coords))}; "
            "select from a store, or assign labels."
        )
    source = source or row_source(ds)
    if units is not None and (batch_size % units.shape[1] or not shuffle):
        raise ValueError(
            f"'units' need shuffle=True and a 'batch_size' that is a multiple of their "
            f"{units.shape[1]} rows, got {shuffle} and {batch_size}."
        )
    units = np.arange(source.n_rows)[:, None] if units is None else units
    budget = int(READER_SHARE * parse_bytes(max_memory))
    batch_size, window = _sizes(source, batch_size, budget, shuffle)
    generator = np.random.default_rng(rng) if shuffle else None
    labels = np.asarray(ds.variables["label"].values, np.int8)
    shape = _row_shape(ds)
    buffer = np.empty((min(window, units.size), source.width), source.dtype)
    for chosen in plan(source.blocks[units[:, 0]], window // units.shape[1], generator):
        positions = units[chosen].ravel()
        order = np.arange(len(positions)) if generator is None else np.argsort(positions)
        source.read(positions[order], buffer[: len(positions)])
        slots = np.empty_like(order)
        slots[order] = np.arange(len(order))
        for start in range(0, len(positions), batch_size):
            index = positions[start : start + batch_size]
            X = _float32(buffer, slots[start : start + batch_size])
            yield Batch(X.reshape(len(index), *shape), labels[index], index)


def row_source(ds: "xr.Dataset") -> RowSource:
    """Return where the rows of a selection are read from.

    Parameters
    ----------
    ds
        As for `iter_batches`.

    Returns
    -------
    RowSource
        Chunk files if the dataset merely chooses rows and layers of a store, dask otherwise.
    """
    return stored_rows(ds) or LazyRows(ds)


def _float32(buffer: NDArray[Any], slots: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return rows of the buffer as float32."""
    if buffer.dtype == np.float16:
        from featstore.widen import gather_float32

        return gather_float32(buffer, slots)
    return buffer[slots].astype(np.float32, copy=False)


def _sizes(source: RowSource, batch_size: int, max_memory: int, shuffle: bool) -> tuple[int, int]:
    """Return the rows per batch and the rows per window, whole batches within the memory limit."""
    row = source.width * source.dtype.itemsize
    in_flight = 3 * source.width * 4
    if not shuffle:
        batch_size = max(1, min(batch_size, max_memory // (row + in_flight)))
    n_batches = (max_memory - batch_size * in_flight) // (row * batch_size)
    if n_batches < 1:
        raise ConfigError(
            f"'max_memory' must hold one batch, {(in_flight + row) * batch_size:,} bytes for "
            f"{batch_size} rows of {source.width} features, got {max_memory:,}; "
            "raise it or lower 'batch_size'."
        )
    if not shuffle:
        n_batches = min(n_batches, max(1, SCAN_BYTES // (row * batch_size)))
    return batch_size, int(n_batches) * batch_size


def _row_shape(ds: "xr.Dataset") -> tuple[int, ...]:
    """Return the shape of one row of a batch."""
    (name, *more) = ds.data_vars
    sizes = ds.variables[name].sizes
    return (-1,) if more else tuple(sizes[axis] for axis in sizes if axis != SAMPLE)
