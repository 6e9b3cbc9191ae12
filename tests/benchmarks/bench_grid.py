"""A grid of 121 λ through `heads.fit_many` against 121 fits one after the other.

Of the single fits only a sample is run, spread over the grid; its time is scaled to 121.
"""

import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from benchmarks.feature_stores import write_store
from benchmarks.paired import Timing, interleave, report, speed

import heads
from heads import store_batches
from heads.hsic import training as hsic_training
from heads.loop import passes as passes
from heads.loop.batch_source import Pass, RowBatch

N_ROWS, N_LAYERS, WIDTH = 2048, 13, 768
EPOCHS, BATCH = 1, 128
LAMBDAS = np.linspace(0, 1000, 11)
SAMPLED = slice(10, None, 20)
SAME_HEAD = 1e-5  # of the largest weight: float32 sums in another order over a few steps


@pytest.fixture(scope="module")
def ds() -> Iterator[object]:
    with tempfile.TemporaryDirectory() as folder:
        store = write_store(Path(folder) / "s.zarr", n_rows=N_ROWS, n_layers=N_LAYERS, width=WIDTH)
        yield store.select()


def grid(**options: Any) -> list[heads.HSICProbe]:
    fixed = {"max_iter": EPOCHS, "batch_size": BATCH, "device": "cpu", **options}
    return [heads.HSICProbe(lambda_x=x, lambda_y=y, **fixed) for x, y in product(LAMBDAS, LAMBDAS)]


def test_heads_of_a_grid_equal_single_heads(ds: object) -> None:
    # With the default, an attached bandwidth, rounding decides which pair is the median, and runs
    # drift apart; detached, they must not.
    options = {"sigma_grad": "detached"}
    together = heads.fit_many(grid(**options)[SAMPLED], ds)
    for head, single in zip(together, grid(**options)[SAMPLED], strict=True):
        heads.fit(single, ds)
        tolerance = SAME_HEAD * np.abs(single.coef_).max()
        np.testing.assert_allclose(head.coef_, single.coef_, atol=tolerance)


def test_grid_of_lambdas(ds: object) -> None:
    n_heads, n_sampled = len(grid()), len(grid()[SAMPLED])
    ours, sample = interleave(
        lambda: heads.fit_many(grid(), ds),
        lambda: [heads.fit(head, ds) for head in grid()[SAMPLED]],
        rounds=3,
        warm_up=False,
    )
    scale = n_heads / n_sampled
    single = Timing(*([seconds * scale for seconds in clock] for clock in sample))
    size = {"amount": n_heads, "unit": "heads/s"}
    name = f"fit_many | {n_heads} x fit (scaled from {n_sampled})"
    report(
        f"{n_heads} HSIC probes, {EPOCHS} epoch of {N_ROWS:,} rows x {N_LAYERS * WIDTH:,}",
        [speed(name, ours, single, **size, wanted=">= 3")],
    )


def test_grid_reads_and_computes_every_batch_once(ds: object) -> None:
    source = store_batches.StoreBatches(ds)
    reads: list[int] = []

    original = source.batches

    def spied(reading: Pass) -> Iterator[RowBatch]:
        for batch in original(reading):
            reads.append(len(batch.y))
            yield batch

    kernel = mock.patch.object(hsic_training, "center_kernel", wraps=hsic_training.center_kernel)
    with mock.patch.object(source, "batches", spied), kernel as input_kernel:
        passes.train(grid(), source)
    assert sum(reads) == EPOCHS * N_ROWS
    assert input_kernel.call_count == len(reads)
