"""Which rows an episode learns from and which it is judged on: integers in, integers out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featstore.errors import ConfigError
from heads.evaluation.resampling import common_groups

Codes = NDArray[np.integer[Any]]
Positions = NDArray[np.intp]


@dataclass(frozen=True)
class Episode:
    """One draw.

    Parameters
    ----------
    number
        Number of the episode, from 0.
    seed
        What it was drawn with, and the seed of its heads.
    drawn
        Positions among the support rows (n_groups, most shots), in the order drawn: the support of
        few shots is part of that of many.
    """

    number: int
    seed: int
    drawn: Positions

    def support(self, shots: int) -> Positions:
        """Return what is learned from.

        Parameters
        ----------
        shots
            Images of each group.

        Returns
        -------
        ndarray
            Sorted positions (n_groups * shots,).
        """
        return np.sort(self.drawn[:, :shots].ravel())


def fiser_support(groups: Codes, shots: int, seed: int) -> Positions:
    """Return the rows that FiSeR draws for few-shot learning.

    Parameters
    ----------
    groups
        Class or generator of each row (n_rows,).
    shots
        Rows of each group.
    seed
        Seed of Python's `random.Random`.

    Returns
    -------
    ndarray
        Sorted positions (n_groups * shots,).

    Raises
    ------
    ValueError
        If a group has fewer rows.

    Notes
    -----
    One generator shuffles the rows of each group, groups in sorted order; the first rows are taken.
    O(n_rows) in Python: half a second for a million.

    References
    ----------
    FiSeR, https://github.com/heyongxin233/FiSeR, sampling of the support.

    Examples
    --------
    >>> fiser_support(np.array([0, 1, 0, 1, 1, 0]), shots=1, seed=42)
    array([2, 4])
    """
    return np.sort(_draw(groups, shots, seed).ravel())


def _draw(groups: Codes, most: int, seed: int) -> Positions:
    """Return positions (n_groups, most) in the order drawn."""
    generator = Random(seed)
    drawn = []
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group).tolist()
        if len(members) < most:
            raise ValueError(
                f"'shots' must be at most the rows of a group, got {most} for group {group}, "
                f"which has {len(members)}."
            )
        generator.shuffle(members)
        drawn.append(members[:most])
    return np.array(drawn, np.intp)


def plan_episodes(
    groups: Codes, images: Codes, *, most: int, n_episodes: int, seed: int
) -> Iterator[Episode]:
    """Draw the support of every episode.

    Parameters
    ----------
    groups
        Class or generator of each support row (n_rows,).
    images
        Equal for rows that hold the same image (n_rows,).
    most
        The largest number of shots.
    n_episodes
        Number of episodes.
    seed
        Seed of the first one; each further one has the next.

    Yields
    ------
    Episode
        Its rows are drawn as by `fiser_support` from the first row of every image of a group, so
        that no shot is spent on a copy. Without copies the draws are FiSeR's.
    """
    candidates = np.flatnonzero(~pd.DataFrame({"g": groups, "i": images}).duplicated().to_numpy())
    for number in range(n_episodes):
        drawn = candidates[_draw(groups[candidates], most, seed + number)]
        yield Episode(number, seed + number, drawn)


def require_enough(
    groups: Codes, images: Codes, names: Sequence[str], *, most: int, per: str
) -> None:
    """Refuse more shots than there are images.

    Parameters
    ----------
    groups, images
        As for `plan_episodes`.
    names
        Names of the groups, by code.
    most
        The largest number of shots.
    per
        What a group is, for the message.

    Raises
    ------
    ConfigError
        If a group has too few distinct images; the message says which and how many.
    """
    distinct = pd.DataFrame({"g": groups, "i": images}).drop_duplicates()["g"]
    codes, counts = np.unique(distinct, return_counts=True)
    lacking = {names[c]: n for c, n in zip(codes, counts.tolist(), strict=True) if n < most}
    if lacking:
        found = ", ".join(f"{name!r} with {number}" for name, number in lacking.items())
        raise ConfigError(
            f"{most} shots per {per} need {most} different images of each, got {found}; ask for "
            "fewer 'shots' or name more support rows."
        )


def linked_units(*roles: pd.DataFrame) -> list[Positions]:
    """Give rows of several roles the same number where they belong together.

    Parameters
    ----------
    *roles
        For each role its rows: ``sample_id``, ``dataset`` and ``pair`` (-1 for none).

    Returns
    -------
    list of ndarray
        For each role (n_rows,). Rows are linked by equal bytes, by being aligned in one dataset,
        and by chains of both.

    Examples
    --------
    >>> support = pd.DataFrame({"sample_id": ["x"], "dataset": [0], "pair": [7]})
    >>> query = pd.DataFrame({"sample_id": ["y", "x"], "dataset": [0, 1], "pair": [7, -1]})
    >>> linked_units(support, query)
    [array([0]), array([0, 0])]
    """
    bounds = np.cumsum([len(role) for role in roles])[:-1]
    return np.split(common_groups(pd.concat(roles, ignore_index=True)), bounds)


def apart(units: Positions, learned: Positions) -> NDArray[np.bool_]:
    """Return which rows have nothing to do with those learned from.

    Parameters
    ----------
    units
        Units of the rows (n_rows,), from `linked_units`.
    learned
        Units of the support (n_support,).

    Returns
    -------
    ndarray
        Whether each row may be scored (n_rows,). A row that is aligned with a row of the support
        is in neither: it is left out of the episode, unless it was drawn too.

    Examples
    --------
    >>> apart(np.array([0, 1, 2, 1]), np.array([1]))
    array([ True, False,  True, False])
    """
    taken = np.zeros(max(units.max(initial=0), learned.max(initial=0)) + 1, bool)
    taken[learned] = True
    return ~taken[units]
