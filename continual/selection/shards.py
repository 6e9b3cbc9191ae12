"""The greedy choice for classes too large for it: in shards, in one round or in two."""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from continual.selection.centring import Floats, Vector
from continual.selection.choice import Rows
from continual.selection.greedy import greedy


class Sharding(NamedTuple):
    """How a class is cut into shards, runs of neighbouring rows.

    Parameters
    ----------
    shard_rows
        Most rows of a shard, at least 1; a single shard if None.
    rounds
        1 or 2; see `greedy_in_shards`.
    """

    shard_rows: int | None = None
    rounds: int = 1

    def bounds(self, n: int) -> list[int]:
        """Return where shards begin, and at last the number of rows; sizes differ by at most 1."""
        if self.shard_rows is None:
            return [0, n]
        n_shards = max(1, -(-n // self.shard_rows))
        return [n * k // n_shards for k in range(n_shards + 1)]

    def notes(self, n: int) -> dict[str, Any]:
        """Return what is noted of the choice, nothing of a single shard."""
        n_shards = len(self.bounds(n)) - 1
        return {"shards": n_shards, "rounds": self.rounds} if n_shards > 1 else {}


def greedy_in_shards(  # noqa: PLR0913  the parameters of `greedy`, and the shards
    Z: Floats,
    n_keep: int,
    weight: float,
    bonus: Floats,
    start: Floats,
    *,
    sharding: Sharding,
    device: str = "cpu",
) -> tuple[Rows, Vector]:
    """Choose rows as `greedy` does, shard by shard.

    In one round every shard gives rows in proportion to its size. In two rounds every shard gives
    `n_keep` rows, and `n_keep` of those are chosen in the same way (Malkomes et al., "Fast
    distributed k-center clustering with outliers on massive data", NIPS 2015). A single shard is
    `greedy` itself.

    Parameters
    ----------
    Z, n_keep, weight, bonus, start
        As for `greedy`, of all rows; bonus and start are not computed anew for a shard.
    sharding
        Size of shards, and number of rounds.
    device
        As for `greedy`.

    Returns
    -------
    tuple of ndarray
        Row numbers (n_keep,), int64, and the value of each when it was chosen (n_keep,), float64;
        of one round the first of every shard, then the second, and so on.

    Notes
    -----
    Two rounds of pure coverage (``bonus`` zero) leave no row further from the nearest chosen one
    than 4 times the smallest such distance that any choice of `n_keep` rows attains: n_keep + 1
    rows that far from each other as twice the optimum cannot be, so both rounds stay within twice
    the optimum. One round promises this for each shard only, against the optimum of its own number
    of rows. With a bonus, as in HGR, nothing is proven.

    Time: one round n_keep · n_samples · n_components / n_shards; two rounds as much as `greedy`
    and n_shards · n_keep² · n_components more. Memory: besides 16 bytes per row, that of `greedy`
    for a shard, in the second round for n_shards · n_keep rows. Shards of which a float32 copy
    stays in the processor's cache take several times less for the same products.
    """
    n, bounds = len(Z), sharding.bounds(len(Z))
    if len(bounds) == 2:
        return greedy(Z, n_keep, weight, bonus, start, device=device)
    rows, values, turn = [], [], []
    for low, high in pairwise(bounds):
        share = high * n_keep // n - low * n_keep // n
        share = share if sharding.rounds == 1 else min(n_keep, high - low)
        if share:
            part = slice(low, high)
            own, value = greedy(Z[part], share, weight, bonus[part], start[part], device=device)
            rows.append(own + low)
            values.append(value)
            turn.append(np.arange(share))
    found = np.concatenate(rows)
    if sharding.rounds == 1:
        order = np.argsort(np.concatenate(turn), kind="stable")
        return found[order], np.concatenate(values)[order]
    found.sort()
    own, value = greedy(Z[found], n_keep, weight, bonus[found], start[found], device=device)
    return found[own], value
