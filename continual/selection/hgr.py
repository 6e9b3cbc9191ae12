"""HSIC-guided replay: rows that are relevant to the kernel of their class and cover it."""

from typing import Any, Literal

import numpy as np

from continual.selection.greedy import Floats, Rows, greedy, min_max
from continual.selection.relevance import (
    Vector,
    column_relevance,
    exact_relevance,
    median_sigma,
    nystrom_relevance,
)

Method = Literal["exact", "nystrom", "columns", "auto"]

EXACT_ROWS = 20_000
"""With ``"auto"``, more rows of a class are approximated by landmarks."""


def relevance_of(
    Z: Floats, rng: np.random.Generator, sigma: float | None = None, method: Method = "auto"
) -> Vector:
    """Return the HSIC relevance of the rows of one class.

    Parameters
    ----------
    Z
        Representations (n_samples, n_components) of one class.
    rng
        Chooses the sample behind the bandwidth, and landmarks or columns.
    sigma
        Bandwidth > 0; the median distance if None.
    method
        ``"exact"``, ``"nystrom"`` (512 landmarks), ``"columns"`` (1,024), or ``"auto"``: exact up
        to 20,000 rows, landmarks beyond.

    Returns
    -------
    ndarray
        Float64 (n_samples,).
    """
    width = median_sigma(Z, rng) if sigma is None else sigma
    if method == "exact" or (method == "auto" and len(Z) <= EXACT_ROWS):
        return exact_relevance(Z, width)
    if method == "columns":
        return column_relevance(Z, width, rng)
    return nystrom_relevance(Z, width, rng)


def choose_hgr(
    Z: Floats,
    n_keep: int,
    rng: np.random.Generator,
    *,
    lambda_kc: float = 1.0,
    sigma: float | None = None,
    relevance: Method = "auto",
) -> Rows:
    """Choose rows of one class by relevance and coverage.

    Step t chooses ``argmin_i (1 - N(r_i)) + lambda_kc · (1 - N(d_i(t)))`` with N the min-max over
    all rows of the class; d_i(1) is the squared distance from the class mean, later that from the
    nearest chosen row (Yang et al. 2026, equation 10; the published code is not available, and
    neither `lambda_kc` nor the domain of N is stated).

    Parameters
    ----------
    Z
        Representations (n_samples, n_components) of one class.
    n_keep
        How many rows, 1 to n_samples.
    rng
        Chooses the sample behind the bandwidth, and landmarks.
    lambda_kc
        Weight >= 0 of coverage; 0 is relevance alone, very large values are k-center.
    sigma, relevance
        As `sigma` and `method` of `relevance_of`.

    Returns
    -------
    ndarray
        Row numbers (n_keep,), int64, in the order in which they were chosen.
    """
    bonus = min_max(relevance_of(Z, rng, sigma, relevance))
    return greedy(Z, n_keep, lambda_kc, bonus, lambda_kc * min_max(from_mean(Z)))


def choose_relevant(Z: Floats, n_keep: int, rng: np.random.Generator, **options: Any) -> Rows:
    """Choose the rows of one class with the largest relevance, the first of equal ones.

    Parameters
    ----------
    Z, n_keep, rng
        As for `choose_hgr`.
    **options
        `sigma` and `relevance`, as for `choose_hgr`.

    Returns
    -------
    ndarray
        Row numbers (n_keep,), int64, most relevant first.
    """
    return choose_hgr(Z, n_keep, rng, lambda_kc=0.0, **options)


def choose_k_center(
    Z: Floats, n_keep: int, rng: np.random.Generator, *, start: int | None = None
) -> Rows:
    """Choose rows of one class that cover it: each is the furthest from those before.

    The largest distance of a row from the nearest chosen one is at most twice the smallest that
    any choice of `n_keep` rows attains (Gonzalez 1985; Sener, Savarese, ICLR 2018).

    Parameters
    ----------
    Z
        Representations (n_samples, n_components) of one class.
    n_keep
        How many rows, 1 to n_samples.
    rng
        Not used; nothing is random.
    start
        First row; the furthest from the mean if None.

    Returns
    -------
    ndarray
        Row numbers (n_keep,), int64, in the order in which they were chosen.
    """
    first = from_mean(Z) if start is None else (np.arange(len(Z)) == start).astype(float)
    return greedy(Z, n_keep, 1.0, np.zeros(len(Z)), first)


def from_mean(Z: Floats) -> Vector:
    """Return the squared distance of every row from the mean of all.

    Parameters
    ----------
    Z
        Representations (n_samples, n_components).

    Returns
    -------
    ndarray
        Float64 (n_samples,).
    """
    centred = np.asarray(Z, np.float64) - np.mean(Z, axis=0, dtype=np.float64)
    distance: Vector = np.einsum("ij,ij->i", centred, centred)
    return distance
