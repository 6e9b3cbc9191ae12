"""In which order domains come, and which rows a domain brings: pure functions."""

from collections.abc import Sequence
from itertools import islice, permutations
from math import factorial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featstore.errors import ConfigError

Rows = NDArray[np.int64]


def orders(
    tails: Sequence[str], n_orders: int | None = None, *, base: str | None = None, seed: int = 0
) -> list[tuple[str, ...]]:
    """Return the orders in which domains are learned.

    Parameters
    ----------
    tails
        Domains whose order varies; a domain named twice comes twice.
    n_orders
        How many different orders to draw; all of them if None or if there are no more.
    base
        A domain that always comes first.
    seed
        Of the draw.

    Returns
    -------
    list of tuple
        Different orders: all in the order of `itertools.permutations`, or those drawn.

    Raises
    ------
    ConfigError
        If there is no domain, or `n_orders` is not positive.

    Examples
    --------
    >>> orders(["a", "b"], base="start")
    [('start', 'a', 'b'), ('start', 'b', 'a')]
    """
    if not tails or (n_orders is not None and n_orders < 1):
        raise ConfigError(
            f"orders need domains and at least one order, got {list(tails)} and {n_orders!r}."
        )
    first = () if base is None else (base,)
    if n_orders is None or factorial(len(tails)) <= n_orders:
        found = dict.fromkeys(permutations(tails))
        return [(*first, *order) for order in islice(found, n_orders)]
    rng = np.random.default_rng(seed)
    drawn: dict[tuple[str, ...], None] = {}
    for _ in range(100 * n_orders):
        drawn.setdefault(tuple(tails[i] for i in rng.permutation(len(tails))))
        if len(drawn) == n_orders:
            break
    return [(*first, *order) for order in drawn]


def in_time(domains: Sequence[str], times: ArrayLike) -> tuple[str, ...]:
    """Return domains by the time at which each begins.

    Parameters
    ----------
    domains
        The domain of each row (n_samples,).
    times
        A date or number of each row (n_samples,), such as a metadata column.

    Returns
    -------
    tuple
        Each domain once, the one with the earliest row first; equal times by name.

    Examples
    --------
    >>> in_time(["b", "a", "b"], ["2024-05", "2023-01", "2022-11"])
    ('b', 'a')
    """
    begins: dict[str, object] = {}
    for domain, time in zip(domains, np.asarray(times).tolist(), strict=True):
        begins[domain] = min(begins.get(domain, time), time)
    return tuple(sorted(begins, key=lambda name: (begins[name], name)))


def imbalanced(label: ArrayLike, ratio: float, rng: np.random.Generator) -> Rows:
    """Choose rows with a given number of fakes per real image.

    Parameters
    ----------
    label
        0 real, 1 fake (n_samples,).
    ratio
        Fakes per real image > 0: 5 is 1:5, 0.2 is 5:1.
    rng
        Decides which rows of the too frequent class are left out.

    Returns
    -------
    ndarray
        Sorted positions, int64: all rows of one class and so many of the other that the ratio is
        right to one row.

    Raises
    ------
    ConfigError
        If `ratio` is not positive or there are too few rows for it.
    """
    labels = np.asarray(label)
    real, fake = (np.flatnonzero(labels == value) for value in (0, 1))
    if ratio <= 0 or len(fake) < max(1, ratio) or len(real) < max(1, 1 / ratio):
        raise ConfigError(
            f"an imbalance needs a ratio > 0 and rows enough for one of the rarer class, got "
            f"{len(real)} real, {len(fake)} fake and {ratio!r}."
        )
    n_real = min(len(real), max(1, round(len(fake) / ratio)))
    n_fake = min(len(fake), max(1, round(n_real * ratio)))
    kept = [rng.choice(real, n_real, replace=False), rng.choice(fake, n_fake, replace=False)]
    return np.sort(np.concatenate(kept))


def blurred(sizes: Sequence[int], blur: float, rng: np.random.Generator) -> list[Rows]:
    """Let rows come too early or too late: the boundaries between domains are not sharp.

    Parameters
    ----------
    sizes
        Number of rows of each domain, in the order in which they come.
    blur
        Fraction in [0, 1) of the rows of a domain that come with a neighbouring one, half of them
        before and half of them after; the first domain has no earlier neighbour, the last no later.
    rng
        Decides which rows.

    Returns
    -------
    list of ndarray
        For each step the rows it brings, numbered through all domains one behind the other.
        Every row comes once.

    Raises
    ------
    ConfigError
        If `blur` is not in [0, 1).
    """
    if not 0 <= blur < 1:
        raise ConfigError(f"'blur' must be in [0, 1), got {blur!r}.")
    edges = np.cumsum([0, *sizes])
    steps: list[list[Rows]] = [[] for _ in sizes]
    for number, size in enumerate(sizes):
        rows = rng.permutation(np.arange(edges[number], edges[number + 1]))
        half = round(blur * size / 2)
        parts = {number - 1: rows[:half], number + 1: rows[half : 2 * half]}
        for step, part in {**parts, number: rows[2 * half :]}.items():
            steps[step if 0 <= step < len(sizes) else number].append(part)
    return [np.sort(np.concatenate(parts)) for parts in steps]
