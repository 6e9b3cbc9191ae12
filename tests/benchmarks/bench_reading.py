"""Scanning one layer, and shuffled epochs, against one NumPy file and against rows in RAM."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from benchmarks.feature_stores import write_store
from benchmarks.paired import interleave, one_thread, report, speed
from numpy.lib.format import open_memmap

import featstore
from featstore.widen import gather_float32

N_ROWS, WIDTH = 262_144, 1024
SCAN_BATCH, STEP_BATCH = 4096, 256
MAX_MEMORY = "64MB"
GIGABYTES = N_ROWS * WIDTH * 2 / 1e9

Batches = Iterator[tuple[Any, Any]]


class Layer(NamedTuple):
    """The same rows in a store and in one file."""

    ds: Any
    mapped: Any
    labels: Any


@pytest.fixture(scope="module")
def layer() -> Iterator[Layer]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        write_store(path / "s.zarr", n_rows=N_ROWS, n_layers=1, width=WIDTH)
        ds = featstore.open(path / "s.zarr").select()
        file = open_memmap(path / "rows.npy", "w+", np.float16, (N_ROWS, WIDTH))
        for batch in featstore.iter_batches(ds, SCAN_BATCH):
            file[batch.index] = batch.X[:, 0]
        file.flush()
        del file
        yield Layer(ds, np.load(path / "rows.npy", mmap_mode="c"), ds["label"].values)


def test_scan_of_one_layer(layer: Layer) -> None:
    starts = range(0, N_ROWS, SCAN_BATCH)

    def ours() -> None:
        for _ in featstore.iter_batches(layer.ds, SCAN_BATCH):
            pass

    def mapped_float32() -> None:
        for start in starts:
            np.asarray(layer.mapped[start : start + SCAN_BATCH], dtype=np.float32)

    def mapped_copy() -> None:
        for start in starts:
            np.array(layer.mapped[start : start + SCAN_BATCH])

    def mapped_widened() -> None:
        every = np.arange(SCAN_BATCH)
        for start in starts:
            gather_float32(layer.mapped[start : start + SCAN_BATCH], every)

    own, *others = interleave(ours, mapped_float32, mapped_widened, mapped_copy, rounds=7)
    size = {"amount": GIGABYTES, "unit": "GB/s"}
    report(
        f"Scan of one layer, {GIGABYTES:.1f} GB of float16 in the page cache",
        [
            speed(
                "float32 batches | np.memmap to float32", own, others[0], **size, wanted=">= 0.8"
            ),
            speed("float32 batches | np.memmap, our conversion", own, others[1], **size),
            speed("float32 batches | np.memmap, float16 copied", own, others[2], **size),
        ],
    )


def test_shuffled_epoch(layer: Layer) -> None:
    in_ram = np.array(layer.mapped)
    wide = in_ram.astype(np.float32)

    def ours() -> Batches:
        batches = featstore.iter_batches(
            layer.ds, STEP_BATCH, shuffle=True, rng=0, max_memory=MAX_MEMORY
        )
        for batch in batches:
            yield batch.X[:, 0], batch.y

    def rows(values: Any) -> Batches:
        order = np.random.default_rng(0).permutation(N_ROWS)
        for start in range(0, N_ROWS, STEP_BATCH):
            index = order[start : start + STEP_BATCH]
            yield values[index].astype(np.float32, copy=False), layer.labels[index]

    sides: list[Callable[[], Batches]] = [ours, lambda: rows(in_ram), lambda: rows(wide)]
    with one_thread():
        steps = interleave(*(lambda side=side: train_epoch(side()) for side in sides), rounds=5)
    reads = interleave(*(lambda side=side: exhaust(side()) for side in sides), rounds=5)
    size = {"amount": N_ROWS / 1000, "unit": "k rows/s"}
    names = ("rows in RAM as float16", "rows in RAM as float32")
    report(
        f"Shuffled epoch, batches of {STEP_BATCH}, max_memory {MAX_MEMORY} of {GIGABYTES:.1f} GB",
        [
            speed(f"with SGD step | {names[0]}", steps[0], steps[1], **size, wanted=">= 0.8"),
            speed(f"with SGD step | {names[1]}", steps[0], steps[2], **size),
            speed(f"batches alone | {names[0]}", reads[0], reads[1], **size),
            speed(f"batches alone | {names[1]}", reads[0], reads[2], **size),
        ],
    )


def exhaust(batches: Batches) -> None:
    for _ in batches:
        pass


def train_epoch(batches: Batches) -> None:
    """Train a linear probe by plain SGD."""
    probe = torch.nn.Linear(WIDTH, 1)
    optimiser = torch.optim.SGD(probe.parameters(), lr=1e-3)
    loss = torch.nn.BCEWithLogitsLoss()
    for X, y in batches:
        optimiser.zero_grad()
        loss(probe(torch.from_numpy(X))[:, 0], torch.from_numpy(y).float()).backward()
        optimiser.step()
