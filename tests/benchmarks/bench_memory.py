"""Peak memory of training on a store five times larger than ``max_memory``, in a fresh process.

Growth is counted from the moment before `heads.fit`, when libraries are loaded and the selection is
made. ``total`` is the peak of resident memory with the mapped chunk files in it, as the kernel
records it; ``anonymous`` leaves the pages of files out, which the kernel takes back at need, and is
sampled.
"""

import json
import subprocess
import sys
import tempfile
import threading
import warnings
from pathlib import Path

from benchmarks.feature_stores import write_store
from benchmarks.paired import Row, report

import featstore
import heads

N_LAYERS, WIDTH = 8, 1024
MAX_MEMORY = 256 * 2**20
N_ROWS = 5 * MAX_MEMORY // (N_LAYERS * WIDTH * 2)
HEADS = {
    "HSICProbe": lambda: heads.HSICProbe(max_iter=1, device="cpu"),
    "LogisticProbe": lambda: heads.LogisticProbe(max_iter=4, C=1e-4),
}


def test_peak_memory_of_training() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "s.zarr"
        write_store(store, n_rows=N_ROWS, n_layers=N_LAYERS, width=WIDTH)
        for name in HEADS:
            command = [sys.executable, "-m", "benchmarks.bench_memory", name, str(store)]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=TESTS)
            growth = json.loads(done.stdout)
            rows += [_row(name, "total", growth), _row(name, "anonymous", growth)]
    size = N_ROWS * N_LAYERS * WIDTH * 2 / 2**20
    report(f"Peak memory of heads.fit on a store of {size:,.0f} MiB", rows)


TESTS = Path(__file__).resolve().parents[1]


def _row(name: str, kind: str, growth: dict[str, int]) -> Row:
    grown, limit = growth[kind], MAX_MEMORY
    texts = (f"{value / 2**20:.0f} MiB" for value in (grown, limit))
    return Row(f"{name}, {kind} | max_memory", *texts, grown / limit, "<= 1.0")


def train(name: str, path: str) -> dict[str, int]:
    """Train on the store; return the growth of resident memory in bytes."""
    warnings.simplefilter("ignore")  # a few passes do not converge
    ds = featstore.open(path).select()
    heads.fit(HEADS[name](), ds.isel(sample=slice(1024), layer=slice(1)))  # loads libraries
    before, anonymous, over = resident(), [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.002):
            anonymous.append(resident()["RssAnon"])

    watcher = threading.Thread(target=watch)
    watcher.start()
    Path("/proc/self/clear_refs").write_text("5")  # the recorded peak starts anew
    heads.fit(HEADS[name](), ds, max_memory=MAX_MEMORY)
    over.set()
    watcher.join()
    return {
        "total": resident()["VmHWM"] - before["VmRSS"],
        "anonymous": max(anonymous) - before["RssAnon"],
    }


def resident() -> dict[str, int]:
    """Return the kernel's account of this process's memory, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if " kB" in line}


if __name__ == "__main__":
    print(json.dumps(train(*sys.argv[1:])))
