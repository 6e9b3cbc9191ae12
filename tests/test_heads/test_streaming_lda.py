"""StreamingLDA against scikit-learn, against Deep SLDA's update, and against itself in pieces."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.covariance import ledoit_wolf, oas
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from support.checks import CutBatches
from support.features import Data, ill_conditioned, vit_like

from heads.closed_form.streaming_lda import StreamingLDA
from heads.closed_form.training import collect
from heads.loop.batch_source import ArrayBatches
from heads.loop.passes import train

SAME_ODDS = 1e-7  # of log odds up to a hundred, from covariances of condition 1e12
ROUNDING = 1e-9  # same arithmetic in another order


def three_classes(n_samples: int = 200, n_features: int = 12) -> Data:
    X, y = vit_like(n_samples, n_features)
    return X.astype(np.float64), y + (np.arange(n_samples) % 5 == 0)


def two_classes(n_samples: int = 200, n_features: int = 12) -> Data:
    X, y = vit_like(n_samples, n_features)
    return X.astype(np.float64), y


def residuals(X: Any, y: Any) -> Any:
    return X - np.array([X[y == k].mean(0) for k in range(y.max() + 1)])[y]


def log_odds(log_probabilities: Any) -> Any:
    return log_probabilities - log_probabilities[:, :1]


@pytest.mark.parametrize("shrinkage", [0.0, 1e-4, 0.3])
@pytest.mark.parametrize(
    ("make", "solver"),
    [
        (two_classes, "lsqr"),
        (two_classes, "eigen"),
        (three_classes, "lsqr"),
        (three_classes, "eigen"),
        (ill_conditioned, "eigen"),  # "lsqr" cuts off small eigenvalues: it is off by 2e-4 here
    ],
)
def test_streaming_lda__equals_scikit_learn(make: Any, shrinkage: float, solver: str) -> None:
    X, y = make(200, 12)
    head = StreamingLDA(shrinkage=shrinkage).fit(X, y)
    model = LinearDiscriminantAnalysis(solver=solver, shrinkage=shrinkage).fit(X, y)
    decisions = head.decision_function(X)
    if y.max() == 1:
        decisions = np.column_stack((np.zeros(len(X)), decisions))
    expected = log_odds(model.predict_log_proba(X))
    np.testing.assert_allclose(log_odds(decisions), expected, rtol=0, atol=SAME_ODDS)
    np.testing.assert_allclose(head.class_means_, model.means_, rtol=1e-12)


def test_streaming_lda__two_classes_have_the_weights_of_scikit_learn() -> None:
    X, y = two_classes()
    head = StreamingLDA(shrinkage=0.1).fit(X, y)
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1).fit(X, y)
    np.testing.assert_allclose(head.coef_, model.coef_, rtol=0, atol=1e-10)
    np.testing.assert_allclose(head.intercept_, model.intercept_, rtol=0, atol=1e-9)


def test_streaming_lda__far_from_zero_nothing_changes() -> None:
    X, y = three_classes()
    near, far = (StreamingLDA().fit(X + offset, y) for offset in (0, 1e4))
    np.testing.assert_allclose(far.coef_, near.coef_, rtol=0, atol=1e-9)
    np.testing.assert_allclose(far.decision_function(X + 1e4), near.decision_function(X), atol=1e-7)


def test_streaming_lda__uniform_priors_differ_from_empirical_ones_by_their_logarithm() -> None:
    X, y = three_classes()
    empirical, uniform = (
        StreamingLDA(priors=priors).fit(X, y) for priors in ("empirical", "uniform")
    )
    np.testing.assert_allclose(empirical.coef_, uniform.coef_, rtol=1e-12)
    expected = np.log(3 * np.bincount(y) / len(y))
    np.testing.assert_allclose(empirical.intercept_ - uniform.intercept_, expected, atol=1e-10)


@pytest.mark.parametrize("shape", [(200, 12), (30, 60)])
@pytest.mark.parametrize(("name", "estimate"), [("oas", oas), ("ledoit_wolf", ledoit_wolf)])
def test_streaming_lda__chooses_the_shrinkage_of_scikit_learn(
    name: Any, estimate: Any, shape: tuple[int, int]
) -> None:
    X, y = two_classes(*shape)
    _, expected = estimate(residuals(X, y), assume_centered=True)
    head = StreamingLDA(shrinkage=name).fit(X, y)
    assert head.shrinkage_ == pytest.approx(expected, rel=1e-10)
    assert 0 < head.shrinkage_ < 1


def test_streaming_lda__singular_covariances_are_inverted_where_they_can_be() -> None:
    X, y = two_classes(20, 40)
    head = StreamingLDA(shrinkage=0.0).fit(X, y)
    means = [X[y == k].mean(0) for k in (0, 1)]
    within = residuals(X, y)
    expected = np.linalg.pinv(within.T @ within / 20, hermitian=True) @ (means[1] - means[0])
    np.testing.assert_allclose(head.coef_[0], expected, rtol=0, atol=1e-8)


def test_streaming_lda__equals_the_update_of_deep_slda() -> None:
    X, y = two_classes(60, 5)
    means, counts, covariance = np.zeros((2, 5)), np.zeros(2), np.zeros((5, 5))
    for t, (row, label) in enumerate(zip(X, y, strict=True)):
        shift = row - means[label]
        outer = counts[label] / (counts[label] + 1) * np.outer(shift, shift)
        covariance = (t * covariance + outer) / (t + 1)
        counts[label] += 1
        means[label] += shift / counts[label]
    weights = means @ np.linalg.inv(covariance)
    biases = -0.5 * np.einsum("kd,kd->k", weights, means)
    scores = X @ weights.T + biases
    head = StreamingLDA(shrinkage=0.0, priors="uniform")
    for start in range(0, len(y), 7):
        head.partial_fit(X[start : start + 7], y[start : start + 7])
    expected = scores[:, 1] - scores[:, 0]
    np.testing.assert_allclose(head.decision_function(X), expected, rtol=0, atol=1e-9)


@given(cuts=st.lists(st.integers(1, 199), max_size=20), seed=st.integers(0, 2**32 - 1))
def test_streaming_lda__does_not_depend_on_order_and_batches(cuts: list[int], seed: int) -> None:
    X, y = three_classes()
    order = np.random.default_rng(seed).permutation(len(y))
    head = StreamingLDA(shrinkage="ledoit_wolf")
    train([head], CutBatches(X[order], y[order], cuts))
    expected = StreamingLDA(shrinkage="ledoit_wolf").fit(X, y)
    np.testing.assert_allclose(head.coef_, expected.coef_, rtol=0, atol=ROUNDING)
    np.testing.assert_allclose(head.intercept_, expected.intercept_, rtol=0, atol=1e3 * ROUNDING)


def test_streaming_lda__a_class_that_comes_late_is_predicted() -> None:
    X, y = three_classes()
    X += 3 * np.eye(3, 12)[y]
    head = StreamingLDA(shrinkage="oas").partial_fit(X[y < 2], y[y < 2])
    assert set(head.predict(X)) <= {0, 1}
    head.partial_fit(X[y == 2], y[y == 2])
    expected = StreamingLDA(shrinkage="oas").fit(X, y)
    np.testing.assert_allclose(
        head.decision_function(X), expected.decision_function(X), rtol=0, atol=1e-9
    )
    assert np.mean(head.predict(X)[y == 2] == 2) > 0.8


def test_streaming_lda__merged_machines_equal_one() -> None:
    X, y = three_classes()
    names = np.array(["glide", "midjourney", "real"])[y]
    parts = [np.flatnonzero(y != 1), np.flatnonzero(y == 1)]
    moments = collect(ArrayBatches(X[parts[1]], names[parts[1]]))
    moments.merge(collect(ArrayBatches(X[parts[0]], names[parts[0]])))
    head, expected = StreamingLDA.from_moments(moments), StreamingLDA().fit(X, names)
    np.testing.assert_array_equal(head.predict(X), expected.predict(X))
    np.testing.assert_allclose(head.coef_, expected.coef_, rtol=0, atol=ROUNDING)


def test_streaming_lda__ledoit_wolf_needs_rows_not_moments() -> None:
    X, y = two_classes()
    with pytest.raises(ValueError, match="must not need the rows once more"):
        StreamingLDA(shrinkage="ledoit_wolf").partial_fit(X, y)


def test_streaming_lda__every_class_must_have_rows() -> None:
    X, y = two_classes()
    with pytest.raises(ValueError, match=r"every class must have rows, got none for \[2\]"):
        train([StreamingLDA()], ArrayBatches(X, y, np.array([0, 1, 2])))
