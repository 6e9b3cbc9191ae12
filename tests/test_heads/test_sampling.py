"""Which rows an epoch holds, counted; and that the store and arrays give the same ones."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heads.loop.batch_source import ArrayBatches, Pass, Target
from heads.loop.sampling import draw_units


def targets(label: Any, generator: Any = None, pair: Any = None) -> dict[str, Target]:
    given = {"label": label, "generator": generator, "pair": pair}
    return {k: Target.of(np.asarray(v)) for k, v in given.items() if v is not None}


sizes = st.lists(st.integers(1, 30), min_size=2, max_size=5)


@given(sizes, st.integers(0, 5))
def test_class__rows_of_both_classes_are_as_many(counts: list[int], seed: int) -> None:
    label = np.repeat([0, 1], [counts[0], counts[1]])
    units = draw_units("class", targets(label), np.random.default_rng(seed))
    assert units is not None
    drawn = np.bincount(label[units[:, 0]])
    assert drawn.max() - drawn.min() <= 1
    assert drawn.sum() == len(label)


@given(sizes, st.integers(0, 5))
def test_generator__shares_and_repetitions_differ_by_one_at_most(
    counts: list[int], seed: int
) -> None:
    generator = np.repeat(np.arange(len(counts)), counts)
    label = (generator > 0).astype(int)
    units = draw_units("generator", targets(label, generator), np.random.default_rng(seed))
    assert units is not None
    rows = units[:, 0]
    per_generator = np.bincount(generator[rows], minlength=len(counts))
    fakes = per_generator[1:]
    assert fakes.max() - fakes.min() <= 1
    assert abs(int(per_generator[0]) - len(label) // 2) <= 1
    times = np.bincount(rows, minlength=len(label))
    for code in range(len(counts)):
        own = times[generator == code]
        assert own.max() - own.min() <= 1


def test_pair__every_fake_comes_with_a_real_image_of_its_pair() -> None:
    pair = np.array([5, 3, 5, 3, 5])
    label = np.array([0, 1, 1, 0, 1])
    units = draw_units("pair", targets(label, pair=pair), np.random.default_rng(0))
    assert units is not None
    assert (label[units] == [0, 1]).all()
    assert (pair[units[:, 0]] == pair[units[:, 1]]).all()
    assert sorted(units[:, 1].tolist()) == [1, 2, 4]


@pytest.mark.parametrize(
    ("label", "pair", "n_alone"),
    [([0, 1, 1], [1, 1, -1], 1), ([0, 1, 0], [1, 1, 2], 1), ([0, 1, 1, 0], [1, 1, 2, -1], 2)],
)
def test_pair__rows_without_a_mate_are_refused(label: Any, pair: Any, n_alone: int) -> None:
    with pytest.raises(ValueError, match=f"got {n_alone} of {len(label)} rows without"):
        draw_units("pair", targets(label, pair=pair), np.random.default_rng(0))


@pytest.mark.parametrize("pair", [["a", "a"], [0.0, 0.0]])
def test_pair__that_is_no_number_is_refused(pair: Any) -> None:
    with pytest.raises(ValueError, match="numbered by integers"):
        draw_units("pair", targets([0, 1], pair=pair), np.random.default_rng(0))


def test_draw__what_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="needs the generator of every row"):
        draw_units("generator", targets([0, 1]), np.random.default_rng(0))


def test_array_batches__pairs_stay_side_by_side() -> None:
    X = np.arange(40.0)[:, None]
    pair, label = np.arange(40) // 2, np.arange(40) % 2
    source = ArrayBatches(X, label, pairs=pair)
    batches = list(source.batches(Pass(6, seed=3, sampling="pair")))
    for batch in batches:
        assert (pair[batch.index[::2]] == pair[batch.index[1::2]]).all()
        assert batch.y.tolist() == [0, 1] * (len(batch.y) // 2)
        np.testing.assert_array_equal(batch.X[:, 0], batch.index)
    order = np.concatenate([batch.index for batch in batches])
    assert sorted(order.tolist()) == list(range(40))
    assert order.tolist() != list(range(40))


def test_pass__illegal_combinations_are_refused() -> None:
    with pytest.raises(ValueError, match="needs a seed"):
        Pass(sampling="class")
    with pytest.raises(ValueError, match="'batch_size' must be even"):
        Pass(5, 0, sampling="pair")
