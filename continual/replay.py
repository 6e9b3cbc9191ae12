"""Rows of the present domain with rows of a memory at the end of every batch."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count

import numpy as np
from numpy.typing import NDArray

from heads.loop.batch_source import BatchSource, Labels, Pass, RowBatch, Target

CYCLES = 10**6
"""Most cycles through a memory within one epoch, so that no two epochs have one order."""


class ReplayBatches:
    """A source for training on a domain with replay.

    In shuffled passes every batch of the present rows is followed by a batch of the memory, whose
    loss is added (`RowBatch.parts`): the published two-loss step. The memory is cycled through as
    long as there are present rows. Passes in stored order read both once, one behind the other, so
    that exact heads learn from the present rows and the memory together.

    Parameters
    ----------
    present
        Rows of the domain being learned.
    memory
        Rows kept of earlier domains, with the same layers.
    memory_batch_size
        Rows of the memory per step, at least 1; fewer where the memory holds fewer.

    Raises
    ------
    ValueError
        If the layers differ or `memory_batch_size` is not positive.
    """

    def __init__(
        self, present: BatchSource, memory: BatchSource, memory_batch_size: int = 32
    ) -> None:
        if present.layers != memory.layers or memory_batch_size < 1:
            raise ValueError(
                f"replay needs the same layers and at least one row per step, got layers of "
                f"{present.layers} and {memory.layers} features and {memory_batch_size} rows."
            )
        self._present, self._memory, self._size = present, memory, memory_batch_size
        self.layers, self.layer_names = present.layers, present.layer_names
        self.n_features, self.workspace = present.n_features, present.workspace
        self.n_samples = present.n_samples + memory.n_samples
        self.targets: Mapping[str, Target] = {
            name: _joined(target, memory.targets[name])
            for name, target in present.targets.items()
            if name in memory.targets
        }
        self._labels = Labels(self.targets["label"])
        self.classes = self._labels.classes

    def counts(self) -> NDArray[np.intp]:
        """Return how many rows each class has, present and kept."""
        return self._labels.counts()

    def batches(self, reading: Pass) -> Iterator[RowBatch]:
        """Yield the batches of one pass.

        Parameters
        ----------
        reading
            Batch size, of the present rows, and order.

        Yields
        ------
        RowBatch
            Present rows and replayed ones; in stored order none is marked as replayed.
        """
        if reading.seed is None:
            for batch in self._present.batches(reading):
                yield batch._replace(y=self._labels.at(batch.index))
            for batch in self._memory.batches(reading):
                yield self._shifted(batch)
            return
        replayed = self._cycled(reading)
        for batch in self._present.batches(reading):
            kept = next(replayed)
            index = np.concatenate((batch.index, kept.index))
            X = np.concatenate((batch.X, kept.X))
            yield RowBatch(X, self._labels.at(index), index, len(kept.index))

    def _cycled(self, reading: Pass) -> Iterator[RowBatch]:
        """Yield batches of the memory without end, each cycle in another order."""
        for cycle in count():
            epoch = reading.epoch * CYCLES + cycle
            for batch in self._memory.batches(replace(reading, batch_size=self._size, epoch=epoch)):
                yield self._shifted(batch)

    def _shifted(self, batch: RowBatch) -> RowBatch:
        """Return a batch of the memory with positions behind those of the present rows."""
        index = batch.index + self._present.n_samples
        return RowBatch(batch.X, self._labels.at(index), index)


def _joined(first: Target, second: Target) -> Target:
    """Return the target of rows one behind the other."""
    names = np.unique(np.concatenate((first.names, second.names)))
    codes = [np.searchsorted(names, own.names)[own.codes] for own in (first, second)]
    return Target(np.concatenate(codes).astype(np.min_scalar_type(-len(names) - 1)), names)
