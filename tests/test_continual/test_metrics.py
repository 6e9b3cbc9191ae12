"""Numbers of continual learning against hand computation."""

import numpy as np
import pytest

from continual.metrics import continual_metrics

R = [[0.90, 0.50, 0.50], [0.80, 0.95, 0.60], [0.70, 0.90, 0.97]]


def test_metrics__worked_example() -> None:
    expected = {
        "AA": 0.856667,
        "average_incremental": 0.877222,
        "BWT": -0.125,
        "relative_BWT": -0.137427,
        "forgetting": 0.125,
        "FWT": 0.05,
    }
    assert continual_metrics(R, baseline=0.5) == pytest.approx(expected, abs=1e-6)


def test_metrics__order_of_the_columns_does_not_matter() -> None:
    order = [2, 0, 1]
    swapped = np.empty((3, 3))
    swapped[:, order] = R
    assert continual_metrics(swapped, order, 0.5) == pytest.approx(
        continual_metrics(R, baseline=0.5)
    )


def test_metrics__a_domain_learned_again_is_compared_with_its_last_time() -> None:
    scores = [[0.9, 0.5], [0.6, 0.8], [0.95, 0.7]]
    found = continual_metrics(scores, [0, 1, 0], [0.5, 0.4])
    assert found["BWT"] == pytest.approx(0.7 - 0.8)
    assert found["forgetting"] == pytest.approx(0.8 - 0.7)
    assert found["FWT"] == pytest.approx(0.5 - 0.4)
    assert found["average_incremental"] == pytest.approx((0.9 + 0.7 + 0.825) / 3)


def test_metrics__one_step_has_nothing_to_forget() -> None:
    found = continual_metrics([[0.9, 0.5]], [0])
    assert found["AA"] == 0.9
    assert np.isnan([found[name] for name in ("BWT", "forgetting", "FWT")]).all()


def test_metrics__shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="a row per step and a column per domain"):
        continual_metrics(R, [0, 1])
