"""The one extraction loop: read ahead, run the backbone, write blocks, all at the same time.

Reader threads decode into pixel batches a bounded number of steps ahead; the calling thread feeds
the backbone, which may work asynchronously; a writer thread stores whole blocks. At any time up to
`AHEAD` + 1 pixel batches wait and two are with the backbone; one block is being filled and up to
`WRITES` are being written or wait for it.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from featstore import schema
from featstore.backbones.protocol import Backbone, Features
from featstore.errors import FeatstoreError
from featstore.feature_group import Block, FeatureGroup
from featstore.images.preprocess import Preprocess
from featstore.images.reading import ReadImage, read_image

AHEAD = 3
WRITES = 2
LARGEST_HALF = 65_504.0


class Job(NamedTuple):
    """Rows of one block to extract, as places in the block, and their files."""

    group: FeatureGroup
    number: int
    rows: Sequence[int]
    paths: Sequence[Path]


class PixelBatch(NamedTuple):
    """Some rows of a job on their way to the backbone."""

    job: Job
    start: int
    pixels: NDArray[np.uint8]
    reading: "list[Future[ReadImage]]"


@dataclass(frozen=True)
class Settings:
    """How the loop runs; none of it changes a feature on the CPU.

    Parameters
    ----------
    batch_size
        Images per forward pass.
    n_readers
        Threads that read and decode.
    provenance
        Recorded in every marker.
    """

    batch_size: int
    n_readers: int
    provenance: Mapping[str, Any]


def run(
    jobs: Iterable[Job],
    backbone: Backbone,
    preprocess: Preprocess,
    settings: Settings,
    on_images: Callable[[int], None],
) -> None:
    """Extract jobs, one after the other, everything overlapped.

    Parameters
    ----------
    jobs
        Blocks to extract.
    backbone
        Makes features of pixels.
    preprocess
        Makes pixels of files.
    settings
        Batch size, threads, provenance.
    on_images
        Called with the number of images whose features have arrived.

    Raises
    ------
    FeatstoreError
        If a block cannot be written; what was committed before stays.
    """
    readers = ThreadPoolExecutor(settings.n_readers, "featstore-read")
    writer = ThreadPoolExecutor(1, "featstore-write")
    assembly = _Assembly(writer, settings.provenance)
    running: deque[tuple[PixelBatch, list[ReadImage], Callable[[], Features]]] = deque()
    try:
        for batch in _read_ahead(jobs, preprocess, settings.batch_size, readers):
            images = [future.result() for future in batch.reading]
            running.append((batch, images, backbone.submit(batch.pixels[: len(images)])))
            if len(running) > 1:
                on_images(assembly.add(*running.popleft()))
        while running:
            on_images(assembly.add(*running.popleft()))
        assembly.finish()
    finally:
        readers.shutdown(cancel_futures=True)
        writer.shutdown(cancel_futures=True)


def _read_ahead(
    jobs: Iterable[Job], preprocess: Preprocess, batch_size: int, readers: ThreadPoolExecutor
) -> Iterator[PixelBatch]:
    """Yield pixel batches in order, while the next ones are being read."""
    waiting: deque[PixelBatch] = deque()
    shape = (batch_size, preprocess.crop, preprocess.crop, 3)
    for job in jobs:
        for start in range(0, len(job.paths), batch_size):
            pixels = np.zeros(shape, np.uint8)
            reading = [
                readers.submit(read_image, path, preprocess, out)
                for path, out in zip(job.paths[start : start + batch_size], pixels, strict=False)
            ]
            waiting.append(PixelBatch(job, start, pixels, reading))
            if len(waiting) > AHEAD:
                yield waiting.popleft()
    yield from waiting


class _Assembly:
    """Puts batches of features together to blocks and hands these to the writer."""

    def __init__(self, writer: ThreadPoolExecutor, provenance: Mapping[str, Any]) -> None:
        self._writer, self._provenance = writer, provenance
        self._writes: deque[Future[None]] = deque()
        self._block: Block | None = None

    def add(
        self, batch: PixelBatch, images: Sequence[ReadImage], wait: Callable[[], Features]
    ) -> int:
        """Take one batch; return its number of images."""
        job, n = batch.job, len(images)
        features = {array: values[:n] for array, values in wait().items()}
        if batch.start == 0:
            self._block = job.group.draft(job.number)
        assert self._block is not None
        rows = np.asarray(job.rows[batch.start : batch.start + n])
        bad = {i: image.reason for i, image in enumerate(images) if image.reason}
        bad |= {i: why for i, why in _not_representable(features).items() if i not in bad}
        for array, values in features.items():
            stored = self._block.features[array]
            assert stored.shape[1:] == values.shape[1:]
            with np.errstate(over="ignore"):
                stored[rows] = values
            stored[rows[list(bad)]] = np.nan
        ids = b"".join(image.sample_id for image in images)
        self._block.sample_ids[rows] = np.frombuffer(ids, np.uint8).reshape(n, -1)
        self._block.facts[rows] = [_facts(image) for image in images]
        for row in rows:
            self._block.unreadable.pop(int(row), None)
        self._block.unreadable.update({int(rows[i]): why for i, why in bad.items()})
        if batch.start + n == len(job.paths):
            self._write(job.group, self._block)
        return n

    def finish(self) -> None:
        """Wait for all writes."""
        while self._writes:
            self._wait_for_write()

    def _write(self, group: FeatureGroup, block: Block) -> None:
        while len(self._writes) >= WRITES:
            self._wait_for_write()
        self._writes.append(self._writer.submit(group.write, block, self._provenance))

    def _wait_for_write(self) -> None:
        try:
            self._writes.popleft().result()
        except OSError as err:
            raise FeatstoreError(
                f"a block could not be written ({err}); everything committed is safe: mend the "
                "cause and run the same command again."
            ) from err


def _not_representable(features: Features) -> dict[int, str]:
    """Return the rows that float16 cannot hold, with the reason."""
    bad: dict[int, str] = {}
    for array, values in features.items():
        largest = np.abs(values).max(axis=(1, 2))
        for row in np.flatnonzero(~(largest <= LARGEST_HALF)):
            bad[int(row)] = f"features of {array!r} reach {largest[row]:.4g}, float16 ends at 65504"
    return bad


def _facts(image: ReadImage) -> tuple[int, ...]:
    """Return the facts of a file as the store keeps them."""
    facts = image.facts
    known = facts.format if facts.format in schema.FORMATS else "other"
    return facts.n_bytes, facts.width, facts.height, schema.FORMATS.index(known)
