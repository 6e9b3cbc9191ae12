"""Numbers of continual learning against hand computation and Avalanche.

``tests/data/avalanche_metrics.npz`` holds five sets of accuracies, row 0 before training, and what
the stream metrics of avalanche-lib 0.6.0 (StreamAccuracy, StreamBWT, StreamForgetting,
StreamForwardTransfer) print in a run whose model answers as often right as the set says. In the
last set no accuracy rises after its domain was learned.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.vectors import stored

from continual.metrics import continual_metrics, mean_so_far

R = [[0.90, 0.50, 0.50], [0.80, 0.95, 0.60], [0.70, 0.90, 0.97]]
EXACT = 1e-12  # the same arithmetic in another order
SETS = range(5)

matrices = st.integers(2, 6).flatmap(
    lambda n: hnp.arrays(np.float64, (n, n), elements=st.floats(0.125, 1))
)


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


@pytest.mark.parametrize("number", SETS)
def test_metrics__equal_avalanche(number: int) -> None:
    data = stored("avalanche_metrics")
    before, *scores = data[f"scores_{number}"]
    accuracy, bwt, forgetting, fwt = data[f"numbers_{number}"]
    found = continual_metrics(scores, baseline=before)
    assert [found[name] for name in ("AA", "BWT", "FWT")] == pytest.approx(
        [accuracy, bwt, fwt], abs=EXACT
    )
    assert -found["BWT"] == pytest.approx(forgetting, abs=EXACT)


def test_forgetting__equals_avalanche_where_no_score_rises_later() -> None:
    data = stored("avalanche_metrics")
    scores = data["scores_4"][1:].copy()
    scores[np.triu_indices(len(scores), 1)] = 0  # before the domain was learned
    found = continual_metrics(scores)["forgetting"]
    assert found == pytest.approx(data["numbers_4"][2], abs=EXACT)


@given(matrices)
def test_metrics__equal_the_definitions_for_every_matrix(scores: np.ndarray) -> None:
    n = len(scores)
    bwt = relative = forgetting = 0.0
    for i in range(n - 1):
        bwt += (scores[n - 1, i] - scores[i, i]) / (n - 1)
        relative += (scores[n - 1, i] - scores[i, i]) / scores[i, i] / (n - 1)
        forgetting += (max(scores[t, i] for t in range(n - 1)) - scores[n - 1, i]) / (n - 1)
    found = continual_metrics(scores)
    assert found["BWT"] == pytest.approx(bwt, abs=EXACT)
    assert found["relative_BWT"] == pytest.approx(relative, abs=EXACT)
    assert found["forgetting"] == pytest.approx(forgetting, abs=EXACT)
    assert found["forgetting"] >= -found["BWT"] - EXACT


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
    assert found["AA"] == pytest.approx((0.95 + 0.7) / 2)
    assert found["BWT"] == pytest.approx(0.7 - 0.8)
    assert found["relative_BWT"] == pytest.approx((0.7 - 0.8) / 0.8)
    assert found["forgetting"] == pytest.approx(0.8 - 0.7)
    assert found["FWT"] == pytest.approx(0.5 - 0.4)
    assert found["average_incremental"] == pytest.approx((0.9 + 0.7 + 0.825) / 3)


def test_metrics__a_domain_learned_twice_and_left_counts_once() -> None:
    scores = [[0.9, 0.5], [0.8, 0.5], [0.6, 0.7]]
    found = continual_metrics(scores, [0, 0, 1])
    assert found["BWT"] == pytest.approx(0.6 - 0.8)
    assert found["forgetting"] == pytest.approx(0.9 - 0.6)


def test_metrics__one_step_has_nothing_to_forget() -> None:
    found = continual_metrics([[0.9, 0.5]], [0])
    assert found["AA"] == 0.9
    assert np.isnan([found[name] for name in ("BWT", "forgetting", "FWT")]).all()


def test_metrics__domains_tested_only_once_learned_leave_all_but_transfer_forward() -> None:
    scores = np.where(np.tri(3, dtype=bool), R, np.nan)
    expected = continual_metrics(R)
    assert continual_metrics(scores, baseline=0.5) == pytest.approx(expected, nan_ok=True)


def test_metrics__a_missing_score_is_missing_in_the_numbers_that_need_it() -> None:
    scores = np.array(R)
    scores[0, 0] = np.nan
    found = continual_metrics(scores)
    assert np.isnan([found[name] for name in ("BWT", "relative_BWT", "average_incremental")]).all()
    assert found["AA"] == pytest.approx(0.856667, abs=1e-6)
    assert found["forgetting"] == pytest.approx((0.8 - 0.7 + 0.95 - 0.9) / 2)


def test_metrics__relative_to_nothing_is_undefined() -> None:
    found = continual_metrics([[0.0, 0.0], [0.5, 0.5]])
    assert np.isnan(found["relative_BWT"])
    assert found["BWT"] == 0.5


def test_mean_so_far__counts_a_domain_once() -> None:
    found = mean_so_far([[0.5, 0.1], [0.7, 0.1], [0.5, 1.0]], [0, 0, 1])
    assert found.tolist() == [0.5, 0.7, 0.75]


def test_metrics__shapes_that_do_not_fit_are_refused() -> None:
    for call in (continual_metrics, mean_so_far):
        with pytest.raises(ValueError, match="a row per step and a column per domain"):
            call(R, [0, 1])
