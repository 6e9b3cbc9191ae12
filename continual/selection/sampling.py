"""Choice by chance: uniform, and the class-balanced reservoir that sees every row once."""

from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def choose_randomly(Z: NDArray[Any], n_keep: int, rng: np.random.Generator) -> Rows:
    """Choose rows of one class, all with the same chance.

    Parameters
    ----------
    Z
        Representations (n_samples, n_components); only their number is used.
    n_keep
        How many rows, 1 to n_samples.
    rng
        Chooses.

    Returns
    -------
    ndarray
        Row numbers (n_keep,), int64, in random order.
    """
    return rng.choice(len(Z), n_keep, replace=False)


class Reservoir:
    """Class-balanced reservoir sampling of a stream.

    As long as there is room every row is kept. Then a row of a class that has never been the
    largest replaces a random row of a largest class; a row of another class replaces, with the
    chance (rows kept) / (rows seen) of its class, a random row of its class (Chrysakis, Moens,
    "Online Continual Learning from Imbalanced Data", ICML 2020, algorithm 1).

    Parameters
    ----------
    capacity
        Most rows kept, at least 1.
    rng
        Decides.
    """

    def __init__(self, capacity: int, rng: np.random.Generator) -> None:
        if capacity < 1:
            raise ValueError(f"'capacity' must be at least 1, got {capacity}.")
        self._capacity, self._rng = capacity, rng
        self._kept: dict[Hashable, list[int]] = {}
        self._seen: dict[Hashable, int] = {}
        self._full: set[Hashable] = set()

    def offer(self, rows: Iterable[int], labels: Iterable[Hashable]) -> None:
        """Show rows to the reservoir, one after the other.

        Parameters
        ----------
        rows
            What is kept of a row: its number.
        labels
            The class of each row.
        """
        for row, label in zip(rows, labels, strict=True):
            self._offer(int(row), label)

    def _offer(self, row: int, label: Hashable) -> None:
        kept = self._kept.setdefault(label, [])
        self._seen[label] = self._seen.get(label, 0) + 1
        if sum(map(len, self._kept.values())) < self._capacity:
            kept.append(row)
            return
        most = max(map(len, self._kept.values()))
        largest = [name for name, own in self._kept.items() if len(own) == most]
        self._full.update(largest)
        if label not in self._full:
            victim = self._kept[largest[self._rng.integers(len(largest))]]
            victim.pop(int(self._rng.integers(len(victim))))
            kept.append(row)
        elif self._rng.random() <= len(kept) / self._seen[label]:
            kept[int(self._rng.integers(len(kept)))] = row

    def rows(self) -> dict[Hashable, Rows]:
        """Return the rows kept of each class.

        Returns
        -------
        dict
            Class to row numbers, int64.
        """
        return {label: np.array(own, np.int64) for label, own in self._kept.items()}
