"""HSIC-guided replay: rows that are relevant to the kernel of their class and cover it."""

import numpy as np
from scipy.spatial.distance import cdist

from continual.selection.centring import Floats, Vector, squares_from_mean
from continual.selection.choice import Choice, choice_of
from continual.selection.class_relevance import Method, relevance_of
from continual.selection.greedy import min_max
from continual.selection.kernel import parts
from continual.selection.shards import Sharding, greedy_in_shards
from featstore.errors import ConfigError


def choose_hgr(  # noqa: PLR0913  the hyper-parameters of the method
    Z: Floats,
    n_keep: int,
    rng: np.random.Generator,
    *,
    lambda_kc: float = 1.0,
    sigma: float | None = None,
    relevance: Method = "auto",
    shard_rows: int | None = None,
    rounds: int = 1,
    device: str = "cpu",
) -> Choice:
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
    shard_rows, rounds
        How the greedy part is cut; see `Sharding`. Relevance is of all rows of the class; N(d) is
        over the rows of a shard.
    device
        ``"cpu"``, ``"cuda"`` or ``"auto"``.

    Returns
    -------
    Choice
        In the order of choice. The score is ``N(r_i) + lambda_kc · N(d_i(t))``, which is
        1 + lambda_kc less what is minimised.

    Notes
    -----
    Memory: a float32 copy of `Z`, and some 60 bytes per row. Time: that of the relevance, and of
    `greedy_in_shards`.
    """
    sharding = Sharding(shard_rows, rounds)
    notes = {"lambda_kc": float(lambda_kc), **sharding.notes(len(Z))}
    found = relevance_of(Z, rng, sigma, relevance, device=device)
    bonus, start = min_max(found.values), lambda_kc * min_max(squares_from_mean(Z))
    rows, score = greedy_in_shards(
        Z, n_keep, lambda_kc, bonus, start, sharding=sharding, device=device
    )
    return choice_of(rows, score, found.sigma, {**found.notes, **notes})


def choose_relevant(
    Z: Floats,
    n_keep: int,
    rng: np.random.Generator,
    *,
    sigma: float | None = None,
    relevance: Method = "auto",
    device: str = "cpu",
) -> Choice:
    """Choose the rows of one class with the largest relevance, the first of equal ones.

    Parameters
    ----------
    Z, n_keep, rng
        As for `choose_hgr`.
    sigma, relevance, device
        As for `choose_hgr`.

    Returns
    -------
    Choice
        Most relevant first; the score is the relevance.
    """
    found = relevance_of(Z, rng, sigma, relevance, device=device)
    rows = np.argsort(-min_max(found.values), kind="stable")[:n_keep]
    return choice_of(rows, found.values[rows], found.sigma, found.notes)


def choose_k_center(  # noqa: PLR0913  the hyper-parameters of the method
    Z: Floats,
    n_keep: int,
    rng: np.random.Generator,
    *,
    start: int | None = None,
    shard_rows: int | None = None,
    rounds: int = 1,
    device: str = "cpu",
) -> Choice:
    """Choose rows of one class that cover it: each is the furthest from those before.

    The largest distance of a row from the nearest chosen one is at most twice the smallest that
    any choice of `n_keep` rows attains (Gonzalez 1985; Sener, Savarese, ICLR 2018), at most four
    times with two rounds of shards.

    Parameters
    ----------
    Z
        Representations (n_samples, n_components) of one class.
    n_keep
        How many rows, 1 to n_samples.
    rng
        Not used; nothing is random.
    start
        First row, 0 to n_samples - 1; the furthest from the mean if None.
    shard_rows, rounds
        How the choice is cut; see `Sharding`.
    device
        ``"cpu"``, ``"cuda"`` or ``"auto"``.

    Returns
    -------
    Choice
        In the order of choice. The score is the distance from the nearest row before; that of the
        first is its distance from the mean, nan if it was given.

    Raises
    ------
    ConfigError
        If there is no row `start`.
    """
    if start is not None and start >= len(Z):
        raise ConfigError(
            f"'start' must be a row of every class, of which one has {len(Z)} rows, got {start!r}."
        )
    sharding = Sharding(shard_rows, rounds)
    from_mean = squares_from_mean(Z)
    first = from_mean if start is None else (np.arange(len(Z)) == start).astype(float)
    rows, _ = greedy_in_shards(
        Z, n_keep, 1.0, np.zeros(len(Z)), first, sharding=sharding, device=device
    )
    score = distances_before(Z[rows])
    score[:1] = np.sqrt(from_mean[rows[:1]]) if start is None else np.nan
    return choice_of(rows, score, notes=sharding.notes(len(Z)))


def distances_before(Z: Floats) -> Vector:
    """Return the distance of every row from the nearest row before it.

    Parameters
    ----------
    Z
        Rows (n_samples, n_components).

    Returns
    -------
    ndarray
        Float64 (n_samples,); infinite for the first row.
    """
    nearest, place = np.full(len(Z), np.inf), np.arange(len(Z))
    for part in parts(len(Z)):
        distance = cdist(Z[part], Z[: part.stop])
        distance[place[: part.stop] >= place[part, None]] = np.inf
        nearest[part] = distance.min(1)
    return nearest
