"""Distillation: what keeps logits, against fine-tuning, replay, and without end."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from support.checks import Interrupted, Interruption, two_classes

from continual.distillation import TaughtBatches
from continual.replay import DarkReplayBatches, ReplayBatches
from heads import HSICProbe, LogisticProbe, RINEHead, StayPositiveProbe
from heads.checkpoints import Checkpoint
from heads.loop.batch_source import ArrayBatches, BatchSource, Pass
from heads.loop.passes import train

CPU: Any = {"device": "cpu", "batch_size": 16}
HEADS: dict[str, Any] = {
    "hsic": HSICProbe(n_components=4, learning_rate=0.02, max_iter=3, warm_start=True, **CPU),
    "rine": RINEHead(proj_dim=6, nproj=1, max_iter=3, warm_start=True, **CPU),
    "stay_positive": StayPositiveProbe(
        solver="adam_clamp", hidden=4, hidden_epochs=2, max_iter=3, learning_rate=0.01, **CPU
    ),
}
Make = Callable[[Any, BatchSource, BatchSource], BatchSource]


def old_and_new() -> tuple[ArrayBatches, ArrayBatches]:
    """Rows of two domains, whose classes differ along other directions."""
    X, y = two_classes(80)
    rows = np.arange(80) % 2 == 0
    X[~rows] = X[~rows, ::-1] * [1, -1, 1, -1, 1]
    return ArrayBatches(X[rows], y[rows]), ArrayBatches(X[~rows], y[~rows])


def taught(head: Any, new: BatchSource, old: BatchSource) -> BatchSource:
    return TaughtBatches(new, head)


def dark(head: Any, new: BatchSource, old: BatchSource) -> BatchSource:
    return DarkReplayBatches(new, old, 8, logits=decision_values(head, old))


def trained(name: str, source: BatchSource) -> Any:
    head = clone(HEADS[name])
    train([head], source)
    return head


def decision_values(head: Any, source: BatchSource) -> np.ndarray:
    """Return the decision values of all rows, in their order."""
    (batch,) = source.batches(Pass())
    return np.asarray(head.decision_function(batch.X), np.float32)


def scores_of(head: Any) -> np.ndarray:
    return decision_values(head, old_and_new()[0])


# ------------------------------------------------------------------ LwF


@pytest.mark.parametrize("name", HEADS)
def test_taught__with_weight_0_is_fine_tuning(name: str) -> None:
    old, new = old_and_new()
    tuned, student = trained(name, old), trained(name, old)
    train([tuned], new)
    train([student], TaughtBatches(new, student, weight=0.0))
    assert_array_equal(scores_of(student), scores_of(tuned))


def test_taught__logits_tend_to_the_teachers_as_the_lesson_gains_weight() -> None:
    old, new = old_and_new()
    probe = HSICProbe(n_components=4, lambda_x=0, lambda_y=0, batch_size=40, device="cpu")
    teacher = clone(probe).set_params(learning_rate=0.1)
    train([teacher], old)
    logits = decision_values(teacher, new)
    gaps = []
    for weight in (1.0, 10.0, 100.0, 1000.0):
        student = clone(probe).set_params(learning_rate=1 / (1 + weight), max_iter=200)
        train([student], TaughtBatches(new, teacher, weight=weight))
        gaps.append(weight * np.abs(decision_values(student, new) - logits).max())
    # The minimum is 1 / weight away to first order; logits are up to 7.
    assert gaps[0] < 7
    np.testing.assert_allclose(gaps[2:], gaps[1], rtol=0.15)


def test_taught__lessons_are_the_teachers_logits_of_the_rows() -> None:
    old, new = old_and_new()
    teacher = LogisticProbe()
    train([teacher], old)
    source = TaughtBatches(new, teacher, weight=3.0, temperature=4.0)
    logits = decision_values(teacher, new)
    for batch in source.batches(Pass(16, 1)):
        ((rows, term),) = batch.parts()
        assert term.lesson is not None
        assert (term.weight, term.lesson.weight, term.lesson.temperature) == (1.0, 3.0, 4.0)
        np.testing.assert_allclose(term.lesson.logits, logits[rows.index], rtol=1e-6)


def test_taught__the_teacher_is_the_head_as_it_was() -> None:
    old, new = old_and_new()
    head = trained("hsic", old)
    before = decision_values(head, new)
    source = TaughtBatches(new, head)
    train([head], new)
    (batch,) = source.batches(Pass(100, 0))
    assert batch.terms[0].lesson is not None
    assert_array_equal(np.float32(batch.terms[0].lesson.logits), before[batch.index])


def test_taught__replayed_rows_keep_their_terms_and_are_taught_too() -> None:
    old, new = old_and_new()
    teacher = trained("hsic", old)
    plain = DarkReplayBatches(new, old, 8, logits=np.zeros(40))
    (batch, *_) = TaughtBatches(plain, teacher).batches(Pass(16, 0))
    assert [(term.n_rows, term.weight) for term in batch.terms] == [(16, 1), (8, 0.5), (8, 0)]
    temperatures = [term.lesson.temperature for term in batch.terms if term.lesson]
    assert temperatures == [2.0, 2.0, None]
    (nested, *_) = ReplayBatches(TaughtBatches(new, teacher), old, 8).batches(Pass(16, 0))
    assert [term.lesson is None for term in nested.terms] == [False, True]


@pytest.mark.parametrize(
    "arguments", [{"weight": -1.0}, {"temperature": 0.0}], ids=["weight", "temperature"]
)
def test_taught__values_out_of_range_are_refused(arguments: dict[str, float]) -> None:
    old, new = old_and_new()
    with pytest.raises(ValueError, match="'weight' must be >= 0 and 'temperature' > 0"):
        TaughtBatches(new, trained("hsic", old), **arguments)


def test_taught__other_classes_and_more_than_two_are_refused() -> None:
    old, _ = old_and_new()
    X, y = two_classes(30)
    with pytest.raises(ValueError, match="a teacher must know the two classes of the rows"):
        TaughtBatches(ArrayBatches(X, y + 1), trained("hsic", old))
    with pytest.raises(ValueError, match="a teacher must know the two classes of the rows"):
        TaughtBatches(ArrayBatches(X, np.arange(30) % 3), trained("hsic", old))


# ------------------------------------------------------------------ DER++


@pytest.mark.parametrize("name", HEADS)
def test_dark_replay__without_kept_logits_is_the_two_loss_step(name: str) -> None:
    old, new = old_and_new()
    replayed, student = trained(name, old), trained(name, old)
    logits = decision_values(student, old)
    train([replayed], ReplayBatches(new, old, 8))
    train([student], DarkReplayBatches(new, old, 8, logits=logits, alpha=0.0, beta=1.0))
    assert_array_equal(scores_of(student), scores_of(replayed))


def test_dark_replay__draws_the_memory_twice_and_keeps_its_own_logits() -> None:
    old, new = old_and_new()
    logits = np.arange(40.0)
    batches = list(DarkReplayBatches(new, old, 8, logits=logits, beta=0.7).batches(Pass(8, 0)))
    assert len(batches) == 5
    drawn = []
    for batch in batches:
        (own, first), (one, second), (other, third) = batch.parts()
        assert (first, second) == ((8, 1.0, None), (8, 0.7, None))
        assert (own.index < 40).all()
        assert third.weight == 0
        assert third.lesson is not None
        assert third.lesson[1:] == (0.5, None)
        assert_array_equal(third.lesson.logits, logits[other.index - 40])
        drawn.append((one.index.tolist(), other.index.tolist()))
    for rows in zip(*drawn, strict=True):
        assert sorted(np.concatenate(rows).tolist()) == list(range(40, 80))
    assert all(one != other for one, other in drawn)


def test_dark_replay__keeps_old_logits_better_than_replay_of_labels() -> None:
    old, new = old_and_new()
    drifts = []
    for alpha in (0.0, 1.0, 10.0):
        student = trained("hsic", old)
        before = scores_of(student)
        student.set_params(max_iter=40, learning_rate=0.003, lambda_x=0, lambda_y=0)
        train([student], DarkReplayBatches(new, old, logits=before, alpha=alpha))
        drifts.append(np.abs(scores_of(student) - before).max())
    assert drifts == sorted(drifts, reverse=True)


def test_dark_replay__wrong_logits_and_weights_are_refused() -> None:
    old, new = old_and_new()
    for logits in (np.zeros(39), np.zeros((40, 2)), np.full(40, np.nan)):
        with pytest.raises(ValueError, match="'logits' must be a finite decision value for each"):
            DarkReplayBatches(new, old, logits=logits)
    with pytest.raises(ValueError, match="'alpha' and 'beta' must be >= 0"):
        DarkReplayBatches(new, old, logits=np.zeros(40), alpha=-1)


# ------------------------------------------------------------------ both


@pytest.mark.parametrize("make", [taught, dark])
def test_sources__stored_order_is_as_without_lessons(make: Make) -> None:
    old, new = old_and_new()
    source = make(trained("hsic", old), new, old)
    plain = new if make is taught else ReplayBatches(new, old)
    for batch, expected in zip(source.batches(Pass(16)), plain.batches(Pass(16)), strict=True):
        assert batch.terms == ()
        assert_array_equal(batch.X, expected.X)
        assert_array_equal(batch.index, expected.index)
    assert source.counts().tolist() == plain.counts().tolist()


@pytest.mark.parametrize("make", [taught, dark])
def test_sources__heads_without_steps_are_refused(make: Make) -> None:
    old, new = old_and_new()
    with pytest.raises(ValueError, match=r"distillation needs heads .*, got LogisticProbe"):
        train([LogisticProbe()], make(trained("hsic", old), new, old))


@pytest.mark.parametrize("make", [taught, dark])
@pytest.mark.parametrize("name", HEADS)
def test_sources__an_interrupted_training_goes_on(make: Make, name: str, tmp_path: Path) -> None:
    old, new = old_and_new()
    teacher, expected, student = (trained(name, old) for _ in range(3))
    train([expected], make(teacher, new, old))
    checkpoint = Checkpoint(tmp_path / "state.safetensors")
    X, y = (np.concatenate([getattr(b, n) for b in new.batches(Pass())]) for n in "Xy")
    with contextlib.suppress(Interruption):
        source = make(teacher, Interrupted(X, y, 2), old)
        train([student], source, checkpoint=checkpoint)
    assert checkpoint.path.exists()
    train([student], make(teacher, new, old), checkpoint=checkpoint)
    assert_array_equal(scores_of(student), scores_of(expected))
