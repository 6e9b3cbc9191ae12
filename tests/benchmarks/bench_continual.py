"""A study with two workers against one, and the memory of learners that stream."""

import json
import subprocess
import sys
import tempfile
import threading
from itertools import count
from pathlib import Path

from benchmarks.bench_memory import TESTS, resident
from benchmarks.paired import Row, interleave, report, speed
from joblib.externals.loky import get_reusable_executor
from support.streams import PROBE, config

import featstore
from continual.config import ContinualConfig, StreamRun
from continual.domains import domains_of, steps_of
from continual.learners import LEARNERS
from continual.protocol import run_continual
from featstore.simulate import simulate_store
from heads.experiments.config import HeadConfig

N_SMALL, N_LARGE = 80_000, 320_000
MAX_MEMORY = "16MB"
STREAMING = {
    "merge": HeadConfig("ridge_probe"),
    "replay": HeadConfig("hsic_probe", {**PROBE, "max_iter": 1}),
    "fine_tune": HeadConfig("hsic_probe", {**PROBE, "max_iter": 1}),
}


def test_workers() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = simulate_store(f"{folder}/s.zarr", datasets="abc", n_samples=240, n_features=64)
        numbers = count()

        def study(n_jobs: int) -> None:
            run_continual(
                config(
                    store, Path(folder, str(next(numbers))), n_orders=None, seeds=list(range(5)),
                    learners=["replay"], selections=["hgr", "random", "herding", "k_center"],
                    head=HeadConfig("hsic_probe", {**PROBE, "max_iter": 40}), n_jobs=n_jobs,
                )
            )  # fmt: skip
            get_reusable_executor().shutdown()

        sides = interleave(lambda: study(2), lambda: study(1), rounds=2, warm_up=False)
        n_runs = 6 * 5 * 4
        row = speed("two workers | one", *sides, amount=n_runs, unit="runs/s", wanted=">= 1.7")
        report(f"Study of {n_runs} runs: 6 orders, 5 seeds, 4 selections, 3 domains", [row])


def test_memory_of_streaming_learners() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for n in (N_SMALL, N_LARGE):
            simulate_store(
                f"{folder}/{n}.zarr", datasets="ab", splits=["train"], n_samples=n // 2,
                n_layers=2, n_features=128,
            )  # fmt: skip
        for name in STREAMING:
            small, large = (_measured(name, f"{folder}/{n}.zarr") for n in (N_SMALL, N_LARGE))
            texts = (f"{value / 2**20:.0f} MiB" for value in (large, small))
            label = f"{name}, {N_LARGE:,} | {N_SMALL:,} rows"
            rows.append(Row(label, *texts, large / small, "<= 1.25"))
    report(f"Growth of memory while two domains are learned, reader of {MAX_MEMORY}", rows)


def _measured(name: str, store: str) -> int:
    command = [sys.executable, "-m", "benchmarks.bench_continual", name, store]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=TESTS)
    return int(json.loads(done.stdout))


def learn(name: str, path: str) -> int:
    """Learn two domains; return the growth of resident memory, without files, in bytes."""
    study = ContinualConfig(
        path, ["a", "b"], STREAMING[name], "unused", keep=[100], max_memory=MAX_MEMORY
    )
    run = StreamRun(("a", "b"), 0, name, "reservoir", 100)
    store = featstore.open(path)
    domains = domains_of(study, store, run.order, "train")
    steps = steps_of(study, run, domains)
    warm = LEARNERS[name](study, run, store, domains)
    for step in steps:
        warm.learn(step._replace(rows=step.rows[:2000]))
    learner = LEARNERS[name](study, run, store, domains)
    before, found, over = resident()["RssAnon"], [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.002):
            found.append(resident()["RssAnon"])

    watcher = threading.Thread(target=watch)
    watcher.start()
    for step in steps:
        learner.learn(step)
    over.set()
    watcher.join()
    return max(found) - before


if __name__ == "__main__":
    print(json.dumps(learn(*sys.argv[1:])))
