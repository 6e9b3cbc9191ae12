"""Means over runs against hand computation, SciPy and NumPy."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from support.study_scores import simulated_scores

from continual.metrics import continual_metrics
from continual.summary import (
    MEAN,
    best_first,
    matrices,
    measured,
    over_time,
    per_domain,
    run_numbers,
    summarise,
)
from continual.ways import WAY

EXACT = 1e-12  # the same arithmetic in another order
METRICS = ["accuracy", "average_precision", "auroc"]
WORKED = np.array([[0.90, 0.50, 0.50], [0.80, 0.95, 0.60], [0.70, 0.90, 0.97]])


def table(R: np.ndarray, learned: str, *, seed: int = 0, n_real: int = 10) -> pd.DataFrame:
    """Return the scores of one run on domains a, b, …, shuffled within steps."""
    names = "abcdefgh"[: R.shape[1]]
    rows = [
        {"step": t, "learned": learned[t], "domain": name, "accuracy": R[t, i], "auroc": R[t, i]}
        for t in range(len(R))
        for i, name in reversed(list(enumerate(names)))
    ]
    way = {"base": "", "learner": "fine_tune", "selection": "", "keep": "", "variant": ""}
    run = {**way, "order": " → ".join(learned), "seed": seed, "n_real": n_real, "n_fake": 30}
    frame = pd.DataFrame(rows).assign(**run, seconds=1.0, n_memory=0)
    return frame.assign(average_precision=frame["accuracy"])


def test_summary__worked_example_of_one_run() -> None:
    row = summarise(table(WORKED, "abc"), ["accuracy"]).iloc[0]
    for name, value in continual_metrics(WORKED, baseline=0.5).items():
        assert row[name] == pytest.approx(value, abs=EXACT)
        assert np.isnan(row[f"{name}_half"])
    assert row["n"] == 1


def test_summary__transfer_forward_of_average_precision_is_above_the_share_of_fakes() -> None:
    found = summarise(table(WORKED, "abc"), METRICS).set_index("metric")["FWT"]
    assert found["accuracy"] == pytest.approx(0.05)
    assert found["average_precision"] == pytest.approx((0.5 + 0.6) / 2 - 0.75)


def test_summary__no_transfer_forward_without_both_classes() -> None:
    assert np.isnan(summarise(table(WORKED, "abc", n_real=0), ["accuracy"])["FWT"]).all()


def test_summary__more_classes_have_accuracy_alone_and_no_chance() -> None:
    scores = table(WORKED, "abc").assign(auroc=np.nan, average_precision=np.nan)
    found = summarise(scores, METRICS)
    assert found["metric"].tolist() == ["accuracy"]
    assert np.isnan(found["FWT"]).all()
    assert found["AA"][0] == pytest.approx(0.856667, abs=1e-6)


def test_summary__intervals_are_those_of_scipy() -> None:
    scores = simulated_scores(n_orders=4)
    runs, found = run_numbers(scores, METRICS), summarise(scores, METRICS)
    for row in found.to_dict("records"):
        own = runs[(runs[[*WAY, "metric"]] == [row[k] for k in [*WAY, "metric"]]).all(axis=1)]
        by_order = own.groupby("order")["BWT"].mean()
        interval = stats.ttest_1samp(by_order, 0.0).confidence_interval()
        assert (row["n"], len(own)) == (4, 8)
        assert row["BWT"] - row["BWT_half"] == pytest.approx(interval.low, abs=EXACT)
        assert row["BWT"] + row["BWT_half"] == pytest.approx(interval.high, abs=EXACT)


def test_summary__runs_without_a_number_do_not_count() -> None:
    gap = WORKED.copy()
    gap[2, 0] = np.nan
    runs = [table(R, "abc", seed=i) for i, R in enumerate((WORKED, WORKED - 0.1, gap))]
    row = summarise(pd.concat(runs), ["accuracy"]).iloc[0]
    assert row["AA"] == pytest.approx(0.856667 - 0.05, abs=1e-6)
    assert row["AA_half"] == pytest.approx(0.05 * stats.t.ppf(0.975, 1))


def test_summary__does_not_depend_on_the_order_of_rows() -> None:
    scores = simulated_scores()
    shuffled = scores.sample(frac=1, random_state=0)
    keys = [*WAY, "metric"]
    expected, found = (
        summarise(x, METRICS).sort_values(keys, ignore_index=True) for x in (scores, shuffled)
    )
    pd.testing.assert_frame_equal(found, expected)


def test_summary__a_domain_learned_again_is_one_domain() -> None:
    R = np.array([[0.9, 0.5], [0.6, 0.8], [0.95, 0.7]])
    row = summarise(table(R, "aba"), ["accuracy"]).iloc[0]
    assert row["BWT"] == pytest.approx(0.7 - 0.8)
    assert row["AA"] == pytest.approx((0.95 + 0.7) / 2)


def test_measured__names_what_is_there_or_says_that_nothing_is() -> None:
    scores = table(WORKED, "abc").assign(auroc=np.nan)
    assert measured(scores, ["auroc", "accuracy", "f1"]) == ["accuracy"]
    with pytest.raises(ValueError, match=r"must have a score.*got \['auroc'\]"):
        summarise(scores, ["auroc"])


def test_best_first__sorts_by_what_is_left_at_the_end() -> None:
    ways = best_first(simulated_scores(), "accuracy")
    assert [way[1:3] for way in ways] == [
        ("joint", ""),
        ("replay", "hgr"),
        ("replay", "random"),
        ("fine_tune", ""),
    ]


def test_best_first__keeps_bases_together() -> None:
    scores = [simulated_scores(base=base) for base in ("z", "y")]
    assert [way[0] for way in best_first(pd.concat(scores), "accuracy")] == ["z"] * 4 + ["y"] * 4


def test_per_domain__means_over_orders_and_seeds_after_the_last_step() -> None:
    scores = simulated_scores()
    found = per_domain(scores, METRICS)
    last = scores[(scores["step"] == 2) & (scores["learner"] == "fine_tune")]
    own = found[found["learner"] == "fine_tune"].set_index("domain")
    assert own.index.tolist()[-1] == MEAN
    for domain, rows in last.groupby("domain"):
        assert own.loc[domain, "auroc"] == pytest.approx(rows["auroc"].mean(), abs=EXACT)
        half = stats.sem(rows.groupby("order")["auroc"].mean()) * stats.t.ppf(0.975, 2)
        assert own.loc[domain, "auroc_half"] == pytest.approx(half, abs=EXACT)


def test_per_domain__pooled_mean_is_the_average_accuracy() -> None:
    scores = simulated_scores()
    pooled = per_domain(scores, METRICS).query("domain == @MEAN")
    expected = summarise(scores, ["accuracy"])
    np.testing.assert_allclose(pooled["accuracy"], expected["AA"], rtol=EXACT)
    np.testing.assert_allclose(pooled["accuracy_half"], expected["AA_half"], rtol=1e-9)


def test_per_domain__no_pooled_mean_over_a_part_of_the_domains() -> None:
    scores = table(WORKED, "abc")
    scores.loc[scores["domain"] == "b", "auroc"] = np.nan
    found = per_domain(scores, METRICS).set_index("domain")["auroc"]
    assert found["a"] == 0.7
    assert np.isnan([found["b"], found[MEAN]]).all()


def test_over_time__mean_over_the_domains_learned_so_far() -> None:
    found = over_time(table(WORKED, "abc"), "accuracy")
    assert found["step"].tolist() == [0, 1, 2]
    assert found["score"].tolist() == pytest.approx([0.9, 0.875, 2.57 / 3])


def test_matrices__columns_are_in_the_order_of_learning() -> None:
    order = [2, 0, 1]
    swapped = np.empty((3, 3))
    swapped[:, order] = WORKED + 0.02
    runs = [table(WORKED, "abc"), table(swapped, "cab")]
    (found,) = matrices(pd.concat(runs), "accuracy").values()
    np.testing.assert_allclose(found, WORKED + 0.01, atol=EXACT)


def test_matrices__scores_that_no_run_has_are_missing() -> None:
    lower = np.where(np.tri(3, dtype=bool), WORKED, np.nan)
    (found,) = matrices(table(lower, "abc"), "accuracy").values()
    np.testing.assert_array_equal(found, lower)


def test_matrices__a_domain_learned_again_has_one_column() -> None:
    R = np.array([[0.9, 0.5], [0.6, 0.8], [0.95, 0.7]])
    (found,) = matrices(table(R, "bab"), "accuracy").values()
    np.testing.assert_array_equal(found, R[:, ::-1])
