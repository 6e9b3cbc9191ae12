"""Checking a store against its own checksums, and making damage harmless."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import google_crc32c
import numpy as np

from featstore import schema
from featstore.durable import TEMPORARY
from featstore.errors import SchemaError
from featstore.feature_group import FeatureGroup
from featstore.layouts import FAKE, REAL
from featstore.markers import Marker, marker_files, read_marker
from featstore.samples import SampleTable
from featstore.schema import plain_name
from featstore.store import CATALOGUE_KEY, GroupKey, Store
from featstore.zarr_nodes import open_group, write_attributes

DAMAGE = (OSError, ValueError, TypeError, KeyError, AttributeError, MemoryError)
"""What reading arbitrary bytes as metadata, markers or columns may raise."""


class Finding(NamedTuple):
    """Something that is not as it should be.

    ``kind`` is ``"damaged"`` (a committed block differs from its checksums: it must be extracted
    again), ``"broken"`` (metadata, the catalogue or a sample table; no repair mends it, the problem
    says what does), ``"unmarked"`` (bytes of an interrupted extraction; never read, overwritten by
    the next one) or ``"leftover"`` (a temporary file). ``block`` is -1 where it is no block's.
    """

    kind: str
    group: str
    block: int
    problem: str


def verify(
    store: Store,
    *,
    repair: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Finding]:
    """Recompute every checksum of a store, and check its sample tables and metadata.

    Parameters
    ----------
    store
        The store.
    repair
        Whether damaged blocks are dropped, so that the next extraction refills them, and
        temporary files removed. Nothing else is touched.
    progress
        Called with groups done and groups in all.

    Returns
    -------
    list of Finding
        Empty if all is well.

    Raises
    ------
    OSError
        If something cannot be removed. What cannot be read is a finding.

    Notes
    -----
    Reads every byte of the features once. Columns of sample tables carry no checksum: they must be
    readable, of the right length and hold legal values. Do not repair while an extraction runs.
    """
    findings = list(_check_catalogue(store))
    on_disk = set(_groups_on_disk(store))
    keys = sorted(on_disk | _catalogued(store))
    tables = sorted({(key.dataset, key.split) for key in keys})
    for dataset, split in tables:
        if problem := _table_problem(store, dataset, split):
            findings.append(Finding("broken", f"samples/{dataset}/{split}", -1, problem))
    for number, key in enumerate(keys):
        findings += _check_group(store, key, repair)
        progress(number + 1, len(keys))
    for path in sorted(store.path.rglob(f"*{TEMPORARY}")):
        findings.append(Finding("leftover", "", -1, str(path.relative_to(store.path))))
        if repair:
            path.unlink(missing_ok=True)
    return findings


def rebuild_catalogue(store: Store) -> list[GroupKey]:
    """Write the list of feature groups anew from the folders that exist.

    Parameters
    ----------
    store
        The store; its catalogue may be damaged or lost.

    Returns
    -------
    list of GroupKey
        The groups found: those whose metadata is whole.

    Notes
    -----
    Waits for other processes that are planning an extraction.
    """
    with store.planning():
        keys = sorted(key for key in _groups_on_disk(store) if not _group_problem(store, key))
        write_attributes(store.path, **{CATALOGUE_KEY: [list(key) for key in keys]})
    return keys


def _groups_on_disk(store: Store) -> Iterator[GroupKey]:
    """Yield the groups that have a folder, but not those whose making was interrupted."""
    root = store.path / schema.FEATURES
    for path in root.glob("*/*/*/*/zarr.json"):
        key = GroupKey(*map(plain_name, path.parent.relative_to(root).parts))
        try:
            begun = "n_rows" not in open_group(path.parent).attrs
        except DAMAGE:
            begun = False
        if not begun:
            yield key


def _catalogued(store: Store) -> set[GroupKey]:
    """Return the groups of the catalogue, none if it is damaged."""
    try:
        return set(store.groups())
    except DAMAGE:
        return set()


def _check_catalogue(store: Store) -> Iterator[Finding]:
    """Yield a finding if the catalogue cannot be read or lacks a whole group."""
    remedy = "run 'featstore verify --rebuild'"
    try:
        listed = set(store.groups())
    except DAMAGE as err:
        problem = f"the catalogue is damaged ({type(err).__name__}: {err}); {remedy}"
        yield Finding("broken", "", -1, problem)
        return
    for key in sorted(set(_groups_on_disk(store)) - listed):
        if not _group_problem(store, key):
            yield Finding("broken", "/".join(key), -1, f"missing in the catalogue; {remedy}")


def _group_problem(store: Store, key: GroupKey) -> str:
    """Say what is wrong with the metadata of a group, or nothing."""
    path = store.group_path(key)
    try:
        group = FeatureGroup(path)
        arrays: list[str] = ["sample_id", "file_facts", *{layer.array for layer in group.layers}]
        node: Any = open_group(path)
        short = [name for name in arrays if node[name].shape[0] != group.n_rows]
        marker_files(group.commits)
    except SchemaError as err:
        return str(err)
    except DAMAGE as err:
        return f"metadata cannot be read ({type(err).__name__}: {err}); restore it from a copy"
    return f"arrays {short} must have {group.n_rows} rows; restore zarr.json" if short else ""


def _table_problem(store: Store, dataset: str, split: str) -> str:
    """Say what is wrong with a sample table, or nothing."""
    try:
        return _values_problem(store.samples(dataset, split))
    except SchemaError as err:
        return str(err)
    except DAMAGE as err:
        return f"cannot be read ({type(err).__name__}: {err}); restore it from a copy"


def _values_problem(table: SampleTable) -> str:
    """Say which column of a sample table is not what it must be, or nothing."""
    for name in [*schema.SAMPLE_ARRAYS, *table.metadata_columns]:
        try:
            values = table.column(name)
        except DAMAGE as err:
            return f"column {name!r} cannot be read ({type(err).__name__}: {err})"
        if len(values) != table.n_rows:
            return f"column {name!r} must have {table.n_rows} rows, got {len(values)}"
        if name == "label" and not np.isin(values, (REAL, FAKE)).all():
            return f"labels must be 0 or 1, got {sorted(set(values.tolist()))[:10]}"
        n_names = len(table.generators)
        if name == "generator" and not ((values >= 0) & (values < n_names)).all():
            return f"generator codes must lie in [0, {n_names}), got {values.min()}–{values.max()}"
        if name == "path" and not all(values):
            return "paths must not be empty; a chunk of column 'path' is missing"
    return ""


def _check_group(store: Store, key: GroupKey, repair: bool) -> list[Finding]:
    """Return the findings of one group, dropping damaged blocks if asked to."""
    name = "/".join(key)
    if problem := _group_problem(store, key):
        return [Finding("broken", name, -1, problem)]
    group = store.group(key)
    found = [*_damaged(group, name), *_unmarked(group, name)]
    for finding in found:
        if repair and finding.kind == "damaged":
            group.drop(finding.block)
    return found


def _damaged(group: FeatureGroup, name: str) -> Iterator[Finding]:
    """Yield the committed blocks that differ from their markers."""
    for path in marker_files(group.commits):
        block = int(path.stem)
        try:
            problem = _block_problem(group, block, read_marker(path))
        except SchemaError as err:
            problem = str(err)
        except DAMAGE as err:
            problem = f"cannot be read ({type(err).__name__}: {err})"
        if problem:
            yield Finding("damaged", name, block, problem)


def _unmarked(group: FeatureGroup, name: str) -> Iterator[Finding]:
    """Yield the blocks of which there are chunks but no marker."""
    marked = {int(path.stem) for path in marker_files(group.commits)}
    arrays = dict.fromkeys(layer.array for layer in group.layers)
    for block in range(group.n_blocks):
        if block not in marked and any(group.chunk_path(a, block).exists() for a in arrays):
            problem = "written but never committed; the next extraction overwrites it"
            yield Finding("unmarked", name, block, problem)


def _block_problem(group: FeatureGroup, block: int, marker: Marker) -> str:
    """Say what is wrong with a committed block, or nothing."""
    if marker.block != block:
        return f"its marker speaks of block {marker.block}"
    if marker.fingerprint != group.fingerprint:
        return f"belongs to fingerprint {marker.fingerprint}, not to {group.fingerprint}"
    if marker.n_rows > len(group.rows_of(block)):
        return f"holds {marker.n_rows} rows, more than the sample table has"
    for name in marker.checksums:
        path = group.path / name
        if not path.exists():
            return f"chunk {name} is missing"
        if not marker.vouches_for(name, google_crc32c.value(path.read_bytes())):
            return f"chunk {name} does not match its checksum"
    return ""
