"""Moments against NumPy on all rows at once, in pieces, in any order and far from zero."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heads.closed_form.gram import mirror
from heads.closed_form.moments import Moments
from heads.closed_form.training import collect
from heads.loop.batch_source import ArrayBatches

ROUNDING = 1e-12  # relative to the largest entry: sums of some hundred numbers in float64
OFFSET_ROUNDING = 1e-9  # features at 1e4 hold 12 digits after the point, their spread is 1e-3


def rows(n_samples: int = 90, n_features: int = 7, n_classes: int = 3) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    y = rng.integers(0, n_classes, n_samples)
    return rng.normal(size=(n_samples, n_features)) + y[:, None], y


def of(X: Any, y: Any, n_classes: int = 3, weights: Any = None) -> Moments:
    moments = Moments(np.arange(n_classes), X.shape[1], weights)
    moments.add(X, y)
    return moments


def assert_same(moments: Moments, expected: Moments, rounding: float = ROUNDING) -> None:
    np.testing.assert_array_equal(moments.classes, expected.classes)
    np.testing.assert_array_equal(moments.counts, expected.counts)
    for name in ("means", "mean", "within", "scatter"):
        value, wanted = getattr(moments, name), getattr(expected, name)
        np.testing.assert_allclose(value, wanted, rtol=0, atol=rounding * np.abs(wanted).max())


def test_moments__equal_those_of_numpy() -> None:
    X, y = rows()
    moments = of(X, y)
    centred = X - X.mean(0)
    residuals = X - np.array([X[y == k].mean(0) for k in range(3)])[y]
    np.testing.assert_allclose(moments.mean, X.mean(0), rtol=ROUNDING)
    np.testing.assert_allclose(moments.scatter, centred.T @ centred, rtol=0, atol=1e-10)
    np.testing.assert_allclose(moments.within, residuals.T @ residuals, rtol=0, atol=1e-10)
    np.testing.assert_allclose(moments.spreads, X.std(0), rtol=ROUNDING)
    np.testing.assert_array_equal(moments.counts, np.bincount(y))


def test_moments__weights_equal_repeated_rows() -> None:
    X, y = rows()
    repeats = np.array([1, 3, 2])
    repeated = of(np.repeat(X, repeats[y], axis=0), np.repeat(y, repeats[y]))
    weighted = of(X, y, weights=repeats)
    for name in ("mean", "means", "within", "scatter", "spreads"):
        np.testing.assert_allclose(getattr(weighted, name), getattr(repeated, name), rtol=1e-9)


@given(seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(1, 89), max_size=12))
def test_moments__do_not_depend_on_order_and_batches(seed: int, cuts: list[int]) -> None:
    X, y = rows()
    order = np.random.default_rng(seed).permutation(len(y))
    moments = Moments(np.arange(3), X.shape[1])
    for part in np.split(order, sorted(cuts)):
        moments.add(X[part], y[part])
    assert_same(moments, of(X, y))


@given(owner=st.lists(st.integers(0, 3), min_size=90, max_size=90))
def test_moments__merged_parts_equal_the_whole(owner: list[int]) -> None:
    X, y = rows()
    moments = Moments(np.arange(3), X.shape[1])
    for number in range(4):
        own = np.array(owner) == number
        moments.merge(of(X[own], y[own]))
    assert_same(moments, of(X, y))


def test_moments__of_sorted_rows_equal_those_of_shuffled_ones() -> None:
    X, y = rows()
    X[:, 0] += 1e3 * y
    moments = Moments(np.arange(3), X.shape[1])
    for row in np.argsort(y):
        moments.add(X[[row]], y[[row]])
    assert_same(moments, of(X, y))


def test_moments__do_not_cancel_far_from_zero() -> None:
    X, y = rows(n_samples=400)
    near = 1e-3 * X
    far = near + 1e4
    moments, expected = Moments(np.arange(3), X.shape[1]), of(far - 1e4, y)
    for part in np.array_split(np.arange(len(y)), 13):
        moments.add(far[part], y[part])
    for name in ("within", "scatter"):
        np.testing.assert_allclose(
            getattr(moments, name), getattr(expected, name), rtol=OFFSET_ROUNDING, atol=1e-12
        )


def test_moments__survive_a_first_row_unlike_all_others() -> None:
    X, y = rows()
    X[0] = 1e6
    moments = Moments(np.arange(3), X.shape[1])
    for part in np.array_split(np.arange(1, len(y)), 5):
        moments.add(X[part], y[part])
    first = of(X[:1], y[:1])
    first.merge(moments)
    assert_same(first, of(X, y))


def test_moments__classes_may_come_late() -> None:
    X, y = rows()
    late, labels = Moments([0], X.shape[1]), np.array([0, 1, 2])
    for label in (1, 2, 0):
        part = Moments([label], X.shape[1])
        part.add(X[y == label], np.zeros((y == label).sum(), int))
        late.merge(part)
    assert_same(late, of(X, y))
    np.testing.assert_array_equal(late.classes, labels)


def test_moments__merging_refuses_what_does_not_fit() -> None:
    X, y = rows()
    with pytest.raises(ValueError, match="same features"):
        of(X, y).merge(of(X[:, :4], y))
    moments = of(X, y)
    with pytest.raises(ValueError, match=r"equal class weights .* \[1.0\] and \[2.0\] .* \[1\]"):
        moments.merge(of(X, y, weights=[1, 2, 1]))
    assert_same(moments, of(X, y))


def test_moments__come_back_from_arrays(tmp_path: Any) -> None:
    X, y = rows()
    moments = Moments(np.array(["a", "b", "real"]), X.shape[1], [1, 2, 3])
    moments.add(X, y)
    np.savez(tmp_path / "moments.npz", **moments.to_arrays())
    with np.load(tmp_path / "moments.npz") as arrays:
        loaded = Moments.from_arrays(arrays)
    assert_same(loaded, moments, rounding=0)
    loaded.add(X, y)
    moments.add(X, y)
    assert_same(loaded, moments)


def test_moments__arrays_that_do_not_fit_together_are_refused() -> None:
    arrays = of(*rows()).to_arrays()
    with pytest.raises(ValueError, match=r"'within' must have shape \(7, 7\), got \(6, 7\)"):
        Moments.from_arrays(arrays | {"within": arrays["within"][:6]})
    with pytest.raises(ValueError, match=r"got none for \['counts'\]"):
        Moments.from_arrays({name: a for name, a in arrays.items() if name != "counts"})


def test_moments__leave_rows_alone() -> None:
    X, y = rows()
    copy = X.copy()
    of(X, y)
    np.testing.assert_array_equal(X, copy)


def test_moments__constant_features_have_spread_one() -> None:
    X, y = rows()
    X[:, 2] = 1000 + np.resize([0, 1e-13], len(y))  # as means of batches may round it
    assert np.ptp(X[:, 2]) > 0
    assert of(X, y).spreads[2] == 1


def test_collect__equals_one_batch() -> None:
    X, y = rows(n_samples=2500)
    assert_same(collect(ArrayBatches(X.astype(np.float32), y)), of(X.astype(np.float32), y))


def test_collect__refuses_a_gram_matrix_that_does_not_fit() -> None:
    X, y = rows()
    source = ArrayBatches(X, y)
    source.workspace = 8 * 7 * 7 - 1
    with pytest.raises(ValueError, match="raise 'max_memory', train on single layers"):
        collect(source)


def test_mirror__works_across_tiles() -> None:
    A = np.random.default_rng(0).normal(size=(1100, 1100))
    full = mirror(A.copy())
    np.testing.assert_array_equal(full, np.tril(A) + np.tril(A, -1).T)
