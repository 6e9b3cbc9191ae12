"""Putting feature trees of ``.npy`` files into a store, block by block."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featstore import schema
from featstore.errors import ConfigError
from featstore.feature_group import Block, FeatureGroup
from featstore.interchange.npy import NpyGroup, row_ids, scan_npy, source_row
from featstore.samples import SampleTable, add_records
from featstore.store import GroupKey, open_store


def import_npy(
    source: Path,
    store_path: str | Path,
    features: str,
    *,
    n_layers: int = 25,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Import a feature tree; running it again continues.

    Parameters
    ----------
    source
        Folder ``<split>/<dataset>/{0_real,1_fake}/feature_*.npy``, see `featstore.interchange.npy`.
    store_path
        The store; created where absent.
    features
        Name of the feature set. The files do not say which weights and preprocessing they come
        from: importing several trees under one name asserts that these were the same.
    n_layers
        Layers side by side in ``packed_features.npy`` where there are no files per layer.
    progress
        Called with rows done and rows to do.

    Returns
    -------
    int
        Rows imported now.

    Raises
    ------
    ConfigError
        If there is no such tree.
    SchemaError
        If files disagree with each other or hold what float16 cannot.

    Notes
    -----
    Files are memory-mapped and read one block at a time.
    """
    groups = scan_npy(source, n_layers=n_layers)
    if not groups:
        raise ConfigError(f"there must be feature trees below {str(source)!r}, got none.")
    store = open_store(store_path, "a")
    layers = list(groups[0].layers)
    missing: list[tuple[NpyGroup, SampleTable, FeatureGroup, int]] = []
    with store.planning():
        identity = store.register(features, "clean", {"imported": "npy tree"}, layers)
        for group in groups:
            table = add_records(store.path, group.records(), source)
            key = GroupKey(features, "clean", group.dataset, group.split)
            target = store.require(key, layers, identity)
            todo = sorted(set(range(target.n_blocks)) - set(target.markers()))
            missing += [(group, table, target, block) for block in todo]
    total = sum(len(target.rows_of(block)) for _, _, target, block in missing)
    done = 0
    for group, table, target, number in missing:
        rows = target.rows_of(number)
        paths = [str(path) for path in table.rows("path", slice(rows.start, rows.stop))]
        target.write(_block(group, number, paths), {"imported": str(source)})
        done += len(rows)
        progress(done, total)
    return done


def _block(group: NpyGroup, number: int, paths: list[str]) -> Block:
    """Read the rows of one block."""
    places = np.array([source_row(path) for path in paths])
    features: dict[str, NDArray[np.float16]] = {}
    for label in np.unique(places[:, 0]):
        mine = np.flatnonzero(places[:, 0] == label)
        mine = mine[np.argsort(places[mine, 1])]
        for array, values in group.take(int(label), places[mine, 1]).items():
            shape = (len(paths), *values.shape[1:])
            features.setdefault(array, np.empty(shape, np.float16))[mine] = values
    facts = np.zeros((len(paths), len(schema.FACTS)), np.int64)
    return Block(number, features, row_ids(features), facts, {})
