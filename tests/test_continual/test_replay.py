"""Replay: what a batch holds, and that its step is the sum of two losses."""

import numpy as np
import pytest
from support.checks import two_classes

from continual.replay import ReplayBatches
from heads import HSICProbe, LogisticProbe
from heads.loop.batch_source import ArrayBatches, Pass
from heads.loop.passes import train

ROUNDING = 1e-6  # float32 steps


def sources(n_present: int = 40, n_kept: int = 10) -> tuple[ArrayBatches, ArrayBatches]:
    X, y = two_classes(n_present + n_kept)
    order = np.random.default_rng(1).permutation(len(y))
    X, y = X[order], y[order]
    groups = np.where(y == 0, "real", np.where(np.arange(len(y)) < n_present, "new", "old"))
    return (
        ArrayBatches(X[:n_present], y[:n_present], groups=groups[:n_present]),
        ArrayBatches(X[n_present:], y[n_present:], groups=groups[n_present:]),
    )


def test_batches__shuffled_hold_replayed_rows_at_their_end() -> None:
    present, memory = sources()
    replay = ReplayBatches(present, memory, 4)
    batches = list(replay.batches(Pass(16, 0, 2)))
    assert [batch.terms[1].n_rows for batch in batches] == [4, 4, 2]
    for batch in batches:
        (new, _), (old, _) = batch.parts()
        assert (new.index < 40).all()
        assert (old.index >= 40).all()
        np.testing.assert_array_equal(batch.y, replay.targets["label"].codes[batch.index])
    seen = np.concatenate([batch.parts()[0][0].index for batch in batches])
    assert sorted(seen.tolist()) == list(range(40))
    again = list(replay.batches(Pass(16, 0, 2)))
    assert all((a.index == b.index).all() for a, b in zip(batches, again, strict=True))


def test_batches__the_memory_is_cycled_through_in_new_orders() -> None:
    present, memory = sources()
    batches = ReplayBatches(present, memory, 10).batches(Pass(4, 0))
    replayed = [batch.parts()[1][0].index for batch in batches]
    assert len(replayed) == 10
    assert all(sorted(rows.tolist()) == list(range(40, 50)) for rows in replayed)
    assert len({tuple(rows) for rows in replayed}) > 5


def test_replay__generators_of_both_are_told_apart() -> None:
    replay = ReplayBatches(*sources())
    target = replay.targets["generator"]
    assert target.names.tolist() == ["new", "old", "real"]
    assert set(target.names[target.codes[40:]]) == {"old", "real"}


def test_exact_heads__learn_from_both_together() -> None:
    present, memory = sources()
    head, expected = LogisticProbe(), LogisticProbe()
    train([head], ReplayBatches(present, memory))
    X = np.concatenate([b.X for s in (present, memory) for b in s.batches(Pass())])
    y = np.concatenate([b.y for s in (present, memory) for b in s.batches(Pass())])
    np.testing.assert_allclose(head.coef_, expected.fit(X, y).coef_, atol=ROUNDING)


def test_hsic_probe__step_is_the_sum_of_the_losses_of_new_and_replayed_rows() -> None:
    present, memory = sources()
    settings = {"n_components": 3, "max_iter": 1, "learning_rate": 0.01, "device": "cpu"}
    start = _weights_after(HSICProbe(**{**settings, "learning_rate": 1e-12}), present)
    new = _weights_after(HSICProbe(batch_size=40, **settings), present)
    old = _weights_after(HSICProbe(batch_size=40, **settings), memory)
    both = _weights_after(HSICProbe(batch_size=40, **settings), ReplayBatches(present, memory, 10))
    for name in start:
        expected = new[name] + old[name] - start[name]
        np.testing.assert_allclose(both[name], expected, rtol=1e-4, atol=ROUNDING)


def _weights_after(head: HSICProbe, source: object) -> dict[str, np.ndarray]:
    train([head], source)  # type: ignore[arg-type]
    names = ("encoder_weight_", "encoder_bias_", "classifier_weight_", "classifier_bias_")
    return {name: getattr(head, name) for name in names}


def test_replay__nothing_to_replay_is_refused() -> None:
    present, memory = sources()
    empty = ArrayBatches(np.empty((0, 5)), np.empty(0, int))
    for kept, size in ((memory, 0), (empty, 32)):
        with pytest.raises(ValueError, match=r"at least one row per step, got .* and 0 rows"):
            ReplayBatches(present, kept, size)


def test_replay__other_layers_are_refused() -> None:
    present, _ = sources()
    X, y = two_classes(10, 4)
    with pytest.raises(ValueError, match="replay needs the same layers"):
        ReplayBatches(present, ArrayBatches(X, y))
