"""Direction and threshold of anomaly scores, against all thresholds there are."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heads.one_class.decision_rule import better_direction, rule_at, threshold_at


def test_better_direction__is_that_of_the_roc_curve() -> None:
    y = np.array([0, 0, 1, 1])
    assert better_direction(np.array([1.0, 2, 3, 4]), y) == "high"
    assert better_direction(np.array([3.0, 4, 1, 2]), y) == "low"
    with pytest.raises(ValueError, match="both classes"):
        better_direction(np.array([3.0, 4]), y[:2])


@given(
    scores=st.lists(st.integers(-5, 5), min_size=1, max_size=40),
    rate=st.floats(0, 1, exclude_max=True),
)
def test_threshold_at__is_the_lowest_score_that_keeps_the_rate(
    scores: list[int], rate: float
) -> None:
    values = np.array(scores, float)
    threshold = threshold_at(values, rate)
    allowed = [t for t in values if np.sum(values > t) <= rate * len(values) + 1e-9]
    assert threshold == min(allowed)


@pytest.mark.parametrize(
    ("direction", "unusual"), [("high", 99.0), ("low", 0.0), ("two_sided", 0.0)]
)
def test_rule_at__each_direction_has_its_unusual_scores(direction: Any, unusual: float) -> None:
    scores = np.arange(100.0)
    rule = rule_at(scores, 0.1, direction)
    margins = rule.margins(scores)
    assert np.mean(margins > 0) == rule.rate == 0.1
    assert margins[int(unusual)] == margins.max()
    assert margins[50] < 0


def test_rule_at__equal_scores_have_a_margin() -> None:
    rule = rule_at(np.full(10, 3.0), 0.05, "high")
    margins = rule.margins(np.array([3.0, 4.0]))
    np.testing.assert_allclose(margins, [0, 1], rtol=0, atol=1e-9)  # the slack for rounding
    assert margins[0] <= 0
