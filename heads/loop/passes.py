"""The one loop that trains heads: passes over batches, shared by every head that asks for them.

A head does not read data. It says which pass it wants next (`Pass`), is handed the batches of
that pass, and decides at its end whether it wants another. Heads that want the same pass are fed
by one reading of the data, and what they compute from the batch alone (an input kernel, a Gram
matrix) they put into ``shared``, where the next head finds it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from heads.checkpoints import Checkpoint
from heads.loop.batch_source import BatchSource, Floats, Pass, RowBatch, Shared
from heads.loop.views import View, ViewedBatches

State = Mapping[str, NDArray[Any]]
"""What a trainer needs to go on later: arrays by name."""

EVERYTHING = View()


class Trainer(Protocol):
    """A head, or several heads of one kind stacked together, while they are being trained.

    One that descends along a loss of its logits may say so, ``takes_lessons = True``; see `Lesson`
    of `heads.loop.batch_source`.
    """

    members: Sequence[Any]
    """The heads, in the order of the columns of `scores`."""

    @property
    def validates(self) -> bool:
        """Whether scores on validation data are wanted after the current pass."""

    def next_pass(self) -> Pass | None:
        """Return the pass wanted next, or None when training is over."""

    def consume(self, batch: RowBatch, shared: Shared) -> None:
        """Take one batch; ``shared`` is its cache, common to all trainers with the same view."""

    def scores(self, X: Floats) -> Floats:
        """Return decision values (n_rows, n_members) of the current state."""

    def end_pass(self, validation: tuple[Floats, NDArray[np.intp]] | None) -> None:
        """Close the pass; ``validation`` holds scores (n_val, n_members) and labels, or None."""

    def state(self) -> State | None:
        """Return what is needed to go on after this pass; None if that is not worth its keep."""

    def restore(self, state: State) -> None:
        """Go on from what `state` returned, in a trainer made for equal heads and rows."""

    def finish(self) -> None:
        """Write the learned attributes (``coef_``, ``classes_``, …) onto the members."""


class Seat(NamedTuple):
    """A trainer and what it sees."""

    trainer: Trainer
    view: View


def train(
    heads: Sequence[Any],
    source: BatchSource,
    validation: BatchSource | None = None,
    *,
    views: Sequence[View] | None = None,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Train heads together; each distinct pass over the data is read once.

    Parameters
    ----------
    heads
        Estimators with a class method ``trainers(heads, source) -> list[Trainer]``.
    source
        The rows to learn from. One whose shuffled batches have lessons says ``teaches = True``.
    validation
        Rows that are scored after every pass for the trainers that select on them.
    views
        What each head sees of the rows; everything if None.
    checkpoint
        Where the state after each pass is kept; a training of the same heads on the same rows
        goes on from it.
    progress
        Called with the number of the reading (from 1) and the rows read in it so far.

    Raises
    ------
    ValueError
        If there are lessons for a head that cannot learn from them.

    Notes
    -----
    Cost: the number of *distinct* passes, not the number of heads, decides how often data are read.
    A head that is ahead of the others, as it needs no statistics first, waits for them.
    """
    chosen = list(views or [EVERYTHING] * len(heads))
    seen = {view: ViewedBatches(source, view) for view in chosen}
    seats = _seats(heads, chosen, seen)
    held_out = _as_seen(validation, seen)
    trainers = [seat.trainer for seat in seats]
    if getattr(source, "teaches", False):
        _require_students(trainers)
    if checkpoint is not None:
        checkpoint.load(trainers)
    reading_number = 0
    while wanted := _group_by_pass(seats):
        for reading in _due(wanted):
            reading_number += 1
            n_read = 0
            for batch in source.batches(reading):
                _feed(wanted[reading], batch, seen)
                n_read += len(batch.index)
                if progress is not None:
                    progress(reading_number, n_read)
            _close(wanted[reading], validation, held_out)
        if checkpoint is not None:
            checkpoint.save(trainers)
    for trainer in trainers:
        trainer.finish()


def _seats(
    heads: Sequence[Any], views: Sequence[View], seen: Mapping[View, BatchSource]
) -> list[Seat]:
    """Let each kind of head make trainers for its heads that see the same."""
    members: dict[tuple[type[Any], View], list[Any]] = {}
    for head, view in zip(heads, views, strict=True):
        members.setdefault((type(head), view), []).append(head)
    return [
        Seat(trainer, view)
        for (kind, view), own in members.items()
        for trainer in kind.trainers(own, seen[view])
    ]


def _require_students(trainers: Sequence[Trainer]) -> None:
    """Refuse heads that would not notice the lessons of a source."""
    for trainer in trainers:
        if not getattr(trainer, "takes_lessons", False):
            raise ValueError(
                f"distillation needs heads that descend along a loss of their logits, such as "
                f"HSICProbe and RINEHead, got {trainer.members[0]!r}; replay rows without their "
                f"logits instead."
            )


def _feed(seats: Sequence[Seat], batch: RowBatch, seen: Mapping[View, ViewedBatches]) -> None:
    """Hand a batch to trainers, to each as it sees it."""
    parts: dict[View, tuple[RowBatch, Shared]] = {}
    for trainer, view in seats:
        if view not in parts:
            parts[view] = seen[view].cut(batch), {}
        trainer.consume(*parts[view])


def _group_by_pass(seats: Sequence[Seat]) -> dict[Pass, list[Seat]]:
    """Return the trainers that are not finished, by the pass they want next."""
    wanted: dict[Pass, list[Seat]] = {}
    for seat in seats:
        if (reading := seat.trainer.next_pass()) is not None:
            wanted.setdefault(reading, []).append(seat)
    return wanted


def _due(wanted: Iterable[Pass]) -> list[Pass]:
    """Choose the passes to read now: those that no trainer lagging behind will want later.

    Passes in stored order (statistics) come before the epochs that follow them, and of one
    sequence of epochs the first comes first.
    """
    readings = list(wanted)
    if stored := [reading for reading in readings if reading.seed is None]:
        return stored
    first: dict[Pass, Pass] = {}
    for reading in sorted(readings, key=lambda reading: reading.epoch):
        first.setdefault(replace(reading, epoch=0), reading)
    return list(first.values())


def _as_seen(
    validation: BatchSource | None, seen: Mapping[View, ViewedBatches]
) -> dict[View, ViewedBatches]:
    """Return the validation rows in every view, with the classes of the training."""
    if validation is None:
        return {}
    return {view: ViewedBatches(validation, view, part.classes) for view, part in seen.items()}


def _close(
    seats: Sequence[Seat], validation: BatchSource | None, held_out: Mapping[View, ViewedBatches]
) -> None:
    """End the pass of all trainers, scoring the validation rows once for those that want it."""
    wanting = [seat for seat in seats if seat.trainer.validates and seat.view in held_out]
    scores: dict[int, list[Floats]] = {id(seat.trainer): [] for seat in wanting}
    labels: dict[View, list[NDArray[np.intp]]] = {seat.view: [] for seat in wanting}
    if wanting and validation is not None:
        for batch in validation.batches(Pass()):
            parts = {view: held_out[view].cut(batch) for view in labels}
            for view, part in parts.items():
                labels[view].append(part.y)
            for trainer, view in wanting:
                scores[id(trainer)].append(trainer.scores(parts[view].X))
    for trainer, view in seats:
        if own := scores.get(id(trainer)):
            trainer.end_pass((np.concatenate(own), np.concatenate(labels[view])))
        else:
            trainer.end_pass(None)
