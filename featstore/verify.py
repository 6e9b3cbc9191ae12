"""Checking a store against its own checksums, and making damage harmless."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import google_crc32c

from featstore import schema
from featstore.durable import TEMPORARY
from featstore.errors import SchemaError
from featstore.feature_group import FeatureGroup
from featstore.markers import Marker, marker_files, read_marker
from featstore.schema import plain_name
from featstore.store import GroupKey, Store


class Finding(NamedTuple):
    """Something that is not as it should be.

    ``kind`` is ``"damaged"`` (a committed block differs from its checksums: it must be extracted
    again), ``"unmarked"`` (bytes of an interrupted extraction; never read, overwritten by the next
    one) or ``"leftover"`` (a temporary file).
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
    """Recompute every checksum of a store.

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

    Notes
    -----
    Reads every byte of the features once. Do not repair while an extraction runs.
    """
    findings: list[Finding] = []
    keys = store.groups()
    for number, key in enumerate(keys):
        group = store.group(key)
        found = list(_check(group, "/".join(key)))
        if repair:
            _repair(group, found)
        findings += found
        progress(number + 1, len(keys))
    return findings


def rebuild_catalogue(store: Store) -> list[GroupKey]:
    """Write the list of feature groups anew from the folders that exist.

    Parameters
    ----------
    store
        The store.

    Returns
    -------
    list of GroupKey
        The groups found.
    """
    root = store.path / schema.FEATURES
    paths = [path.parent.parent for path in root.glob(f"*/*/*/*/{schema.COMMITS}/zarr.json")]
    keys = {GroupKey(*map(plain_name, path.relative_to(root).parts)) for path in paths}
    store.catalogue(keys)
    return sorted(keys)


def _check(group: FeatureGroup, name: str) -> Iterator[Finding]:
    """Yield the findings of one group."""
    marked = set()
    for path in marker_files(group.commits):
        block = int(path.stem)
        marked.add(block)
        try:
            problem = _block_problem(group, read_marker(path))
        except SchemaError as err:
            problem = str(err)
        if problem:
            yield Finding("damaged", name, block, problem)
    arrays = dict.fromkeys(layer.array for layer in group.layers)
    for block in range(group.n_blocks):
        if block not in marked and any(group.chunk_path(a, block).exists() for a in arrays):
            problem = "written but never committed; the next extraction overwrites it"
            yield Finding("unmarked", name, block, problem)
    for path in sorted(group.path.rglob(f"*{TEMPORARY}")):
        yield Finding("leftover", name, -1, str(path.relative_to(group.path)))


def _block_problem(group: FeatureGroup, marker: Marker) -> str:
    """Say what is wrong with a committed block, or nothing."""
    if marker.fingerprint != group.fingerprint:
        return f"belongs to fingerprint {marker.fingerprint}, not to {group.fingerprint}"
    if marker.n_rows > len(group.rows_of(marker.block)):
        return f"holds {marker.n_rows} rows, more than the sample table has"
    for name, checksum in marker.checksums.items():
        path = group.path / name
        if not path.exists():
            return f"chunk {name} is missing"
        if google_crc32c.value(path.read_bytes()) != checksum:
            return f"chunk {name} does not match its checksum"
    return ""


def _repair(group: FeatureGroup, findings: list[Finding]) -> None:
    """Drop damaged blocks and remove temporary files."""
    for finding in findings:
        if finding.kind == "damaged":
            group.drop(finding.block)
        elif finding.kind == "leftover":
            Path(group.path / finding.problem).unlink(missing_ok=True)
