"""Reports of studies: their tables say what the tables of numbers say."""

import numpy as np
import pandas as pd
import pytest
from support.study_scores import simulated_scores

from continual.comparison import compare
from continual.report import CHAIN, report, text
from continual.summary import MEAN, per_domain, summarise

WIDE = 130
"""Characters that a line may have for a study without grids."""


def tables(markdown: str) -> dict[str, pd.DataFrame]:
    """Return the pipe tables of a report by the heading above."""
    found: dict[str, list[list[str]]] = {}
    heading = ""
    for line in markdown.splitlines():
        heading = line.lstrip("# ") if line.startswith("#") else heading
        if line.startswith("|"):
            found.setdefault(heading, []).append([x.strip() for x in line.split("|")[1:-1]])
    return {name: pd.DataFrame(rows[2:], columns=rows[0]) for name, rows in found.items()}


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    return simulated_scores()


def test_report__numbers_are_those_of_the_summary_best_first(scores: pd.DataFrame) -> None:
    shown = tables(report(scores, "auroc"))["auroc"]
    expected = summarise(scores, ["auroc"]).sort_values("AA", ascending=False)
    assert shown["learner"].tolist() == expected["learner"].tolist()
    for name in ("AA", "relative_BWT", "forgetting", "FWT"):
        pairs = zip(expected[name], expected[f"{name}_half"], strict=True)
        assert shown[name].tolist() == [f"{mean:.3f} ± {half:.3f}" for mean, half in pairs]


def test_report__says_once_what_all_ways_have_in_common(scores: pd.DataFrame) -> None:
    markdown = report(scores, "accuracy")
    title = "# Continual learning: 4 ways, 3 domains, 3 orders, 2 seeds, keep 0.01"
    assert markdown.splitlines()[0] == title
    for table in tables(markdown).values():
        assert [name for name in table if name in ("base", "selection", "keep", "variant")] == [
            "selection"
        ]


def test_report__domains_are_columns(scores: pd.DataFrame) -> None:
    shown = tables(report(scores, "accuracy"))
    last = per_domain(scores, ["auroc"]).query("learner == 'joint'").set_index("domain")["auroc"]
    for name in ("accuracy", "average_precision", "auroc"):
        assert set(shown[f"{name} after the last step"]) >= {"a", "b", "c", MEAN}
    joint = shown["auroc after the last step"].iloc[0]
    assert [joint[name][:5] for name in last.index] == [f"{value:.3f}" for value in last]


def test_report__differences_are_those_of_compare(scores: pd.DataFrame) -> None:
    shown = tables(report(scores, "accuracy"))["forgetting"].set_index("selection")
    found = compare(scores, "accuracy").query("selection == 'random' and number == 'forgetting'")
    for row in found.to_dict("records"):
        cell = f"{row['difference']:+.3f} ± {row['half']:.3f} {row['verdict']}"
        assert shown.loc["random", f"against {row['against']}"] == cell
    assert shown.loc["hgr", "against replay hgr"] == ""


def test_report__the_chain_holds_fails_or_is_open() -> None:
    scores = simulated_scores(n_orders=4)
    above = scores[scores["learner"] == "joint"].assign(learner="ewc")
    above = above.assign(accuracy=above["accuracy"] + 0.01)
    alike = scores[scores["learner"] == "joint"].assign(learner="merge")
    shown = tables(report(pd.concat([scores, above, alike]), "accuracy"))["AA"]
    chains = shown.drop_duplicates("learner").set_index("learner")[CHAIN]
    assert chains.to_dict() == {
        "ewc": "fails",
        "joint": "",
        "merge": "open",
        "replay": "holds",
        "fine_tune": "",
    }


def test_report__no_differences_without_references(scores: pd.DataFrame) -> None:
    for words in (f(scores.query("selection == 'random'"), "accuracy") for f in (report, text)):
        assert "ifference" not in words
        assert "against" not in words


def test_report__cost_of_steps_and_memory(scores: pd.DataFrame) -> None:
    cost = tables(report(scores, "accuracy"))["Cost"].set_index("learner")
    assert cost.loc["joint"].tolist() == ["", "2.50", "7.5", "0"]
    assert set(cost.loc["replay", "rows kept"]) == {"60"}


def test_report__more_classes_have_accuracy_alone(scores: pd.DataFrame) -> None:
    ranking = ["balanced_accuracy", "average_precision", "auroc"]
    markdown = report(scores.assign(**dict.fromkeys(ranking, np.nan)), "accuracy")
    assert "FWT" not in tables(markdown)["accuracy"]
    assert "auroc" not in markdown
    assert "nan" not in markdown


def test_report__one_run_has_no_intervals() -> None:
    one = simulated_scores(n_orders=1, seeds=[0])
    for words in (report(one, "accuracy"), text(one, "accuracy")):
        assert not any("±" in line for line in words.splitlines() if "joint " in line)
        assert "nan" not in words


def test_report__several_bases_are_a_column_and_their_domains_are_blank_elsewhere() -> None:
    scores = pd.concat([simulated_scores(("a", "b"), base=base) for base in ("x", "y")])
    shown = tables(report(scores, "accuracy"))
    assert shown["accuracy"]["base"].tolist() == ["x"] * 4 + ["y"] * 4
    last = shown["accuracy after the last step"].set_index("base")
    assert set(last.loc["x", "y"]) == {""}
    assert last.columns[-1] == MEAN


def test_report__names_its_pictures_and_its_origin(scores: pd.DataFrame) -> None:
    record = {
        "settings": {"store": "s.zarr", "head": {"name": "hsic_probe"}},
        "environment": {
            "command": "featstore continual",
            "python": "3.11",
            "platform": "Linux",
            "versions": {"numpy": "2.3"},
        },
    }
    markdown = report(scores, "accuracy", record)
    for words in ("(over-time.png)", "(matrix.png)", "`featstore continual`", "`s.zarr`", "numpy"):
        assert words in markdown
    assert "Origin" not in report(scores, "accuracy")


def test_text__a_line_for_each_of_many_ways() -> None:
    scores = simulated_scores(
        n_orders=1,
        selections=("hgr", "random", "herding", "relevance_only"),
        keeps=("0.005", "0.01"),
        heads=tuple(f"lambda_x={x}, lambda_y={y}" for x in (300, 900) for y in (560, 1100)),
    )
    lines = text(scores, "accuracy").splitlines()
    assert sum("lambda_x=" in line for line in lines) == 2 * (4 * 2 * 4 + 2 * 4)
    assert sum("lambda_y=1100" in line for line in lines) == 2 * (4 * 2 * 2 + 2 * 2)


def test_text__fits_a_terminal(scores: pd.DataFrame) -> None:
    lines = text(scores, "accuracy").splitlines()
    assert max(map(len, lines)) < WIDE
    assert lines[0].startswith("accuracy, 4 ways, 3 domains, 3 orders, 2 seeds, keep 0.01")
