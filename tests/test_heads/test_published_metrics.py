"""Calibration, operating points and published conventions against published code and brute force.

``tests/data/metrics.npz`` holds sets of 400 scores and what public evaluation scripts
(UniversalFakeDetect, DMimageDetection, SIDBench) and textbook formulas give for two of them.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import expit
from sklearn.metrics import brier_score_loss, log_loss, roc_curve

from heads.evaluation import calibration, metrics, operating_points
from heads.evaluation import published_metrics as published

EXACT = 1e-12  # the same arithmetic in another order
PRINTED = 5e-5  # values known to four decimals


def ufd_accuracy(probabilities: Any, labels: Any) -> float:
    threshold = published.ufd_best_threshold(probabilities, labels)
    return metrics.accuracy(probabilities, labels, threshold)


def sid_accuracy(probabilities: Any, labels: Any) -> float:
    threshold = published.sidbench_best_threshold(probabilities, labels)
    return metrics.accuracy(probabilities, labels, threshold)


def ufd_of_class(metric: Any) -> Any:
    return lambda p, y: metric(p, y, published.ufd_best_threshold(p, y))


OF_PROBABILITIES = {
    "ufd_best_thres": published.ufd_best_threshold,
    "ufd_best_acc": ufd_accuracy,
    "ufd_best_r": ufd_of_class(metrics.real_accuracy),
    "ufd_best_f": ufd_of_class(metrics.fake_accuracy),
    "ufd_best_acc_ge_rule": lambda p, y: np.mean((p >= published.ufd_best_threshold(p, y)) == y),
    "sid_best_threshold": published.sidbench_best_threshold,
    "sid_oracle_acc": sid_accuracy,
    "sid_ppv": lambda p, y: published.predictive_values(p, y, 0.5)[0],
    "sid_npv": lambda p, y: published.predictive_values(p, y, 0.5)[1],
    "sid_auc": metrics.auroc,
    "brier": calibration.brier,
    "ece15_posprob": calibration.calibration_error,
    "ece15_confidence": calibration.confidence_error,
}
OF_LOGITS = {
    "nll": calibration.nll,
    "clip_auc": metrics.auroc,
    "dm_eer": published.dm_equal_error_rate,
    "dm_macc": published.dm_best_balanced_accuracy,
    "dm_pd10": lambda s, y: published.dm_detection_rate(s, y, 0.10),
    "dm_pd05": lambda s, y: published.dm_detection_rate(s, y, 0.05),
    "dm_pd01": lambda s, y: published.dm_detection_rate(s, y, 0.01),
}


@pytest.fixture(scope="module")
def vectors() -> Any:
    with np.load(Path(__file__).parents[1] / "data" / "metrics.npz") as file:
        return dict(file)


@pytest.mark.parametrize("case", ["gauss", "separable"])
@pytest.mark.parametrize("name", [*OF_PROBABILITIES, *OF_LOGITS])
def test_published_metrics__equal_published_code(vectors: Any, case: str, name: str) -> None:
    logits, labels = vectors[f"{case}_logit"], vectors[f"{case}_y"]
    expected = vectors[f"{case}_values"][list(vectors[f"{case}_names"]).index(name)]
    if name in OF_LOGITS:
        got = OF_LOGITS[name](logits, labels)
    else:
        got = OF_PROBABILITIES[name](expit(logits), labels)
    assert got == pytest.approx(expected, abs=EXACT)


def test_published_metrics__with_ties(vectors: Any) -> None:
    logits, labels = vectors["ties_logit"], vectors["ties_y"]
    threshold = published.ufd_best_threshold(expit(logits), labels)
    swept = np.mean((expit(logits) >= threshold) == labels)
    assert swept == pytest.approx(0.7275, abs=PRINTED)
    assert ufd_accuracy(expit(logits), labels) == pytest.approx(0.7050, abs=PRINTED)
    assert published.dm_detection_rate(logits, labels, 0.05) == pytest.approx(0.4006, abs=PRINTED)


ROWS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 1)), min_size=2, max_size=30).filter(
    lambda rows: len({label for _, label in rows}) == 2
)


def arrays(rows: Any) -> tuple[Any, Any]:
    scores, labels = np.array(rows).T
    return scores / 8, labels


@given(rows=ROWS)
def test_ufd_best_threshold__equals_the_loop_over_scores(rows: Any) -> None:
    scores, labels = arrays(rows)
    n = min(np.bincount(labels))
    kept = np.concatenate([np.flatnonzero(labels == label)[:n] for label in (0, 1)])
    scores, labels = scores[kept], labels[kept]
    best, expected = 0.0, 0.0
    for threshold in scores:
        accuracy = np.mean((scores >= threshold) == labels)
        if accuracy >= best:
            best, expected = accuracy, threshold
    if scores[:n].max() <= scores[n:].min():
        expected = (scores[:n].max() + scores[n:].min()) / 2
    assert published.ufd_best_threshold(scores, labels) == expected


@given(rows=ROWS)
def test_sidbench_best_threshold__equals_the_loop_over_its_grid(rows: Any) -> None:
    scores, labels = arrays(rows)
    grid = np.linspace(0, 1, 100)
    accuracies = [np.mean((scores > threshold) == labels) for threshold in grid]
    expected = grid[int(np.argmax(accuracies))]
    assert published.sidbench_best_threshold(scores, labels) == expected


@given(rows=ROWS, n_bins=st.integers(1, 20))
def test_calibration_errors__equal_the_loop_over_bins(rows: Any, n_bins: int) -> None:
    p, y = arrays(rows)
    edges = np.arange(n_bins + 1) / n_bins

    def loop(values: Any, outcomes: Any) -> float:
        total = 0.0
        for number in range(n_bins):
            last = number == n_bins - 1
            inside = (values >= edges[number]) & ((values < edges[number + 1]) | last)
            if inside.any():
                total += inside.mean() * abs(values[inside].mean() - outcomes[inside].mean())
        return total

    assert calibration.calibration_error(p, y, n_bins) == pytest.approx(loop(p, y), abs=EXACT)
    confidence, right = np.maximum(p, 1 - p), (p > 0.5) == y
    got = calibration.confidence_error(p, y, n_bins)
    assert got == pytest.approx(loop(confidence, right), abs=EXACT)


@given(rows=ROWS)
def test_proper_scores__equal_scikit_learn(rows: Any) -> None:
    logits, y = arrays(rows)
    p = expit(logits)
    assert calibration.nll(logits, y) == pytest.approx(log_loss(y, p), abs=EXACT)
    assert calibration.brier(p, y) == pytest.approx(brier_score_loss(y, p), abs=EXACT)


def test_nll__is_finite_where_probabilities_are_0_and_1() -> None:
    assert calibration.nll(np.array([800.0, -800.0]), np.array([0, 1])) == 800


@given(rows=ROWS)
def test_equal_error_rate__is_the_root_on_the_lines_of_the_roc_curve(rows: Any) -> None:
    scores, labels = arrays(rows)
    fpr, tpr, _ = roc_curve(labels, scores)
    along = np.linspace(0, 1, len(fpr))

    def balance(at: float) -> float:
        return float(np.interp(at, along, fpr) + np.interp(at, along, tpr) - 1)

    root = brentq(balance, 0, 1, xtol=1e-15)
    expected = pytest.approx(np.interp(root, along, fpr), abs=1e-10)  # of the root search
    assert operating_points.equal_error_rate(scores, labels) == expected


@given(rows=ROWS, fpr=st.floats(0, 1))
def test_interpolated_tpr__is_never_below_what_a_threshold_reaches(rows: Any, fpr: float) -> None:
    scores, labels = arrays(rows)
    interpolated = operating_points.interpolated_tpr_at_fpr(scores, labels, fpr)
    assert interpolated >= metrics.tpr_at_fpr(scores, labels, fpr) - EXACT


@given(rows=ROWS, fpr=st.floats(0, 1))
def test_fiser_tpr__is_that_of_its_threshold_and_no_corner_is_nearer(rows: Any, fpr: float) -> None:
    scores, labels = arrays(rows)
    tpr, threshold = published.fiser_tpr_at_fpr(scores, labels, fpr)
    assert tpr == pytest.approx(np.mean(scores[labels == 1] >= threshold), abs=EXACT)
    distance = abs(np.mean(scores[labels == 0] >= threshold) - fpr)
    corners = roc_curve(labels, scores)[0]
    assert distance == pytest.approx(np.abs(corners - fpr).min(), abs=EXACT)


def test_fiser_tpr__may_have_more_false_alarms_than_were_wanted() -> None:
    scores, labels = np.array([0.0] * 9 + [1.0, 1.0, 3.0]), np.array([0] * 10 + [1, 1])
    tpr, threshold = published.fiser_tpr_at_fpr(scores, labels, 0.06)
    assert (tpr, threshold) == (1.0, 1.0)
    assert np.mean(scores[labels == 0] >= threshold) == 0.1
    assert metrics.tpr_at_fpr(scores, labels, 0.06) == 0.5


def test_dm_finite__leaves_finite_scores_alone(rng: np.random.Generator) -> None:
    scores = rng.normal(size=9)
    np.testing.assert_array_equal(published.dm_finite(scores), scores)
    with pytest.raises(ValueError, match="must hold a finite number, got none"):
        published.dm_finite(np.array([np.nan, np.inf]))


def test_predictive_values__of_what_is_never_called_is_nan() -> None:
    ppv, npv = published.predictive_values(np.zeros(3), np.array([0, 1, 0]), 0.5)
    assert np.isnan(ppv)
    assert npv == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "metric",
    [
        operating_points.equal_error_rate,
        published.dm_equal_error_rate,
        published.dm_best_balanced_accuracy,
        partial(operating_points.interpolated_tpr_at_fpr, fpr=0.1),
        published.fiser_tpr_at_fpr,
    ],
    ids=["eer", "dm_eer", "dm_balanced", "interpolated", "fiser"],
)
def test_operating_points__missing_class_gives_nan(metric: Any) -> None:
    assert np.isnan(metric(np.arange(3.0), np.ones(3))).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, y: calibration.brier(3 * s, y), r"must be in \[0, 1\], got 0 to 3"),
        (lambda s, y: calibration.calibration_error(s, y, 0), "'n_bins' must be at least 1, got 0"),
        (lambda s, y: published.fiser_tpr_at_fpr(s, y, 2), r"'fpr' must be in \[0, 1\], got 2"),
        (lambda s, y: operating_points.interpolated_tpr_at_fpr(s, y, -1), r"'fpr' must be in"),
        (published.ufd_best_threshold, "one half real, then one half fake.*got 1 real of 3"),
    ],
    ids=["probability", "bins", "nearest", "interpolated", "order"],
)
def test_published_metrics__bad_input_is_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(np.array([0.0, 0.5, 1.0]), np.array([1, 0, 1]))


def test_ufd_best_threshold__one_row_has_no_half_of_reals() -> None:
    with pytest.raises(ValueError, match=r"one half real.*got 0 real of 1"):
        published.ufd_best_threshold(np.array([0.5]), np.array([1]))
