"""The counting bootstrap against scikit-learn with weights, and its coverage on a known AUROC."""

from itertools import pairwise
from math import erf

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    roc_auc_score,
    roc_curve,
)

from heads.evaluation import bootstrap, metrics, resampling
from heads.evaluation.bootstrap import (
    CountedMetrics,
    bootstrap_intervals,
    interval,
)
from heads.evaluation.resampling import resampled_counts, units_of

EXACT = 1e-12  # the same sums in another order
THRESHOLDS = {"0.5": 0.0, "val": 0.4}


def weighted(scores, labels, weights):
    """All metrics by scikit-learn's weighted versions."""
    fpr, tpr, _ = roc_curve(labels, scores, sample_weight=weights, drop_intermediate=False)
    found = {
        "auroc": roc_auc_score(labels, scores, sample_weight=weights),
        "average_precision": average_precision_score(labels, scores, sample_weight=weights),
        "tpr_at_1pct_fpr": tpr[fpr <= 0.01].max(),
        "tpr_at_5pct_fpr": tpr[fpr <= 0.05].max(),
    }
    for name, threshold in THRESHOLDS.items():
        called = scores > threshold
        found |= {
            f"accuracy@{name}": accuracy_score(labels, called, sample_weight=weights),
            f"balanced_accuracy@{name}": balanced_accuracy_score(
                labels, called, sample_weight=weights
            ),
            f"real_accuracy@{name}": np.average(~called[labels == 0], weights=weights[labels == 0]),
            f"fake_accuracy@{name}": np.average(called[labels == 1], weights=weights[labels == 1]),
        }
    return found


@pytest.mark.parametrize("decimals", [1, 6], ids=["ties", "no-ties"])
def test_counted_metrics__equal_scikit_learn_with_weights(rng, decimals) -> None:
    labels = (np.arange(120) % 3 == 0).astype(int)
    scores = np.round(rng.normal(size=120) + labels, decimals)
    counted = CountedMetrics(scores, labels, THRESHOLDS)
    counts = next(resampled_counts(units_of(labels), n_resamples=20, rng=rng))
    for values, weights in zip(counted(counts), counts, strict=True):
        expected = weighted(scores, labels, weights)
        assert list(expected) == counted.names
        np.testing.assert_allclose(values, list(expected.values()), rtol=0, atol=EXACT)


def test_counted_metrics__counting_once_equals_the_plain_metrics(rng) -> None:
    labels = rng.integers(0, 2, 80)
    scores = np.round(rng.normal(size=80) + labels, 1)
    values = CountedMetrics(scores, labels, THRESHOLDS)(np.ones((1, 80), int))[0]
    plain = [metric(scores, labels) for metric in metrics.RANKING_METRICS.values()]
    for threshold in THRESHOLDS.values():
        plain += [m(scores, labels, threshold) for m in metrics.THRESHOLD_METRICS.values()]
    np.testing.assert_allclose(values, plain, rtol=0, atol=EXACT)


def test_counted_metrics__know_every_metric() -> None:
    assert list(bootstrap.COUNTED_RANKING) == list(metrics.RANKING_METRICS)


@pytest.mark.parametrize("label", [0, 1])
def test_counted_metrics__missing_class_gives_nan(label) -> None:
    counted = CountedMetrics(np.arange(4.0), np.full(4, label), {"0.5": 1.5})
    values = dict(zip(counted.names, counted(np.ones((1, 4), int))[0], strict=True))
    defined = {name for name, value in values.items() if np.isfinite(value)}
    assert defined == {"accuracy@0.5", f"{('real', 'fake')[label]}_accuracy@0.5"}


def test_resampled_counts__keep_the_size_of_each_stratum(rng) -> None:
    strata = np.repeat([0, 1, 2], [5, 7, 11])
    counts = np.concatenate(list(resampled_counts(units_of(strata), n_resamples=50, rng=rng)))
    sizes = np.stack([counts[:, strata == s].sum(axis=1) for s in range(3)], axis=1)
    assert (sizes == [5, 7, 11]).all()


def test_resampled_counts__keep_groups_together(rng) -> None:
    strata = np.array([0, 1, 0, 1, 0, 0, 1])
    groups = np.array([4, 4, 9, 9, -1, -1, -1])
    counts = np.concatenate(
        list(resampled_counts(units_of(strata, groups), n_resamples=50, rng=rng))
    )
    assert (counts[:, 0] == counts[:, 1]).all()
    assert (counts[:, 2] == counts[:, 3]).all()
    assert (counts[:, 4] != counts[:, 5]).any()
    assert (counts[:, :4].sum(axis=1) == 4).all()


def test_resampled_counts__each_sample_is_drawn_once_on_average(rng) -> None:
    counts = np.concatenate(
        list(resampled_counts(units_of(np.zeros(6)), n_resamples=4000, rng=rng))
    )
    standard_error = np.sqrt((1 - 1 / 6) / 4000)
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=4 * standard_error)


def test_resampled_counts__come_in_bounded_chunks(rng, monkeypatch) -> None:
    monkeypatch.setattr(resampling, "CHUNK_ELEMENTS", 25)
    chunks = [len(c) for c in resampled_counts(units_of(np.zeros(10)), n_resamples=7, rng=rng)]
    assert chunks == [2, 2, 2, 1]


def test_interval__nothing_resampled_gives_nan() -> None:
    assert np.isnan(interval(np.empty((0, 3)))).all()


def test_interval__few_replicates_give_nan(rng) -> None:
    assert np.isnan(interval(rng.normal(size=(19, 2)))).all()
    assert np.isfinite(interval(rng.normal(size=(20, 2)))).all()


def test_bootstrap_intervals__single_image_of_a_class_has_no_interval(rng) -> None:
    labels = np.array([0] + [1] * 9)
    assert np.isnan(bootstrap_intervals(rng.normal(size=10), labels, {})["auroc"]).all()


def test_bootstrap_intervals__images_of_one_group_are_one_unit(rng) -> None:
    labels, groups = np.repeat([0, 1], 5), np.repeat([0, -1], 5)
    found = bootstrap_intervals(rng.normal(size=10), labels, {}, groups=groups)
    assert np.isnan(found["auroc"]).all()


def test_units_of__strata_of_the_first_pool_decide(rng) -> None:
    # Image 0 is in both pools: one unit, drawn among the real images of the first.
    strata, groups = np.array([0, 0, 1, 0, 0, 1]), np.array([0, 1, 2, 0, 3, 4])
    units = units_of(strata, groups, np.repeat(["a", "b"], 3))
    assert units.unit.tolist() == groups.tolist()
    kinds = units.kind[units.unit]
    assert kinds[0] == kinds[1] == kinds[3]
    assert len(set(kinds.tolist())) == 4


def test_bootstrap_intervals__same_seed_same_interval(rng) -> None:
    labels = np.arange(40) % 2
    scores = rng.normal(size=40) + labels
    runs = [bootstrap_intervals(scores, labels, {}, n_resamples=100, rng=s) for s in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_bootstrap_intervals__narrow_as_the_root_of_the_sample_size(rng) -> None:
    widths = []
    for n in (200, 800, 3200):
        labels = np.arange(n) % 2
        low, high = bootstrap_intervals(rng.normal(size=n) + labels, labels, {})["auroc"]
        widths.append(high - low)
    for wide, narrow in pairwise(widths):
        assert wide / narrow == pytest.approx(2, rel=0.25)  # sampling error of both quantiles


def test_bootstrap_intervals__pairs_that_move_together_are_kept_together(rng) -> None:
    base = rng.normal(size=300) * 5
    scores = np.concatenate([base, base + 0.5])
    labels = np.repeat([0, 1], 300)
    pairs = np.tile(np.arange(300), 2)
    paired = bootstrap_intervals(scores, labels, {}, groups=pairs)["auroc"]
    alone = bootstrap_intervals(scores, labels, {})["auroc"]
    assert paired[1] - paired[0] < 0.5 * (alone[1] - alone[0])


def test_bootstrap_intervals__cover_the_binormal_auroc() -> None:
    # real ~ N(0, 1), fake ~ N(1, 1): AUROC = Phi(1 / sqrt(2)).
    truth = (1 + erf(0.5)) / 2
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], 80)
    n_trials, hits = 300, 0
    for _ in range(n_trials):
        scores = rng.normal(size=160) + labels
        low, high = bootstrap_intervals(scores, labels, {}, n_resamples=200, rng=rng)["auroc"]
        hits += low <= truth <= high
    # 95 % nominal; 300 trials have a standard error of 1.3 %, percentile intervals fall 1-2 % short
    assert 0.90 <= hits / n_trials <= 0.985
