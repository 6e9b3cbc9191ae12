"""Closed-form heads that learn in pieces: row by row, class by class, machine by machine."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.features import Data, vit_like

from heads.closed_form.hsic_linear import HSICLinear
from heads.closed_form.ridge import RidgeProbe
from heads.closed_form.streaming_lda import StreamingLDA
from heads.closed_form.training import collect
from heads.loop.batch_source import ArrayBatches
from heads.loop.passes import train

ROUNDING = 1e-10  # same arithmetic in another order
ALPHAS = [0.1, 1.0, 10.0, 1000.0]


def three_classes(n_samples: int, n_features: int) -> Data:
    X, y = vit_like(n_samples, n_features)
    return X, y + (np.arange(n_samples) % 3 == 0)


def assert_same(head: Any, expected: Any, rounding: float = ROUNDING) -> None:
    for name in ("coef_", "intercept_"):
        wanted = getattr(expected, name)
        scale = rounding * np.abs(wanted).max()
        np.testing.assert_allclose(getattr(head, name), wanted, rtol=0, atol=scale)


@given(cut=st.integers(1, 119))
def test_moment_head__merged_halves_equal_the_whole(cut: int) -> None:
    X, y = three_classes(120, 12)
    halves = [RidgeProbe().partial_fit(X[rows], y[rows]) for rows in (slice(cut), slice(cut, None))]
    assert_same(halves[0].merge(halves[1]), RidgeProbe().fit(X, y))


def test_moment_head__learns_row_by_row_and_classes_that_come_late() -> None:
    X, y = three_classes(90, 6)
    order = np.argsort(y, kind="stable")
    head = RidgeProbe(alpha=0.1, class_weight={0: 1.0, 1: 2.0, 2: 3.0})
    for part in np.array_split(order, 23):
        head.partial_fit(X[part], y[part])
    assert_same(head, RidgeProbe(alpha=0.1, class_weight=head.class_weight).fit(X, y))


def test_moment_head__cannot_predict_before_a_second_class() -> None:
    X, y = vit_like(50, 4)
    head = RidgeProbe().partial_fit(X[y == 0], y[y == 0], classes=[0, 1])
    with pytest.raises(ValueError, match="not fitted"):
        head.predict(X)


def test_moment_head__partial_fit_refuses_labels_that_were_not_announced() -> None:
    X, y = vit_like(50, 4)
    with pytest.raises(ValueError, match=r"'y' must be among 'classes', got \[0\]"):
        RidgeProbe().partial_fit(X, y, classes=[1, 2])


@pytest.mark.parametrize(
    "parameters", [{"alpha": ALPHAS}, {"class_weight": "balanced"}], ids=["loo", "balanced"]
)
def test_moment_head__partial_fit_refuses_what_needs_all_rows(parameters: Any) -> None:
    with pytest.raises(ValueError, match="rows"):
        RidgeProbe(**parameters).partial_fit(*vit_like(50, 4))


def test_moment_head__kept_moments_go_on_and_others_are_announced_as_lost() -> None:
    X, y = vit_like(60, 4)
    kept = RidgeProbe(keep_moments=True).fit(X[:30], y[:30]).partial_fit(X[30:], y[30:])
    assert_same(kept, RidgeProbe().fit(X, y))
    lost = RidgeProbe().fit(X[:30], y[:30])
    assert not [name for name in vars(lost) if name.startswith("moment_")]
    with pytest.warns(UserWarning, match="keep_moments=True"):
        lost.partial_fit(X[30:], y[30:])
    assert_same(lost, RidgeProbe().fit(X[30:], y[30:]))


def test_moment_head__merging_refuses_other_hyper_parameters() -> None:
    X, y = vit_like(50, 4)
    first, second = RidgeProbe().partial_fit(X, y), RidgeProbe(alpha=2.0).partial_fit(X, y)
    with pytest.raises(ValueError, match="equal hyper-parameters"):
        first.merge(second)


def test_moment_head__merging_refuses_weights_that_each_part_balanced_alone() -> None:
    X, y = vit_like(50, 4)
    halves = [RidgeProbe(class_weight="balanced", keep_moments=True).fit(X, y) for _ in range(2)]
    with pytest.raises(ValueError, match="must not be 'balanced' in heads to be merged"):
        halves[0].merge(halves[1])


@pytest.mark.parametrize("kind", [StreamingLDA, HSICLinear])
def test_moment_head__from_moments_refuses_weights_that_the_head_would_not_heed(kind: Any) -> None:
    moments = collect(ArrayBatches(*vit_like(50, 4)), weights=[1.0, 3.0])
    with pytest.raises(ValueError, match="does not weigh classes"):
        kind.from_moments(moments)


def test_moment_head__gram_matrices_of_one_training_share_the_workspace() -> None:
    source = ArrayBatches(*vit_like(50, 30))
    source.workspace = 2 * 8 * 30**2 - 1
    train([RidgeProbe()], source)
    with pytest.raises(ValueError, match="Gram matrix must fit"):
        train([RidgeProbe(), RidgeProbe(class_weight="balanced")], source)


def test_moment_head__from_moments_equals_fit() -> None:
    X, y = three_classes(90, 6)
    moments = collect(ArrayBatches(X[:40], y[:40]))
    moments.merge(collect(ArrayBatches(X[40:], y[40:])))
    head = RidgeProbe.from_moments(moments, alpha=ALPHAS, selection="gcv")
    expected = RidgeProbe(alpha=ALPHAS, selection="gcv").fit(X, y)
    assert_same(head, expected)
    np.testing.assert_allclose(head.gcv_error_, expected.gcv_error_, rtol=ROUNDING)


def test_moment_head__from_moments_refuses_one_class_and_second_readings() -> None:
    X, y = vit_like(50, 4)
    with pytest.raises(ValueError, match="one class only"):
        RidgeProbe.from_moments(collect(ArrayBatches(X, np.zeros_like(y))))
    with pytest.raises(ValueError, match="must not need the rows once more"):
        RidgeProbe.from_moments(collect(ArrayBatches(X, y)), alpha=ALPHAS)


def test_moment_head__refuses_a_gram_matrix_that_does_not_fit() -> None:
    source = ArrayBatches(*vit_like(50, 30))
    source.workspace = 8 * 30**2 - 1
    with pytest.raises(ValueError, match=r"30² features, .*raise 'max_memory'"):
        train([RidgeProbe()], source)


def test_moment_head__refuses_features_that_are_not_finite_in_a_source() -> None:
    X, y = vit_like(50, 4)
    X[7, 1] = np.nan
    with pytest.raises(ValueError, match=r"features must be finite, .* feature 1"):
        train([RidgeProbe()], ArrayBatches(X, y))
