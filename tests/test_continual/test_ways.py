"""Names of ways of learning."""

from support.study_scores import simulated_scores

from continual.ways import told_apart, way_names, ways_of


def test_told_apart__the_learner_is_always_shown() -> None:
    assert told_apart([("", "joint", "", "", "")]) == (["learner"], {})


def test_told_apart__columns_that_tell_ways_apart_are_shown_though_partly_empty() -> None:
    ways = [("", "joint", "", "", ""), ("", "joint", "", "", "w=2")]
    assert told_apart(ways) == (["learner", "variant"], {})


def test_told_apart__one_base_is_said_once() -> None:
    shown, fixed = told_apart(ways_of(simulated_scores(base="x")))
    assert shown == ["learner", "selection"]
    assert fixed == {"base": "x", "keep": "0.01"}


def test_way_names__are_different() -> None:
    ways = ways_of(simulated_scores(keeps=("5", "9"), heads=("", "w=2")))
    names = way_names(ways)
    assert len(set(names)) == len(ways) == 12
    assert names[:2] == ["joint", "joint w=2"]
