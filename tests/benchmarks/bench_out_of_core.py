"""Training on a store ten times larger than ``max_memory``, against the same rows in RAM."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.feature_stores import write_store
from benchmarks.paired import cost, interleave, one_thread, report

import heads

N_ROWS, N_LAYERS, WIDTH = 65_536, 2, 768
LIMIT = N_ROWS * N_LAYERS * WIDTH * 2 // 10
HEADS: dict[str, Callable[[], Any]] = {
    "HSICProbe, 1 epoch": lambda: heads.HSICProbe(max_iter=1, device="cpu"),
    "RINEHead, 1 epoch": lambda: heads.RINEHead(
        n_layers=N_LAYERS, proj_dim=64, nproj=1, device="cpu"
    ),
}


def test_time_per_sample() -> None:
    with tempfile.TemporaryDirectory() as folder, one_thread():
        store = write_store(Path(folder) / "s.zarr", n_rows=N_ROWS, n_layers=N_LAYERS, width=WIDTH)
        ds = store.select()
        X = ds["cls"].values.reshape(N_ROWS, -1).astype(np.float32)
        y = ds["label"].values

        def from_store(make: Callable[[], Any]) -> Callable[[], object]:
            return lambda: heads.fit(make(), ds, max_memory=LIMIT)

        def from_memory(make: Callable[[], Any]) -> Callable[[], object]:
            return lambda: make().fit(X, y)

        rows = [
            cost(
                f"{name} | float32 rows in RAM",
                *interleave(from_store(make), from_memory(make), rounds=3),
                wanted="<= 1.3",
            )
            for name, make in HEADS.items()
        ]
    size = N_ROWS * N_LAYERS * WIDTH * 2 / 2**20
    report(f"Time of training, store of {size:,.0f} MiB, {LIMIT / 2**20:,.0f} MiB of memory", rows)
