"""Attribution metrics against scikit-learn and against all pairs."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    recall_score,
    roc_auc_score,
)

from heads.attribution.metrics import (
    NAMES,
    Attributed,
    CountedAttribution,
    attribution_metrics,
    confusion,
    oscr_curve,
)

KNOWN = np.array(["a", "b", "c"])


def samples(n: int = 60, seed: int = 0, levels: int = 10) -> Attributed:
    """Samples of three known and two unknown generators, with many equal scores."""
    rng = np.random.default_rng(seed)
    generator = rng.choice(["a", "b", "c", "x", "y"], n, p=[0.3, 0.2, 0.1, 0.3, 0.1])
    named = np.where(rng.random(n) < 0.7, generator, rng.choice(KNOWN, n))
    named = np.where(np.isin(named, KNOWN), named, "a")
    score = rng.integers(levels, size=n) + 2.0 * ~np.isin(generator, KNOWN)
    return Attributed(generator.astype(object), named.astype(object), score, score > 7)


def values(*args: Any, **kwargs: Any) -> dict[str, float]:
    table = attribution_metrics(*args, n_resamples=0, **kwargs)
    return dict(zip(table["metric"], table["value"], strict=True))


def test_metrics__equal_scikit_learn() -> None:
    s = samples()
    known, found = np.isin(s.generator, KNOWN), values(samples(), KNOWN)
    assert found["accuracy"] == accuracy_score(s.generator[known], s.named[known])
    expected = balanced_accuracy_score(s.generator[known], s.named[known])
    assert found["balanced_accuracy"] == pytest.approx(expected)
    assert found["open_auroc"] == pytest.approx(roc_auc_score(~known, s.score))
    expected = recall_score(known, s.rejected)
    assert found["known_rejected"] == pytest.approx(expected)
    assert found["unknown_rejected"] == pytest.approx(recall_score(~known, s.rejected))
    truth = np.where(known, s.generator, "rejected")
    opened = np.where(s.rejected, "rejected", s.named)
    assert found["open_accuracy"] == accuracy_score(truth, opened)


@given(seed=st.integers(0, 1000), levels=st.sampled_from([1, 3, 1000]))
def test_oscr__is_the_share_of_pairs_in_which_the_right_known_one_is_nearer(
    seed: int, levels: int
) -> None:
    s = samples(30, seed, levels)
    known = np.isin(s.generator, KNOWN)
    first, second = np.flatnonzero(known), np.flatnonzero(~known)
    if not len(first) * len(second):
        return
    total = 0.0
    for i, j in product(first, second):
        if s.named[i] == s.generator[i]:
            total += (s.score[i] < s.score[j]) + 0.5 * (s.score[i] == s.score[j])
    expected = total / (len(first) * len(second))
    assert values(s, KNOWN)["oscr"] == pytest.approx(expected, abs=1e-12)
    kept, right = oscr_curve(s, KNOWN)
    assert np.trapezoid(right, kept) == pytest.approx(expected, abs=1e-12)


def test_oscr_curve__is_that_of_every_threshold() -> None:
    s = samples()
    known = np.isin(s.generator, KNOWN)
    kept, right = oscr_curve(s, KNOWN)
    for number, threshold in enumerate(np.unique(s.score), start=1):
        below = s.score <= threshold
        assert kept[number] == below[~known].mean()
        assert right[number] == ((s.named == s.generator) & below)[known].mean()
    assert (kept[0], right[0]) == (0, 0)
    assert right[-1] == values(s, KNOWN)["accuracy"]


def test_counted__a_resample_equals_the_samples_repeated() -> None:
    s = samples()
    counts = np.random.default_rng(1).integers(3, size=(5, 60))
    found = CountedAttribution(s, KNOWN)(counts)
    for row, own in zip(found, counts, strict=True):
        repeated = Attributed(*(np.repeat(column, own) for column in s))
        expected = values(repeated, KNOWN)
        np.testing.assert_allclose(row, [expected[name] for name in NAMES], rtol=1e-12)


def test_intervals__have_the_width_of_the_binomial() -> None:
    n = 400
    generator = np.repeat(["a", "x"], n).astype(object)
    named = np.where(np.arange(2 * n) % 4 == 0, "b", "a").astype(object)
    score = np.arange(2.0 * n)
    table = attribution_metrics(
        Attributed(generator, named, score, score > n), KNOWN, n_resamples=500
    ).set_index("metric")
    low, high = table.loc["accuracy", ["low", "high"]]
    half = 1.96 * np.sqrt(0.25 * 0.75 / n)
    assert low == pytest.approx(0.75 - half, abs=0.2 * half)
    assert high == pytest.approx(0.75 + half, abs=0.2 * half)
    assert table.loc["known_rejected", "value"] == 0


def test_intervals__pairs_are_drawn_together() -> None:
    n = 50
    generator = np.tile(["a", "x"], n).astype(object)
    named, groups = np.repeat(["a", "b"], n).astype(object), np.repeat(np.arange(n), 2)
    score = np.repeat(np.arange(n), 2) % 2 * 1.0
    s = Attributed(generator, named, score, score > 0)
    table = attribution_metrics(s, KNOWN, groups=groups, n_resamples=200).set_index("metric")
    rates = table.loc[["known_rejected", "unknown_rejected"], ["low", "high"]].to_numpy()
    np.testing.assert_array_equal(rates[0], rates[1])


@pytest.mark.parametrize("generator", ["a", "x"])
def test_metrics__are_undefined_where_nothing_known_or_unknown_is(generator: str) -> None:
    s = Attributed(
        np.full(4, generator, object), np.full(4, "a", object), np.arange(4.0), np.zeros(4, bool)
    )
    found = values(s, KNOWN)
    of_known = {"accuracy", "balanced_accuracy", "known_rejected"}
    lacking = {"unknown_rejected"} if generator == "a" else of_known
    undefined = {name for name, value in found.items() if np.isnan(value)}
    assert undefined == lacking | {"open_auroc", "oscr"}


def test_confusion__counts_what_is_attributed_to_what() -> None:
    s = samples()
    table = confusion(s, KNOWN)
    to = np.where(s.rejected, "rejected", s.named).astype(str)
    names = ["a", "b", "c", "x", "y", "rejected"]
    expected = confusion_matrix(s.generator.astype(str), to, labels=names)
    np.testing.assert_array_equal(table.to_numpy(), expected[:5][:, [0, 1, 2, 5]])
    assert table.index.tolist() == ["a", "b", "c", "x", "y"]
    assert table.columns.tolist() == ["a", "b", "c", "rejected"]
    assert table.to_numpy().sum() == 60


def test_metrics__refuse_what_does_not_fit() -> None:
    s = samples()
    with pytest.raises(ValueError, match="one shape"):
        attribution_metrics(s._replace(score=s.score[1:]), KNOWN)
    with pytest.raises(ValueError, match="finite"):
        attribution_metrics(s._replace(score=np.full(60, np.nan)), KNOWN)
    with pytest.raises(ValueError, match="one shape"):
        attribution_metrics(Attributed(*(column[:0] for column in s)), KNOWN)
