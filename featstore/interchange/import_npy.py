"""Putting feature trees of ``.npy`` files into a store, block by block."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from featstore.errors import ConfigError
from featstore.feature_group import Block, FeatureGroup
from featstore.interchange.npy import NpyGroup, row_ids, scan_npy, source_row
from featstore.planning import missing_rows, only_extraction
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
    source = source.absolute()
    groups = scan_npy(source, n_layers=n_layers)
    if not groups:
        raise ConfigError(f"there must be feature trees below {str(source)!r}, got none.")
    store = open_store(store_path, "a")
    layers = list(groups[0].layers)
    work: list[tuple[NpyGroup, SampleTable, FeatureGroup, Mapping[int, Sequence[int]]]] = []
    with store.planning():
        identity = store.register(features, "clean", {"imported": "npy tree"}, layers)
        for group in groups:
            table = add_records(store.path, group.records(), source)
            key = GroupKey(features, "clean", group.dataset, group.split)
            target = store.require(key, layers, identity)
            work.append((group, table, target, missing_rows(target)))
    total = sum(len(rows) for *_, missing in work for rows in missing.values())
    done = 0
    for group, table, target, missing in work:
        with only_extraction(target):
            for number, rows in missing.items():
                block = target.draft(number)
                planned = target.rows_of(number)
                paths = table.rows("path", slice(planned.start + rows[0], planned.stop))
                _fill(block, group, slice(rows[0], len(planned)), [str(path) for path in paths])
                target.write(block, {"imported": str(source)})
                done += len(rows)
                progress(done, total)
    return done


def _fill(block: Block, group: NpyGroup, rows: slice, paths: Sequence[str]) -> None:
    """Read rows of one block."""
    places = np.array([source_row(path) for path in paths])
    features = {array: values[rows] for array, values in block.features.items()}
    for label in np.unique(places[:, 0]):
        mine = np.flatnonzero(places[:, 0] == label)
        for array, values in group.take(int(label), places[mine, 1]).items():
            features[array][mine] = values
    block.sample_ids[rows] = row_ids(features)
