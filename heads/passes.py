"""The one loop that trains heads: passes over batches, shared by every head that asks for them.

A head does not read data. It says which pass it wants next (`Pass`), is handed the batches of
that pass, and decides at its end whether it wants another. Heads that want the same pass are fed
by one reading of the data, and what they compute from the batch alone (an input kernel, a Gram
matrix) they put into ``shared``, where the next head finds it. `ArrayBatches` feeds arrays; the
store's counterpart is in `heads.fitting`. Estimators never see anything but NumPy arrays.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Batches = Iterator[tuple[Floats, NDArray[np.intp]]]
Shared = dict[Any, Any]


@dataclass(frozen=True)
class Pass:
    """One reading of all rows.

    Parameters
    ----------
    batch_size
        Rows per batch; the last batch may be smaller.
    seed
        ``None`` reads rows in stored order; an int shuffles them, and equal seeds and epochs give
        equal orders.
    epoch
        Number of the pass, so that each epoch has its own order.
    """

    batch_size: int = 4096
    seed: int | None = None
    epoch: int = 0

    def rng(self) -> np.random.Generator:
        """Return the generator that orders the rows of a shuffled pass."""
        return np.random.default_rng((self.seed or 0, self.epoch))


class BatchSource(Protocol):
    """Rows that can be read any number of times.

    ``y`` comes as indices into ``classes``.
    """

    n_samples: int
    n_features: int
    classes: NDArray[Any]
    workspace: int
    """Bytes that a head may hold besides its own weights and the batch at hand."""

    def batches(self, reading: Pass) -> Batches:
        """Yield ``(X, y)`` of the given pass: X float32 or float64 (n, n_features)."""


class Trainer(Protocol):
    """A head, or several heads of one kind stacked together, while they are being trained."""

    members: Sequence[Any]
    """The heads, in the order of the columns of `scores`."""

    @property
    def validates(self) -> bool:
        """Whether scores on validation data are wanted after the current pass."""

    def next_pass(self) -> Pass | None:
        """Return the pass wanted next, or None when training is over."""

    def consume(self, X: Floats, y: NDArray[np.intp], shared: Shared) -> None:
        """Take one batch; ``shared`` is the batch's cache, common to all trainers."""

    def scores(self, X: Floats) -> Floats:
        """Return decision values (n_rows, n_members) of the current state."""

    def end_pass(self, validation: tuple[Floats, NDArray[np.intp]] | None) -> None:
        """Close the pass; ``validation`` holds scores (n_val, n_members) and labels, or None."""

    def finish(self) -> None:
        """Write the learned attributes (``coef_``, ``classes_``, …) onto the members."""


WORKSPACE = 2**29
"""Workspace of a source that sets no limit of its own, in bytes."""


class ArrayBatches:
    """Batches of arrays in memory.

    Parameters
    ----------
    X
        Features (n_samples, n_features), float32 or float64; memory maps are read batch by batch.
    y
        Labels (n_samples,) of any sortable type.
    classes
        The sorted labels that exist; found in `y` if absent.
    """

    def __init__(self, X: Floats, y: NDArray[Any], classes: NDArray[Any] | None = None) -> None:
        self.classes = np.unique(y) if classes is None else np.asarray(classes)
        self.n_samples, self.n_features = X.shape
        self.workspace = WORKSPACE
        self._X, self._y = X, np.searchsorted(self.classes, y)

    def batches(self, reading: Pass) -> Batches:
        """Yield the batches of one pass.

        Parameters
        ----------
        reading
            Batch size and order.

        Yields
        ------
        tuple
            ``X`` (n, n_features) and ``y`` (n,), indices into `classes`.
        """
        order = None if reading.seed is None else reading.rng().permutation(self.n_samples)
        for start in range(0, self.n_samples, reading.batch_size):
            stop = min(start + reading.batch_size, self.n_samples)
            rows: Any = slice(start, stop) if order is None else order[start:stop]
            yield self._X[rows], self._y[rows]


def train(
    heads: Sequence[Any],
    source: BatchSource,
    validation: BatchSource | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Train heads together; each distinct pass over the data is read once.

    Parameters
    ----------
    heads
        Estimators with a class method ``trainers(heads, source) -> list[Trainer]``.
    source
        The rows to learn from.
    validation
        Rows that are scored after every pass for the trainers that select on them.
    progress
        Called with the number of the reading (from 1) and the rows read in it so far.

    Notes
    -----
    Cost: the number of *distinct* passes, not the number of heads, decides how often data are read.
    A head that is ahead of the others, as it needs no statistics first, waits for them.
    """
    kinds = list(dict.fromkeys(type(head) for head in heads))
    trainers: list[Trainer] = []
    for kind in kinds:
        trainers += kind.trainers([head for head in heads if type(head) is kind], source)
    reading_number = 0
    while wanted := _group_by_pass(trainers):
        for reading in _due(wanted):
            members = wanted[reading]
            reading_number += 1
            n_read = 0
            for X, y in source.batches(reading):
                shared: Shared = {}
                for trainer in members:
                    trainer.consume(X, y, shared)
                n_read += len(y)
                if progress is not None:
                    progress(reading_number, n_read)
            _close(members, validation)
    for trainer in trainers:
        trainer.finish()


def _group_by_pass(trainers: Sequence[Trainer]) -> dict[Pass, list[Trainer]]:
    """Return the trainers that are not finished, by the pass they want next."""
    wanted: dict[Pass, list[Trainer]] = {}
    for trainer in trainers:
        if (reading := trainer.next_pass()) is not None:
            wanted.setdefault(reading, []).append(trainer)
    return wanted


def _due(wanted: Iterable[Pass]) -> list[Pass]:
    """Choose the passes to read now: those that no trainer lagging behind will want later.

    Passes in stored order (statistics) come before the epochs that follow them, and of one
    sequence of epochs the first comes first.
    """
    readings = list(wanted)
    if stored := [reading for reading in readings if reading.seed is None]:
        return stored
    first: dict[tuple[int, int | None], Pass] = {}
    for reading in sorted(readings, key=lambda reading: reading.epoch):
        first.setdefault((reading.batch_size, reading.seed), reading)
    return list(first.values())


def _close(trainers: Sequence[Trainer], validation: BatchSource | None) -> None:
    """End the pass of all trainers, scoring the validation rows once for those that want it."""
    if validation is None:
        for trainer in trainers:
            trainer.end_pass(None)
        return
    wanting = [trainer for trainer in trainers if trainer.validates]
    scores: list[list[Floats]] = [[] for _ in wanting]
    labels: list[NDArray[np.intp]] = []
    if wanting:
        for X, y in validation.batches(Pass()):
            labels.append(y)
            for collected, trainer in zip(scores, wanting, strict=True):
                collected.append(trainer.scores(X))
    for trainer in trainers:
        if trainer.validates:
            own = np.concatenate(scores[wanting.index(trainer)])
            trainer.end_pass((own, np.concatenate(labels)))
        else:
            trainer.end_pass(None)
