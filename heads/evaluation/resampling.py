"""What the bootstrap draws: units of samples that belong together, within strata.

A unit is one sample, an aligned pair, or an image that several datasets share; it is drawn once
and counts alike wherever it appears, so that a mean over datasets knows what they have in common.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Positions = NDArray[np.intp]

CHUNK_ELEMENTS = 2**19
"""Counts held at once; the working memory is about 60 bytes for each."""

FEWEST_UNITS = 2
"""A class with fewer units that vary has no interval: every resample would be the same."""


class Units(NamedTuple):
    """The unit of each sample (n_samples,) and the kind of each unit (n_units,).

    Units are drawn among those of their kind.
    """

    unit: Positions
    kind: Positions

    def too_few(self, rows: NDArray[Any]) -> bool:
        """Return whether fewer than `FEWEST_UNITS` units of these samples can vary.

        Parameters
        ----------
        rows
            Positions of samples, or booleans (n_samples,).

        Returns
        -------
        bool
            Also false where there are no samples.
        """
        present = np.unique(self.unit[rows])
        vary = np.bincount(self.kind)[self.kind[present]] > 1
        return bool(len(present) and np.count_nonzero(vary) < FEWEST_UNITS)


def units_of(
    strata: NDArray[Any],
    groups: NDArray[np.integer[Any]] | None = None,
    pools: NDArray[Any] | None = None,
) -> Units:
    """Return what is drawn, and among what.

    Parameters
    ----------
    strata
        What each sample is (n_samples,): the class, or the generator.
    groups
        Samples with equal non-negative numbers are one unit, (n_samples,).
    pools
        The dataset of each sample (n_samples,).

    Returns
    -------
    Units
        A unit's kind is its first pool and the strata that it holds there: with one pool, every
        stratum keeps its size in every resample.
    """
    codes, code = np.unique(strata, return_inverse=True)
    own = np.arange(len(strata))
    groups = np.full(len(strata), -1) if groups is None else groups
    _, unit = np.unique(np.where(groups < 0, own - len(own), groups), return_inverse=True)
    pool = np.zeros(len(strata), np.intp)
    if pools is not None:
        pool = np.unique(pools, return_inverse=True)[1]
    home = np.full(unit.max() + 1, pool.max())
    np.minimum.at(home, unit, pool)
    holds = np.zeros((len(home), len(codes)), bool)
    at_home = pool == home[unit]
    holds[unit[at_home], code[at_home]] = True
    signature = np.unique(np.packbits(holds, axis=1), axis=0, return_inverse=True)[1]
    kind = np.unique(signature * (pool.max() + 1) + home, return_inverse=True)[1]
    return Units(unit, kind)


def common_groups(scores: pd.DataFrame) -> Positions:
    """Return which rows must be drawn together.

    Parameters
    ----------
    scores
        Frame from `heads.evaluation.scoring.score`; ``sample_id`` and ``pair`` may be absent.

    Returns
    -------
    ndarray
        (n_samples,): equal for rows that are connected by equal ``sample_id`` (one image in several
        datasets) or by equal ``pair`` of one dataset (-1: none).

    Examples
    --------
    >>> frame = {"dataset": ["a", "a", "b", "b"], "pair": [7, 7, 7, -1], "sample_id": list("xyxz")}
    >>> common_groups(pd.DataFrame(frame))
    array([0, 0, 0, 1])
    """
    n_nodes = len(scores)
    ends: list[tuple[Positions, Positions]] = [(np.empty(0, np.intp), np.empty(0, np.intp))]
    for names in (["sample_id"], ["dataset", "pair"]):
        if set(names) <= set(scores):
            keys = scores.groupby(names, observed=True, sort=False).ngroup().to_numpy(np.intp)
            linked = scores["pair"] >= 0 if "pair" in names else np.ones(len(keys), bool)
            rows = np.flatnonzero(linked)
            ends.append((rows, (n_nodes + keys[rows]).astype(np.intp)))
            n_nodes += int(keys.max(initial=-1)) + 1
    left, right = (np.concatenate(nodes) for nodes in zip(*ends, strict=True))
    graph = coo_array((np.ones(len(left), bool), (left, right)), shape=(n_nodes, n_nodes))
    component: Positions = connected_components(graph, directed=False)[1]
    return component[: len(scores)].astype(np.intp)


def n_distinct(scores: pd.DataFrame) -> tuple[int, int]:
    """Return the numbers of distinct images.

    Parameters
    ----------
    scores
        Frame from `heads.evaluation.scoring.score`; without ``sample_id`` each row is an image.

    Returns
    -------
    tuple of int
        Real and fake images.
    """
    ids = scores["sample_id"] if "sample_id" in scores else pd.Series(np.arange(len(scores)))
    fake = scores["label"].to_numpy() == 1
    return int(ids[~fake].nunique()), int(ids[fake].nunique())


def resampled_counts(
    units: Units, *, n_resamples: int, rng: np.random.Generator
) -> Iterator[Positions]:
    """Draw bootstrap resamples, as counts.

    Parameters
    ----------
    units
        What is drawn.
    n_resamples
        Number of resamples.
    rng
        Source of randomness.

    Yields
    ------
    ndarray
        How often each sample is drawn (n, n_samples), as many resamples as fit into
        `CHUNK_ELEMENTS`.

    Examples
    --------
    >>> units = units_of(np.array([0, 0, 1]))
    >>> next(resampled_counts(units, n_resamples=9, rng=np.random.default_rng(0)))[:, 2]
    array([1, 1, 1, 1, 1, 1, 1, 1, 1])
    """
    unit, kind = units
    kinds = [np.flatnonzero(kind == value) for value in np.unique(kind)]
    at_once = max(1, CHUNK_ELEMENTS // len(unit))
    for start in range(0, n_resamples, at_once):
        n = min(at_once, n_resamples - start)
        counts = np.empty((n, len(kind)), np.intp)
        for members in kinds:
            draws = rng.integers(len(members), size=(n, len(members)))
            draws += np.arange(n)[:, None] * len(members)
            tally = np.bincount(draws.ravel(), minlength=draws.size)
            counts[:, members] = tally.reshape(n, len(members))
        yield counts[:, unit]
