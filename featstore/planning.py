"""Which files are which rows, which rows are missing, and which of them are this process's."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import filelock

from featstore.errors import FeatstoreError
from featstore.feature_group import FeatureGroup
from featstore.layers import Layer
from featstore.layouts import Record
from featstore.pipeline import Job
from featstore.samples import SampleTable, add_records, stored_paths
from featstore.store import GroupKey, Store, open_store


class Origin(NamedTuple):
    """The feature set that is being extracted."""

    features: str
    view: str
    layers: Sequence[Layer]
    fingerprint: str


class Share(NamedTuple):
    """Which blocks one process owns: every ``world``-th of all, whether there or not."""

    rank: int = 0
    world: int = 1
    retry_unreadable: bool = False


class Plan(NamedTuple):
    """Everything decided before the first image is read; the jobs are made as they are taken."""

    jobs: Iterable[Job]
    groups: dict[GroupKey, FeatureGroup]
    n_images: int
    n_present: int


def make_plan(
    store: Store, origin: Origin, records: Sequence[Record], base: Path, share: Share
) -> Plan:
    """Enter samples and groups into the store and list the missing rows of one process.

    Parameters
    ----------
    store
        The store; the caller holds its planning lock.
    origin
        The feature set, registered.
    records
        Images of the scan.
    base
        Folder that stored paths are relative to, absolute.
    share
        Which blocks are this process's.

    Returns
    -------
    Plan
        Jobs, groups, the images of the jobs and those of owned blocks that are there already.

    Notes
    -----
    A block is owned by its place among all blocks, so ranks that plan at different moments agree.
    """
    jobs: list[Iterator[Job]] = []
    groups = {}
    n_images = n_owned = n_blocks = 0
    for (dataset, split), members in by_group(records).items():
        table = add_records(store.path, members, base)
        key = GroupKey(origin.features, origin.view, dataset, split)
        groups[key] = group = store.require(key, origin.layers, origin.fingerprint)
        owned = {b for b in range(group.n_blocks) if (n_blocks + b) % share.world == share.rank}
        n_blocks += group.n_blocks
        n_owned += sum(len(group.rows_of(block)) for block in owned)
        missing = missing_rows(group, share.retry_unreadable)
        todo = {block: rows for block, rows in missing.items() if block in owned}
        n_images += sum(map(len, todo.values()))
        jobs.append(_jobs(group, table, todo, members, base))
    return Plan(chain.from_iterable(jobs), groups, n_images, n_owned - n_images)


def missing_rows(group: FeatureGroup, retry_unreadable: bool = False) -> dict[int, Sequence[int]]:
    """Return the rows of a group that have no features yet.

    Parameters
    ----------
    group
        The group.
    retry_unreadable
        Whether rows whose images could not be read are missing too.

    Returns
    -------
    dict
        Number of each block that misses rows to their places in the block, ascending.
    """
    markers = group.markers()
    missing: dict[int, Sequence[int]] = {}
    for block in range(group.n_blocks):
        planned, marker = group.rows_of(block), markers.get(block)
        rows: Sequence[int] = range(marker.n_rows if marker else 0, len(planned))
        if marker and retry_unreadable:
            rows = [*sorted(int(row) - planned.start for row in marker.unreadable), *rows]
        if rows:
            missing[block] = rows
    return missing


@contextmanager
def only_extraction(group: FeatureGroup, rank: int = 0, world: int = 1) -> Iterator[None]:
    """Hold the lock of a group under which one process extracts its share.

    Parameters
    ----------
    group
        The group.
    rank, world
        The process's number among those that share the work, and how many these are.

    Yields
    ------
    None
        While held, nobody else extracts the same share. A killed process holds no lock.

    Raises
    ------
    FeatstoreError
        If somebody does already.
    """
    lock = filelock.FileLock(group.commits / f".extracting-{rank}-of-{world}.lock", blocking=False)
    try:
        lock.acquire()
    except filelock.Timeout as err:
        raise FeatstoreError(
            f"only one process may extract a share, but another extraction of {str(group.path)!r} "
            f"(rank {rank} of {world}) is running; wait for it, or stop it."
        ) from err
    try:
        yield
    finally:
        lock.release()


def by_group(records: Sequence[Record]) -> dict[tuple[str, str], list[Record]]:
    """Return records by dataset and split.

    Parameters
    ----------
    records
        Records of a scan.

    Returns
    -------
    dict
        (dataset, split) to records, in the order of first appearance.
    """
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.dataset, record.split), []).append(record)
    return groups


def stored_base(images: str | Path) -> Path:
    """Return the folder that stored paths are relative to.

    Parameters
    ----------
    images
        Folder of images, or a manifest.

    Returns
    -------
    Path
        The folder, or the one that the manifest lies in; absolute.
    """
    path = Path(images).absolute()
    return path if path.is_dir() else path.parent


def count_present(path: str, features: str, view: str, records: Sequence[Record]) -> int:
    """Count the images of a scan that a store holds already.

    Parameters
    ----------
    path
        The store, which need not exist.
    features, view
        Names of the feature set and the view.
    records
        Records of the scan.

    Returns
    -------
    int
        Committed rows of the scanned datasets and splits.
    """
    if not (Path(path) / "zarr.json").exists():
        return 0
    store = open_store(path)
    keys = {GroupKey(features, view, *group) for group in by_group(records)}
    groups = [store.group(key) for key in keys & set(store.groups())]
    return sum(marker.n_rows for group in groups for marker in group.markers().values())


def _jobs(
    group: FeatureGroup,
    table: SampleTable,
    todo: Mapping[int, Sequence[int]],
    records: Sequence[Record],
    base: Path,
) -> Iterator[Job]:
    """Yield a job for each block with the files of its missing rows."""
    if not todo:
        return
    odd = {  # names that are stored with their odd bytes spelt out
        name: record.path
        for name, record in zip(stored_paths(records, base), records, strict=True)
        if base / name != record.path
    }
    for block, offsets in todo.items():
        rows = group.rows_of(block)
        names = [str(name) for name in table.rows("path", slice(rows.start, rows.stop))]
        paths = [odd.get(names[offset], base / names[offset]) for offset in offsets]
        yield Job(group, block, offsets, paths)
