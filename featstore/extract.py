"""Extraction: images on disk and a backbone in, features of every layer in the store out.

This module plans (which files are which rows, which blocks are missing, which of them are mine)
and reports; `featstore.pipeline` does the work. Running the same command again continues.
"""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from featstore.backbones import make_backbone
from featstore.backbones.protocol import Backbone
from featstore.errors import ConfigError
from featstore.extract_config import ExtractConfig, default_name
from featstore.feature_group import FeatureGroup
from featstore.gather import gather, readable_rows
from featstore.images.decode import decoder_versions
from featstore.images.preprocess import Preprocess
from featstore.images.reading import read_image
from featstore.layouts import Ignored, Record, scan
from featstore.pipeline import Settings, run
from featstore.planning import (
    Origin,
    Share,
    count_present,
    make_plan,
    only_extraction,
    stored_base,
)
from featstore.schema import SAMPLE_ID_BYTES
from featstore.store import GroupKey, Store, open_store

PROBED_IMAGES = 16


class Unreadable(NamedTuple):
    """An image without features, and why."""

    dataset: str
    split: str
    path: str
    reason: str


@dataclass(frozen=True)
class Summary:
    """What an extraction did.

    Parameters
    ----------
    features
        Name of the feature set.
    n_extracted, n_present
        Images handled by this run, and those that were there before, readable or not.
    n_duplicates
        Readable images of the scanned datasets whose bytes equal an earlier one's there, as far as
        they are committed; counted by rank 0 if it extracted anything.
    unreadable
        Every image of the scanned datasets that has no features.
    ignored
        Files that were no samples.
    seconds
        Time of the loop, without planning and loading of weights.
    """

    features: str
    n_extracted: int
    n_present: int
    n_duplicates: int
    unreadable: Sequence[Unreadable]
    ignored: Sequence[Ignored]
    seconds: float


class Estimate(NamedTuple):
    """What an extraction would cost."""

    features: str
    n_images: int
    n_present: int
    n_bytes: int
    seconds: float
    ignored: Sequence[Ignored]


def extract(
    config: ExtractConfig, progress: Callable[[int, int], None] = lambda done, total: None
) -> Summary:
    """Extract what the store does not hold yet.

    Parameters
    ----------
    config
        What to extract and where to.
    progress
        Called with images done and images to do.

    Returns
    -------
    Summary
        Counts, unreadable images with reasons, ignored files.

    Raises
    ------
    FeatstoreError
        If the request is impossible, the feature set exists with other settings, the disk is full,
        or the same extraction is running already; what is committed stays.

    Notes
    -----
    Safe to kill at any moment and to run again; under ``torchrun`` each rank extracts its own
    blocks. Content does not depend on batch size, workers or ranks.
    """
    records, ignored = _scan(config)
    backbone, preprocess, device = _backbone(config)
    name = config.features or default_name(config)
    rank, world = _rank()
    store = open_store(config.store, "a")
    with store.planning():
        fingerprint = _register(store, name, config, backbone, preprocess)
        origin = Origin(name, config.view, backbone.layers, fingerprint)
        base = stored_base(config.images)
        plan = make_plan(store, origin, records, base, Share(rank, world, config.retry_unreadable))
    done = 0

    def on_images(n: int) -> None:
        nonlocal done
        done += n
        progress(done, plan.n_images)

    start = time.perf_counter()
    with ExitStack() as locks:
        for group in plan.groups.values():
            locks.enter_context(only_extraction(group, rank, world))
        run(plan.jobs, backbone, preprocess, _settings(config, device, world), on_images)
    seconds = time.perf_counter() - start
    bad = [item for key, group in plan.groups.items() for item in unreadable(store, key, group)]
    twice = sum(map(n_duplicates, plan.groups.values())) if plan.n_images and rank == 0 else 0
    return Summary(name, plan.n_images, plan.n_present, twice, bad, ignored, seconds)


def estimate(config: ExtractConfig) -> Estimate:
    """Say what `extract` would do, writing nothing.

    Parameters
    ----------
    config
        As for `extract`.

    Returns
    -------
    Estimate
        Images, bytes and seconds; the time is extrapolated from a few images of the scan.
    """
    records, ignored = _scan(config)
    backbone, preprocess, _ = _backbone(config)
    name = config.features or default_name(config)
    n_present = count_present(config.store, name, config.view, records)
    row = 2 * sum(layer.width for layer in backbone.layers)
    sample = records[:: max(1, len(records) // PROBED_IMAGES)][:PROBED_IMAGES]
    pixels = np.zeros((len(sample), preprocess.crop, preprocess.crop, 3), np.uint8)
    start = time.perf_counter()
    for record, out in zip(sample, pixels, strict=True):
        read_image(record.path, preprocess, out)
    backbone.submit(pixels)()
    seconds = (time.perf_counter() - start) / len(sample)
    todo = len(records) - n_present
    return Estimate(name, len(records), n_present, todo * row, todo * seconds, ignored)


def unreadable(store: Store, key: GroupKey, group: FeatureGroup) -> list[Unreadable]:
    """Return the images of a group that have no features.

    Parameters
    ----------
    store
        The store.
    key, group
        The group.

    Returns
    -------
    list of Unreadable
        In stored order.
    """
    reasons = {int(r): why for m in group.markers().values() for r, why in m.unreadable.items()}
    if not reasons:
        return []
    rows = np.array(sorted(reasons))
    paths = store.samples(key.dataset, key.split).rows("path", rows)
    return [
        Unreadable(key.dataset, key.split, str(path), reasons[int(row)])
        for row, path in zip(rows, paths, strict=True)
    ]


def n_duplicates(group: FeatureGroup) -> int:
    """Count the readable images of a group whose bytes another row of it has too.

    Parameters
    ----------
    group
        A feature group.

    Returns
    -------
    int
        Rows beyond the first of each content.
    """
    rows = readable_rows(group)
    ids = np.empty((len(rows), 1, SAMPLE_ID_BYTES), np.uint8)
    gather(group, "sample_id", [0], rows, ids)
    halves = ids.reshape(-1, SAMPLE_ID_BYTES).view(np.uint64)
    ordered = halves[np.lexsort(halves.T)]
    return int((ordered[1:] == ordered[:-1]).all(axis=1).sum())


def _scan(config: ExtractConfig) -> tuple[list[Record], list[Ignored]]:
    """Find the images; their paths are absolute, however the folder was typed."""
    found = scan(
        Path(config.images).absolute(),
        config.layout,
        dataset=config.dataset or None,
        split=config.split or None,
    )
    return found.records, found.ignored


def _backbone(config: ExtractConfig) -> tuple[Backbone, Preprocess, str]:
    """Make the backbone and decide how images reach it and where it runs."""
    device = config.device
    if config.backbone.partition(":")[0] == "residual":
        device = "cpu"
    elif device == "auto":
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
    local = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if device == "cuda" else device
    backbone = make_backbone(
        config.backbone, taps=tuple(config.taps), precision=config.precision, device=local
    )
    preprocess = backbone.preprocess
    if config.crop == "native":
        preprocess = replace(preprocess, resize_mode="none", resize=0)
    return backbone, preprocess, device


def _settings(config: ExtractConfig, device: str, world: int) -> Settings:
    """Decide how the loop runs."""
    batch_size = config.batch_size or (32 if device == "cpu" else 256)
    workers = config.workers or len(os.sched_getaffinity(0))
    provenance = {"device": device, "batch_size": batch_size, "world_size": world}
    return Settings(batch_size, workers, provenance)


def _register(
    store: Store, name: str, config: ExtractConfig, backbone: Backbone, preprocess: Preprocess
) -> str:
    """Enter the feature set into the store, or check that it is the one there."""
    description = {
        "backbone": backbone.describe(),
        "preprocess": preprocess.describe(),
        "decoder": decoder_versions(),
        "dtype": "float16",
    }
    return store.register(name, config.view, description, backbone.layers)


def _rank() -> tuple[int, int]:
    """Return rank and number of ranks as torchrun sets them."""
    texts = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    try:
        rank, world = map(int, texts)
    except ValueError as err:
        raise ConfigError(
            f"'RANK' and 'WORLD_SIZE' must be whole numbers, got {texts}; start with torchrun."
        ) from err
    if not 0 <= rank < world:
        raise ConfigError(f"'RANK' must lie in [0, {world}), got {rank}; start with torchrun.")
    return rank, world
