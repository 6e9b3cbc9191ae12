"""Ways of learning: what the runs of a study share but for their order and seed, and its name."""

from collections.abc import Sequence

import pandas as pd

WAY = ["base", "learner", "selection", "keep", "variant"]
"""What makes a way of learning, columns of a table of scores; empty where it does not apply."""
RUN = [*WAY, "order", "seed"]

Way = tuple[str, ...]


def ways_of(table: pd.DataFrame) -> list[Way]:
    """Return the ways of a table, each once.

    Parameters
    ----------
    table
        With the columns `WAY`.

    Returns
    -------
    list of tuple
        Values of `WAY`, in the order in which they come.
    """
    return list(table[WAY].drop_duplicates().itertuples(index=False, name=None))


def told_apart(ways: Sequence[Way]) -> tuple[list[str], dict[str, str]]:
    """Return which columns tell ways apart, and what the others are.

    Parameters
    ----------
    ways
        Values of `WAY`, each once.

    Returns
    -------
    list of str
        Columns to show; the learner always.
    dict
        Columns that have one value in all ways that they apply to, with that value.

    Examples
    --------
    >>> told_apart([("", "replay", "hgr", "0.01", ""), ("", "joint", "", "", "")])
    (['learner'], {'selection': 'hgr', 'keep': '0.01'})
    """
    table = pd.DataFrame(ways, columns=WAY)
    shown, fixed = list(WAY), {}
    for column in WAY:
        values = [value for value in table[column].unique() if value != ""]
        rest = [name for name in shown if name != column]
        if column == "learner" or len(values) > 1 or table.duplicated(rest).any():
            continue
        shown = rest
        if values:
            fixed[column] = values[0]
    return shown, fixed


def way_names(ways: Sequence[Way]) -> list[str]:
    """Return short names that tell ways apart.

    Parameters
    ----------
    ways
        Values of `WAY`, each once.

    Returns
    -------
    list of str
        What differs between the ways, in one line each.

    Examples
    --------
    >>> way_names([("", "replay", "hgr", "5", ""), ("", "replay", "random", "5", "")])
    ['replay hgr', 'replay random']
    """
    shown, _ = told_apart(ways)
    places = [WAY.index(column) for column in shown]
    return [" ".join(way[i] for i in places if way[i] != "") for way in ways]
