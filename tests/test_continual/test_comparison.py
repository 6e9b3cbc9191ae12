"""Paired differences against SciPy's paired t-test."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from support.study_scores import simulated_scores

from continual.comparison import BETTER, OPEN, WORSE, compare
from continual.summary import run_numbers

EXACT = 1e-12  # the same arithmetic in another order


def row_of(found: pd.DataFrame, **wanted: Any) -> dict[Any, Any]:
    (row,) = found[(found[list(wanted)] == list(wanted.values())).all(axis=1)].to_dict("records")
    return row


def test_compare__equals_the_paired_t_test() -> None:
    scores = simulated_scores(n_orders=4).sample(frac=1, random_state=1)
    runs = run_numbers(scores, ["accuracy"]).groupby(["selection", "order"])["AA"].mean()
    by_selection = {name: runs[name].to_numpy() for name in ("random", "hgr")}
    test = stats.ttest_rel(by_selection["random"], by_selection["hgr"])
    interval = test.confidence_interval(0.95)
    row = row_of(compare(scores, "accuracy"), selection="random", against="replay hgr", number="AA")
    assert row["n"] == 4
    assert row["difference"] - row["half"] == pytest.approx(interval.low, abs=EXACT)
    assert row["difference"] + row["half"] == pytest.approx(interval.high, abs=EXACT)


def test_compare__pairs_are_narrower_than_single_means() -> None:
    scores = simulated_scores(n_orders=4)
    row = row_of(compare(scores, "accuracy"), selection="random", against="replay hgr", number="AA")
    runs = run_numbers(scores, ["accuracy"]).query("selection == 'random'")
    assert row["half"] < 0.5 * stats.sem(runs["AA"]) * stats.t.ppf(0.975, 7)


def test_compare__less_forgetting_is_better() -> None:
    found = compare(simulated_scores(), "accuracy")
    more = row_of(found, learner="joint", against="fine_tune", number="AA")
    less = row_of(found, learner="joint", against="fine_tune", number="forgetting")
    assert more["difference"] > 0 > less["difference"]
    assert more["verdict"] == less["verdict"] == BETTER
    assert row_of(found, learner="fine_tune", against="joint", number="AA")["verdict"] == WORSE


def test_compare__within_its_interval_nothing_is_said() -> None:
    scores = simulated_scores(selections=("random", "reservoir"), n_orders=4)
    wanted = {"learner": "replay", "selection": "random"}
    row = row_of(compare(scores, "accuracy", wanted), selection="reservoir", number="AA")
    assert abs(row["difference"]) < row["half"]
    assert row["verdict"] == OPEN


def test_compare__one_pair_or_no_difference_says_nothing() -> None:
    one = simulated_scores(n_orders=1, seeds=[0])
    assert set(compare(one, "accuracy")["verdict"]) == {OPEN}
    scores = simulated_scores()
    twin = scores[scores["learner"] == "joint"].assign(learner="merge")
    found = compare(pd.concat([scores, twin]), "accuracy", {"learner": "joint"})
    row = row_of(found, learner="merge", number="AA")
    assert row["difference"] == row["half"] == 0
    assert row["verdict"] == OPEN


def test_compare__only_runs_of_both_are_pairs() -> None:
    scores = simulated_scores()
    first = scores["order"] == scores["order"].iloc[0]
    scores = scores[(scores["learner"] != "joint") | ~first]
    found = compare(scores, "accuracy")
    assert set(found.query("against == 'joint'")["n"]) == {2}
    assert row_of(found, selection="hgr", against="fine_tune", number="AA")["n"] == 3


def test_compare__more_seeds_of_an_order_are_not_more_orders() -> None:
    scores = simulated_scores(seeds=[0])
    copies = pd.concat([scores.assign(seed=seed) for seed in range(5)])
    pd.testing.assert_frame_equal(compare(copies, "accuracy"), compare(scores, "accuracy"))


def test_compare__bases_budgets_and_heads_are_compared_with_their_own() -> None:
    scores = pd.concat(
        simulated_scores(
            base=base, keeps=("5", "9"), heads=("w=1", "w=2"), n_orders=2, selections=selections
        )
        for base, selections in (("x", ("hgr", "random")), ("y", ("random",)))
    )
    found = compare(scores, "accuracy")
    hgr = found.query("against == 'replay hgr'")
    assert set(hgr["base"]) == {"x"}
    assert len(hgr) == 3 * 4  # random at every budget and head; without a budget hgr is not one way
    assert len(found.query("against == 'joint' and base == 'y'")) == 3 * 2 * 3


def test_compare__a_way_without_memory_meets_the_only_budget() -> None:
    row = row_of(
        compare(simulated_scores(), "accuracy"),
        learner="fine_tune",
        against="replay hgr",
        number="average_incremental",
    )
    assert row["verdict"] == WORSE


def test_compare__missing_numbers_are_no_pairs() -> None:
    scores = simulated_scores()
    first = (scores["seed"] == 0) & (scores["learner"] == "joint") & (scores["step"] == 2)
    scores.loc[first, "accuracy"] = np.nan
    row = row_of(compare(scores, "accuracy"), selection="hgr", against="joint", number="AA")
    assert row["n"] == 3
    assert np.isfinite(row["half"])


def test_compare__without_references_the_table_is_empty() -> None:
    found = compare(simulated_scores(), "accuracy", {"learner": "lwf"})
    assert found.empty
    assert "verdict" in found
