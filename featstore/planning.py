"""Which files are which rows, which blocks are missing, and which of them are this process's."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

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
    """Everything decided before the first image is read."""

    jobs: list[Job]
    groups: dict[GroupKey, FeatureGroup]
    n_present: int


def make_plan(
    store: Store, origin: Origin, records: Sequence[Record], base: Path, share: Share
) -> Plan:
    """Enter samples and groups into the store and list the missing blocks of one process.

    Parameters
    ----------
    store
        The store; the caller holds its planning lock.
    origin
        The feature set, registered.
    records
        Images of the scan.
    base
        Folder that stored paths are relative to.
    share
        Which blocks are this process's.

    Returns
    -------
    Plan
        Jobs, groups and the images of owned blocks that are there already.

    Notes
    -----
    A block is owned by its place among all blocks, so ranks that plan at different moments agree.
    """
    jobs: list[Job] = []
    groups = {}
    n_present = n_blocks = 0
    for (dataset, split), members in by_group(records).items():
        table = add_records(store.path, members, base)
        key = GroupKey(origin.features, origin.view, dataset, split)
        groups[key] = group = store.require(key, origin.layers, origin.fingerprint)
        owned = {b for b in range(group.n_blocks) if (n_blocks + b) % share.world == share.rank}
        n_blocks += group.n_blocks
        present = _present(group, owned, share.retry_unreadable)
        n_present += sum(len(group.rows_of(block)) for block in present)
        jobs += _jobs(group, table, sorted(owned - present), members, base)
    return Plan(jobs, groups, n_present)


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
        The folder, or the one that the manifest lies in.
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


def _present(group: FeatureGroup, owned: set[int], retry_unreadable: bool) -> set[int]:
    """Return the owned blocks that are complete, dropping those that must be made again."""
    present = set()
    for number, marker in group.markers().items():
        if number not in owned:
            continue
        grown = marker.n_rows != len(group.rows_of(number))
        if grown or (retry_unreadable and marker.unreadable):
            group.drop(number)
        else:
            present.add(number)
    return present


def _jobs(
    group: FeatureGroup,
    table: SampleTable,
    blocks: Sequence[int],
    records: Sequence[Record],
    base: Path,
) -> Iterator[Job]:
    """Yield a job for each block, with the files of its rows."""
    if not blocks:
        return
    places = dict(zip(stored_paths(records, base), (r.path for r in records), strict=True))
    names = [str(name) for name in table.column("path")]
    for block in blocks:
        rows = group.rows_of(block)
        paths = [places.get(name, base / name) for name in names[rows.start : rows.stop]]
        yield Job(group, block, paths)
