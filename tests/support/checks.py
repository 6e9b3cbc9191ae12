"""Checks that every head passes, beside those of scikit-learn: ``check(head, folder)``.

`head` is an unfitted head with cheap hyper-parameters, `folder` an empty directory.
"""

import contextlib
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import heads
from heads.checkpoints import Checkpoint
from heads.loop.batch_source import ArrayBatches, Pass, RowBatch
from heads.loop.passes import train

ROUNDING = 1e-8
"""Between trainings that do the same arithmetic in another order, in float64."""

Check = Callable[[Any, Path], None]


class CutBatches(ArrayBatches):
    """Rows in stored order come in batches cut where we say; shuffled passes are as asked for."""

    def __init__(self, X: Any, y: Any, cuts: Any) -> None:
        super().__init__(X, y)
        inside = {int(cut) for cut in cuts if 0 < cut < self.n_samples}
        self._edges = [0, *sorted(inside), self.n_samples]

    def batches(self, reading: Pass) -> Iterator[RowBatch]:
        if reading.seed is not None:
            yield from super().batches(reading)
            return
        for start, stop in zip(self._edges, self._edges[1:], strict=False):
            index = np.arange(start, stop)
            yield RowBatch(self._X[start:stop], self._labels.at(index), index)


class Interruption(Exception):
    """The training was interrupted."""


class Interrupted(ArrayBatches):
    """Rows whose reading fails after some passes."""

    def __init__(self, X: Any, y: Any, n_passes: int) -> None:
        super().__init__(X, y)
        self._left = n_passes

    def batches(self, reading: Pass) -> Iterator[RowBatch]:
        if not self._left:
            raise Interruption
        self._left -= 1
        yield from super().batches(reading)


def assert_same_scores(head: Any, expected: Any, X: Any) -> None:
    """Fail unless two heads decide alike up to rounding."""
    scores = expected.decision_function(X)
    scale = np.abs(scores).max()
    np.testing.assert_allclose(
        head.decision_function(X), scores, rtol=ROUNDING, atol=ROUNDING * scale
    )


def two_classes(n_samples: int = 60, n_features: int = 5) -> tuple[NDArray[Any], NDArray[Any]]:
    """Overlapping classes whose features float16 holds exactly, sorted by class."""
    y = np.arange(n_samples) * 2 // n_samples
    X = np.random.default_rng(0).normal(size=(n_samples, n_features)) + y[:, None]
    return X.astype(np.float16).astype(np.float64), y


def head_checks() -> list[Check]:
    """All checks."""
    return [check for name, check in globals().items() if name.startswith("check_")]


def check_any_batching_equals_fit(head: Any, folder: Path) -> None:
    X, y = two_classes()
    expected = clone(head).fit(X, y)
    rng = np.random.default_rng(0)
    for n_cuts in (0, 1, 7, len(y)):
        source = CutBatches(X, y, rng.integers(0, len(y), n_cuts))
        train([head], source)
        assert_same_scores(head, expected, X)


def check_all_float_types_give_the_same_head(head: Any, folder: Path) -> None:
    X, y = two_classes()
    expected = clone(head).fit(X, y)
    for dtype in (np.float16, np.float32):
        narrow = clone(head).fit(X.astype(dtype), y)
        scores = narrow.decision_function(X.astype(dtype))
        # A head may score in the precision of its input or of its weights.
        np.testing.assert_allclose(scores, expected.decision_function(X), rtol=1e-5, atol=1e-5)


def check_read_only_memory_map(head: Any, folder: Path) -> None:
    X, y = two_classes()
    np.save(folder / "X.npy", X.astype(np.float32))
    mapped = np.load(folder / "X.npy", mmap_mode="r")
    expected = clone(head).fit(X.astype(np.float32), y)
    np.testing.assert_array_equal(
        head.fit(mapped, y).decision_function(mapped), expected.decision_function(mapped)
    )
    assert head.predict_proba(mapped).shape == (len(y), 2)


def check_scoring_takes_bounded_memory(head: Any, folder: Path) -> None:
    X, y = two_classes()
    head.fit(X, y)
    np.save(folder / "X.npy", np.resize(X.astype(np.float16), (300_000, X.shape[1])))
    mapped = np.load(folder / "X.npy", mmap_mode="r")
    tracemalloc.start()
    scores = head.decision_function(mapped)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * scores.nbytes + 4 * 2**20 < mapped.size * 8  # less than all rows in float64


def check_one_class_is_refused(head: Any, folder: Path) -> None:
    X, y = two_classes()
    with pytest.raises(ValueError, match="class"):
        head.fit(X, np.ones_like(y))  # of zeros alone, real images, one-class heads do learn


def check_three_classes_are_refused(head: Any, folder: Path) -> None:
    X, y = two_classes()
    if head.multiclass:
        return
    with pytest.raises(ValueError, match="Only binary classification is supported"):
        train([head], ArrayBatches(X, y + (np.arange(len(y)) == 0) * 5))


def check_one_sample_is_refused(head: Any, folder: Path) -> None:
    X, y = two_classes()
    with pytest.raises(ValueError, match=r"1 sample|class"):
        head.fit(X[:1], y[:1])


def check_constant_feature(head: Any, folder: Path) -> None:
    X, y = two_classes()
    X[:, 2] = 7
    assert np.isfinite(head.fit(X, y).decision_function(X)).all()


def check_not_finite_is_refused(head: Any, folder: Path) -> None:
    X, y = two_classes()
    fitted = clone(head).fit(X, y)
    for value in (np.nan, np.inf):
        X[3, 1] = value
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            head.fit(X, y)
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            fitted.decision_function(X)


def check_wrong_width_is_refused(head: Any, folder: Path) -> None:
    X, y = two_classes()
    head.fit(X, y)
    text = f"X has 4 features, but {type(head).__name__} is expecting 5 features as input"
    with pytest.raises(ValueError, match=text):
        head.predict(X[:, :4])


def check_predict_before_fit_is_refused(head: Any, folder: Path) -> None:
    for method in ("decision_function", "predict_proba", "predict"):
        with pytest.raises(NotFittedError):
            getattr(head, method)(two_classes()[0])


def check_inputs_are_left_alone(head: Any, folder: Path) -> None:
    X, y = two_classes()
    copies = X.copy(), y.copy()
    head.fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(X, copies[0])
    np.testing.assert_array_equal(y, copies[1])
    scores = head.decision_function(copies[0])
    X += 1
    np.testing.assert_array_equal(head.decision_function(copies[0]), scores)


def check_same_seed_same_head(head: Any, folder: Path) -> None:
    X, y = two_classes()
    first = head.fit(X, y).decision_function(X)
    np.testing.assert_array_equal(clone(head).fit(X, y).decision_function(X), first)
    np.testing.assert_array_equal(head.fit(X, y).decision_function(X), first)


def check_clone_is_independent(head: Any, folder: Path) -> None:
    X, y = two_classes()
    copy = clone(head).fit(X, y)
    assert not hasattr(head, "classes_")
    scores = copy.decision_function(X)
    head.fit(X, 1 - y)
    np.testing.assert_array_equal(copy.decision_function(X), scores)


def check_members_of_a_joint_training_equal_single_fits(head: Any, folder: Path) -> None:
    X, y = two_classes()
    members = [clone(head), clone(head)]
    train(members, ArrayBatches(X, y))
    head.fit(X, y)
    for member in members:
        # Stacked heads are one matrix product, whose rounding differs from a single one's.
        np.testing.assert_allclose(
            member.decision_function(X), head.decision_function(X), rtol=1e-5, atol=1e-5
        )


def check_decision_probability_and_label_agree(head: Any, folder: Path) -> None:
    X, y = two_classes()
    head.fit(X, y)
    logits, probabilities = head.decision_function(X), head.predict_proba(X)
    np.testing.assert_allclose(probabilities[:, 1], 1 / (1 + np.exp(-logits)), rtol=1e-5)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-6)
    np.testing.assert_array_equal(head.predict(X), head.classes_[(logits > 0).astype(int)])


def check_saved_head_comes_back_equal(head: Any, folder: Path) -> None:
    X, y = two_classes()
    for number, labels in enumerate((y, np.array(["real", "fake"])[y])):
        fitted = clone(head).fit(X, labels)
        heads.save(fitted, folder / str(number), origin={"layers": ["block.0"]})
        loaded = heads.load(folder / str(number))
        np.testing.assert_array_equal(loaded.decision_function(X), fitted.decision_function(X))
        np.testing.assert_array_equal(loaded.predict(X), fitted.predict(X))
        assert loaded.get_params() == fitted.get_params()
        assert loaded.origin_ == {"layers": ["block.0"]}
        np.testing.assert_array_equal(
            loaded.fit(X, labels).decision_function(X), fitted.decision_function(X)
        )


def check_interrupted_training_goes_on_to_the_same_head(head: Any, folder: Path) -> None:
    X, y = two_classes()
    expected = clone(head).fit(X, y).decision_function(X)
    for n_passes in (1, 2, 5):
        checkpoint = Checkpoint(folder / f"{n_passes}.safetensors")
        with contextlib.suppress(Interruption):
            train([clone(head)], Interrupted(X, y, n_passes), checkpoint=checkpoint)
        again = clone(head)
        train([again], ArrayBatches(X, y), checkpoint=checkpoint)
        np.testing.assert_allclose(again.decision_function(X), expected, rtol=1e-9, atol=1e-9)
