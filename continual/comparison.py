"""Paired differences between ways of learning: the same orders and seeds, run in both."""

from collections.abc import Mapping, Sequence

import pandas as pd

from continual.summary import half_width, per_order, run_numbers
from continual.ways import WAY, Way, ways_of

COMPARED = {"AA": 1, "average_incremental": 1, "forgetting": -1}
"""Numbers that are compared, and whether more (1) or less (-1) of them is better."""
REFERENCES: Sequence[Mapping[str, str]] = (
    {"learner": "joint"},
    {"learner": "fine_tune"},
    {"learner": "replay", "selection": "hgr"},
)
BETTER, WORSE, OPEN = "better", "worse", "–"
NOTHING = 1e-12
"""Differences up to this are rounding."""


def compare(
    scores: pd.DataFrame, metric: str, reference: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Compare ways of learning run by run.

    Parameters
    ----------
    scores
        Table of a study.
    metric
        Column to use.
    reference
        Values of some of the columns `WAY`, such as ``{"learner": "joint"}``; each of `REFERENCES`
        if absent. A way is compared with the one that has these values, the same base, and as far
        as there is a choice the same ``keep`` and ``variant``; with none where this leaves several.

    Returns
    -------
    DataFrame
        One row per way, reference and number of `COMPARED`: the columns `WAY`, ``against``,
        ``number``, ``n`` orders (or seeds of the one order) run by both, the mean ``difference``
        (way less reference), ``half``, the half width of its 95 % interval by Student's t over
        these (nan of one), and ``verdict``: better or worse if the difference is beyond its
        interval, – if it is not. Less forgetting is better.

    Notes
    -----
    The intervals say how well so many orders and seeds determine the mean over all of them, and
    nothing about new test images, which all runs share. Seeds of one order are averaged first,
    where there are several orders. Of many differences that are none, one in twenty is beyond its
    interval.
    """
    table = run_numbers(scores, [metric])
    runs = {
        way: rows.set_index(["order", "seed"])[[*COMPARED]]
        for way, rows in table.groupby(WAY, sort=False)
    }
    records = []
    for wanted in REFERENCES if reference is None else (reference,):
        for way, other in _pairs(ways_of(table), wanted):
            pairs = (runs[way] - runs[other]).dropna(how="all").reset_index()
            pairs = per_order(pairs.assign(way=0), ["way"])
            named = dict(zip(WAY, way, strict=True)) | {"against": " ".join(wanted.values())}
            records += [{**named, **_difference(pairs, name)} for name in COMPARED]
    numbers = ["against", "number", "n", "difference", "half", "verdict"]
    return pd.DataFrame(records, columns=[*WAY, *numbers])


def _pairs(ways: Sequence[Way], wanted: Mapping[str, str]) -> list[tuple[Way, Way]]:
    """Return every way with its reference."""
    found = []
    for way in ways:
        named = dict(zip(WAY, way, strict=True))
        fixed = {"base": way[0], **wanted}
        if named.items() >= fixed.items():
            continue
        others = [
            other for other in ways if dict(zip(WAY, other, strict=True)).items() >= fixed.items()
        ]
        for column in ("keep", "variant"):
            place = WAY.index(column)
            others = [x for x in others if x[place] == named[column]] or others
        found += [(way, other) for other in others if len(others) == 1]
    return found


def _difference(pairs: pd.DataFrame, number: str) -> dict[str, object]:
    """Return mean and interval of the differences of one number."""
    values = pairs[number].dropna()
    mean, half = values.mean(), float(half_width(values.sem(), len(values)))
    verdict = OPEN
    if abs(mean) > half + NOTHING:
        verdict = BETTER if mean * COMPARED[number] > 0 else WORSE
    return {
        "number": number,
        "n": len(values),
        "difference": mean,
        "half": half,
        "verdict": verdict,
    }
