"""Killing extractions at random moments, while a reader looks on all the time."""

import json
import multiprocessing
import os
import time

import numpy as np
import pytest
from support.extraction import assert_same_content, rows_by_path, run_tiny, run_tiny_quietly
from support.images import write_tree

import featstore
from featstore.errors import ConfigError, StoreNotFoundError
from featstore.verify import verify

N_KILLS = int(os.environ.get("FEATSTORE_KILLS", "25"))
"""200 for the full experiment; fewer by default to keep the suite quick."""
N_IMAGES = 700
DELAY_MS = 2
N_BLOCKS = 12


@pytest.fixture(scope="module")
def context():
    forkserver = multiprocessing.get_context("forkserver")
    forkserver.set_forkserver_preload(["support.extraction"])
    return forkserver


def watch(folder, reference_store, current, stop, failures, n_looks):
    """Read everything that can be selected of the current store, again and again."""
    reference = rows_by_path(featstore.open(reference_store).select())
    while not stop.is_set():
        try:
            found = rows_by_path(featstore.open(f"{folder}/{current.value}.zarr").select())
        except (StoreNotFoundError, ConfigError):
            continue  # nothing there yet
        failures.value += sum(reference.get(key) != row for key, row in found.items())
        n_looks.value += 1
        time.sleep(0.005)


def n_committed(store):
    """Count the committed blocks of a store that may not exist."""
    return len(list(store.glob("features/*/*/*/*/commits/0*.json")))


def time_child(context, args):
    """Extract in a child process that lives; return how long it took."""
    start = time.monotonic()
    child = context.Process(target=run_tiny_quietly, args=args)
    child.start()
    child.join()
    assert child.exitcode == 0
    return time.monotonic() - start


def test_extract__survives_random_kills(tmp_path, context):
    images = write_tree(tmp_path / "images", N_IMAGES)
    undisturbed = tmp_path / "reference.zarr"
    options = {"backbone": f"tiny:{DELAY_MS}"}
    duration = time_child(context, (str(images), str(undisturbed), options))
    stop, current = context.Event(), context.Value("i", 0)
    failures, n_looks = context.Value("i", 0), context.Value("i", 0)
    reader = context.Process(
        target=watch,
        args=(str(tmp_path), str(undisturbed), current, stop, failures, n_looks),
        daemon=True,
    )
    reader.start()
    rng = np.random.default_rng(0)
    n_killed = n_partial = 0
    while n_killed < N_KILLS:
        store = tmp_path / f"{current.value}.zarr"
        child = context.Process(target=run_tiny_quietly, args=(str(images), str(store), options))
        child.start()
        n_before = n_committed(store)
        child.join(rng.uniform(0, duration))
        if child.is_alive():
            child.kill()
            child.join()
            n_killed += 1
            n_partial += 0 < n_committed(store) < N_BLOCKS
            if n_committed(store) == n_before:  # a busier machine needs more time to get anywhere
                duration *= 1.1
        else:  # done before the kill: the result must be whole, and the next store begins
            assert child.exitcode == 0
            assert_same_content(undisturbed, store)
            current.value += 1
            duration *= 0.9
    store = tmp_path / f"{current.value}.zarr"
    run_tiny(images, store, **options)
    stop.set()
    reader.join(30)
    assert reader.exitcode == 0
    assert n_looks.value > 0
    assert n_partial > 0  # kills that left some blocks, not none or all
    assert failures.value == 0
    assert_same_content(undisturbed, store)
    ids = featstore.open(store).select()["sample_id"].values
    assert len(ids) == len(set(ids)) == 4 * N_IMAGES
    assert not [f for f in verify(featstore.open(store)) if f.kind == "damaged"]


def test_extract__resuming_does_not_repeat_blocks(tmp_path, context):
    images = write_tree(tmp_path / "images", N_IMAGES)
    store = tmp_path / "s.zarr"
    args = (str(images), str(store), {"backbone": "tiny:20"})
    child = context.Process(target=run_tiny_quietly, args=args)
    child.start()
    commits = store / "features/tiny/clean/a"
    deadline = time.monotonic() + 60
    while not list(commits.glob("*/commits/0*.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    child.kill()
    child.join()
    marked = {path: path.stat().st_mtime_ns for path in commits.glob("*/commits/0*.json")}
    n_rows = sum(json.loads(path.read_bytes())["n_rows"] for path in marked)
    summary = run_tiny(images, store)
    assert 0 < len(marked) < N_BLOCKS
    assert summary.n_present == n_rows
    assert summary.n_extracted + summary.n_present == 4 * N_IMAGES
    assert all(path.stat().st_mtime_ns == moment for path, moment in marked.items())


def run_rank(images, store, rank, world, barrier):
    """Entry point of one of several processes that start at the same moment."""
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world))
    barrier.wait(60)
    run_tiny_quietly(images, store, {})


def test_extract__ranks_may_start_together_on_a_new_store(tmp_path, context):
    images = write_tree(tmp_path / "images", 150)
    run_tiny(images, tmp_path / "one.zarr")
    store, world = tmp_path / "new" / "three.zarr", 3
    barrier = context.Barrier(world)
    ranks = [
        context.Process(target=run_rank, args=(str(images), str(store), rank, world, barrier))
        for rank in range(world)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
    assert [process.exitcode for process in ranks] == [0] * world
    assert_same_content(tmp_path / "one.zarr", store)
