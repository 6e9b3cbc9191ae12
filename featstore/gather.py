"""Moving rows out of chunk files: which bytes is decided elsewhere, this reads them.

An uncompressed chunk file is the raw array, so rows are copied straight out of a memory map: a
scan runs at the speed of ``np.memmap`` and scattered rows cost no more than themselves.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.feature_group import FeatureGroup


def readable_rows(group: FeatureGroup) -> NDArray[np.int64]:
    """Return the rows of a group that may be read: committed and decodable.

    Parameters
    ----------
    group
        A feature group.

    Returns
    -------
    ndarray
        Sorted row numbers, int64.
    """
    blocks = [np.empty(0, np.int64)]
    for number, marker in group.markers().items():
        start = number * group.block_rows
        rows = np.arange(start, start + marker.n_rows)
        if marker.unreadable:
            rows = np.setdiff1d(rows, np.fromiter(map(int, marker.unreadable), np.int64))
        blocks.append(rows)
    return np.concatenate(blocks)


def gather(
    group: FeatureGroup,
    array: str,
    layers: Sequence[int],
    rows: NDArray[np.int64],
    out: NDArray[Any],
) -> None:
    """Copy rows of some layers of one array.

    Parameters
    ----------
    group
        The feature group.
    array
        ``cls``, ``cls_<width>``, ``proj``, ``sample_id`` or ``file_facts``.
    layers
        Positions on the array's layer axis; ``[0]`` for an array without one.
    rows
        Row numbers, committed; ascending order is fastest.
    out
        Filled; shape (n_rows, n_layers, width), any strides.

    Notes
    -----
    One memory map per touched chunk, dropped at once: resident memory is that of `out`.
    """
    blocks = rows // group.block_rows
    bounds = [*np.flatnonzero(np.diff(blocks, prepend=-1)), len(rows)]
    for start, stop in pairwise(bounds):
        block = int(blocks[start])
        inside = rows[start:stop] - block * group.block_rows
        contiguous = bool((np.diff(inside) == 1).all())
        selection: Any = slice(inside[0], inside[-1] + 1) if contiguous else inside
        for position, layer in enumerate(layers):
            out[start:stop, position] = group.chunk(array, block, layer)[selection]
