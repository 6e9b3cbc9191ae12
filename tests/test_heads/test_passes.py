"""The loop that trains heads: what is read how often, and who is asked for scores."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from support.checks import two_classes

from heads.hsic.probe import HSICProbe
from heads.logistic.probe import LogisticProbe
from heads.loop.batch_source import ArrayBatches, Floats, Pass, RowBatch, Shared
from heads.loop.passes import Trainer, train


class Counted(ArrayBatches):
    """A source that notes which passes were read."""

    def __init__(self, X: Any, y: Any) -> None:
        super().__init__(X, y)
        self.readings: list[Pass] = []

    def batches(self, reading: Pass) -> Iterator[RowBatch]:
        self.readings.append(reading)
        return super().batches(reading)


class Recorder:
    """A head and its trainer that make the given passes and record what they see."""

    def __init__(self, *passes: Pass, validates: bool = False) -> None:
        self.passes, self.validates = list(passes), validates
        self.members = [self]
        self.rows: list[list[float]] = [[] for _ in passes]
        self.shared: list[Shared] = []
        self.validations: list[Any] = []
        self.n_scored = 0
        self.finished = False

    @classmethod
    def trainers(cls, heads: Sequence["Recorder"], source: Any) -> list[Trainer]:
        return list(heads)

    def next_pass(self) -> Pass | None:
        done = len(self.validations)
        return self.passes[done] if done < len(self.passes) else None

    def consume(self, batch: RowBatch, shared: Shared) -> None:
        self.rows[len(self.validations)] += batch.X[:, 0].tolist()
        shared.setdefault("seen", []).append(self)
        self.shared.append(shared)

    def scores(self, X: Floats) -> Floats:
        self.n_scored += len(X)
        return X[:, :1]

    def end_pass(self, validation: Any) -> None:
        self.validations.append(validation)

    def state(self) -> None:
        return None

    def restore(self, state: Any) -> None:
        raise AssertionError("nothing was kept")

    def finish(self) -> None:
        self.finished = True


def numbered(n_samples: int) -> Counted:
    return Counted(np.arange(n_samples, dtype=float)[:, None], np.arange(n_samples) % 2)


def test_train__reads_a_pass_that_several_heads_want_once() -> None:
    source = numbered(10)
    a, b = Recorder(Pass(4), Pass(4, 1)), Recorder(Pass(4), Pass(4, 2))
    train([a, b], source)
    assert source.readings == [Pass(4), Pass(4, 1), Pass(4, 2)]
    assert a.finished
    assert b.finished


def test_train__hands_each_batch_with_one_cache_to_all_heads() -> None:
    a, b = Recorder(Pass(4)), Recorder(Pass(4))
    train([a, b], numbered(10))
    assert len(a.shared) == 3
    for left, right in zip(a.shared, b.shared, strict=True):
        assert left is right
        assert left["seen"] == [a, b]


def test_train__goes_on_for_heads_that_want_more_passes() -> None:
    short, long = Recorder(Pass(4)), Recorder(Pass(4), Pass(4, epoch=1), Pass(4, epoch=2))
    source = numbered(10)
    train([short, long], source)
    assert [reading.epoch for reading in source.readings] == [0, 1, 2]
    assert [len(rows) for rows in short.rows + long.rows] == [10] * 4


def test_train__scores_validation_rows_once_and_only_for_heads_that_want_them() -> None:
    wanting, other = Recorder(Pass(4), validates=True), Recorder(Pass(4))
    validation = numbered(6)
    train([wanting, other], numbered(10), validation)
    assert validation.readings == [Pass()]
    assert (wanting.n_scored, other.n_scored) == (6, 0)
    scores, labels = wanting.validations[0]
    np.testing.assert_array_equal(scores[:, 0], np.arange(6))
    np.testing.assert_array_equal(labels, np.arange(6) % 2)
    assert other.validations == [None]


def test_train__does_not_read_validation_rows_nobody_wants() -> None:
    validation = numbered(6)
    train([Recorder(Pass(4))], numbered(10), validation)
    assert validation.readings == []


def test_train__reports_progress_per_reading() -> None:
    seen: list[tuple[int, int]] = []
    train(
        [Recorder(Pass(4), Pass(6, 1))],
        numbered(10),
        progress=lambda reading, rows: seen.append((reading, rows)),
    )
    assert seen == [(1, 4), (1, 8), (1, 10), (2, 6), (2, 10)]


def test_pass__seed_and_epoch_decide_the_order() -> None:
    head = Recorder(Pass(3), Pass(3, 7), Pass(3, 7), Pass(3, 7, 1), Pass(3, 8))
    train([head], numbered(10))
    stored, first, again, next_epoch, other_seed = head.rows
    assert stored == list(range(10))
    assert first == again
    assert sorted(first) == stored
    assert stored != first != next_epoch != other_seed


def test_array_batches__labels_are_indices_into_the_classes() -> None:
    X, _ = two_classes(4)
    source = ArrayBatches(X, np.array(["real", "fake", "fake", "real"]))
    (batch,) = source.batches(Pass())
    assert source.classes.tolist() == ["fake", "real"]
    assert batch.y.tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize("n_heads", [1, 3])
def test_train__number_of_readings_does_not_grow_with_the_number_of_heads(n_heads: int) -> None:
    X, y = two_classes(200)
    source = Counted(X, y)
    heads = [LogisticProbe(C=C) for C in np.logspace(-3, 0, n_heads)]
    train(heads, source)
    assert len(source.readings) == max(head.n_iter_ for head in heads)


def test_train__heads_out_of_step_read_each_epoch_once() -> None:
    X, y = two_classes(40)
    source, validation = Counted(X, y), Counted(X, y)
    # The second wants the statistics of the features first, and the first waits for it.
    heads = [HSICProbe(standardize=name, max_iter=4) for name in ("none", "zscore")]
    train(heads, source, validation)
    assert [reading.epoch for reading in source.readings] == [0, 0, 1, 2, 3]
    assert len(set(source.readings)) == 5
    assert len(validation.readings) == 4


def test_train__a_head_ahead_waits_for_those_behind() -> None:
    epochs = [Pass(4, 1, epoch) for epoch in range(3)]
    source = numbered(10)
    train([Recorder(*epochs), Recorder(Pass(4), Pass(6), *epochs)], source)
    assert source.readings == [Pass(4), Pass(6), *epochs]
