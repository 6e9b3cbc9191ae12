"""Rows of the present domain with rows of a memory at the end of every batch."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heads.loop.batch_source import (
    BatchSource,
    Labels,
    Lesson,
    Pass,
    RowBatch,
    Target,
    Targets,
    Term,
)

CYCLES = 10**6
"""Most cycles through a memory within one epoch, so that no two epochs have one order; half of
them where rows are drawn twice."""

Replayed = Iterator[tuple[RowBatch, Term]]


class ReplayBatches:
    """A source for training on a domain with replay.

    In shuffled passes every batch of the present rows is followed by a batch of the memory, whose
    loss is added as a `Term` of its own: the published two-loss step. The memory is cycled through
    as long as there are present rows. Passes in stored order read both once, one behind the other,
    so that exact heads learn from the present rows and the memory together.

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
        If the layers differ, `memory_batch_size` is not positive, or the memory is empty.
    """

    def __init__(
        self, present: BatchSource, memory: BatchSource, memory_batch_size: int = 32
    ) -> None:
        n_rows = min(memory_batch_size, memory.n_samples)
        if present.layers != memory.layers or n_rows < 1:
            raise ValueError(
                f"replay needs the same layers and at least one row per step, got layers of "
                f"{present.layers} and {memory.layers} features and {n_rows} rows."
            )
        self._present, self._memory, self._size = present, memory, memory_batch_size
        self.teaches = bool(getattr(present, "teaches", False))
        self.layers, self.layer_names = present.layers, present.layer_names
        self.n_features, self.workspace = present.n_features, present.workspace
        self.n_samples = present.n_samples + memory.n_samples
        common = [name for name in present.targets if name in memory.targets]
        both = present.targets, memory.targets
        self.targets: Mapping[str, Target] = Targets(
            {name: partial(_joined, name, *both) for name in common}
        )
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
            Present rows and replayed ones, a term each; in stored order there are no terms.
        """
        if reading.seed is None:
            for batch in self._present.batches(reading):
                yield batch._replace(y=self._labels.at(batch.index))
            for batch in self._memory.batches(reading):
                yield self._shifted(batch)
            return
        replayed = self._replayed(reading)
        for batch in self._present.batches(reading):
            parts = batch.parts() + [next(drawn) for drawn in replayed]
            rows, terms = zip(*parts, strict=True)
            index = np.concatenate([part.index for part in rows])
            X = np.concatenate([part.X for part in rows])
            yield RowBatch(X, self._labels.at(index), index, terms)

    def _replayed(self, reading: Pass) -> list[Replayed]:
        """Return what follows the present rows, batch by batch without end."""
        return [((rows, Term(len(rows.index))) for rows in self._cycled(reading))]

    def _cycled(self, reading: Pass, first: int = 0) -> Iterator[RowBatch]:
        """Yield batches of the memory without end, each cycle in another order."""
        for cycle in count(first):
            epoch = reading.epoch * CYCLES + cycle
            for batch in self._memory.batches(replace(reading, batch_size=self._size, epoch=epoch)):
                yield self._shifted(batch)

    def _shifted(self, batch: RowBatch) -> RowBatch:
        """Return a batch of the memory with positions behind those of the present rows."""
        index = batch.index + self._present.n_samples
        return RowBatch(batch.X, self._labels.at(index), index)


class DarkReplayBatches(ReplayBatches):
    """A source for training on a domain with replay of rows and of their logits: DER++.

    In shuffled passes every batch of the present rows is followed by two of the memory, drawn
    independently: one with the head's own loss, weighted, and one with the squared differences of
    its logits from those kept instead (`Lesson`) ::

        loss(present) + beta · loss(memory) + alpha · mean (logits of memory' - those kept)²

    Passes in stored order are those of `ReplayBatches`.

    Parameters
    ----------
    present, memory, memory_batch_size
        As for `ReplayBatches`.
    logits
        Decision values (memory.n_samples,) of the memory's rows, in its order, by the head that
        had just learned their domain.
    alpha, beta
        Weights >= 0. The defaults are ours: the authors' code has settings with alpha between 0.1
        and 1 and beta 0.5 or 1 (MNIST, CIFAR-10), these two for rotated MNIST.

    Raises
    ------
    ValueError
        If the layers differ, `memory_batch_size` is not positive, a weight is negative, there are
        other than two classes, or not as many finite logits as rows of the memory.

    Notes
    -----
    Published logits are those of the moment at which a row entered the memory during training;
    here rows enter when their domain has been learned. With ``alpha=0, beta=1`` the steps are
    those of `ReplayBatches`.

    References
    ----------
    Buzzega, Boschini, Porrello, Abati, Calderara, "Dark experience for general continual
    learning: a strong, simple baseline", NeurIPS 2020, equation 6.
    """

    def __init__(
        self,
        present: BatchSource,
        memory: BatchSource,
        memory_batch_size: int = 32,
        *,
        logits: NDArray[np.floating[Any]],
        alpha: float = 0.5,
        beta: float = 0.5,
    ) -> None:
        super().__init__(present, memory, memory_batch_size)
        logits = np.asarray(logits)
        if logits.shape != (memory.n_samples,) or not np.isfinite(logits).all():
            raise ValueError(
                f"'logits' must be a finite decision value for each of {memory.n_samples} rows of "
                f"the memory, got shape {logits.shape}; keep those of two classes."
            )
        if min(alpha, beta) < 0 or len(self.classes) != 2:
            raise ValueError(
                f"'alpha' and 'beta' must be >= 0 and the classes two, got {alpha!r}, {beta!r} and "
                f"{self.classes.tolist()}."
            )
        self._logits, self._alpha, self._beta, self.teaches = logits, alpha, beta, True

    def _replayed(self, reading: Pass) -> list[Replayed]:
        own = ((rows, Term(len(rows.index), self._beta)) for rows in self._cycled(reading))
        kept = ((rows, self._kept(rows)) for rows in self._cycled(reading, CYCLES // 2))
        return [own, kept]

    def _kept(self, rows: RowBatch) -> Term:
        """Return the term that keeps the logits of rows of the memory."""
        logits = self._logits[rows.index - self._present.n_samples]
        return Term(len(logits), 0.0, Lesson(logits, self._alpha))


def _joined(name: str, *targets: Mapping[str, Target]) -> Target:
    """Return one of the targets of rows one behind the other."""
    first, second = (own[name] for own in targets)
    names = np.unique(np.concatenate((first.names, second.names)))
    codes = [np.searchsorted(names, own.names)[own.codes] for own in (first, second)]
    return Target(np.concatenate(codes).astype(np.min_scalar_type(-len(names) - 1)), names)
