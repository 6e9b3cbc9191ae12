"""Choice by chance: uniform, and the class-balanced reservoir that sees every row once."""

from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from continual.selection.choice import Choice, Rows, choice_of, joined, n_kept


def choose_randomly(y: NDArray[Any], keep: float, rng: np.random.Generator) -> Choice:
    """Choose rows of every class, all of a class with the same chance.

    Parameters
    ----------
    y
        Class of each row (n_samples,).
    keep
        As for `n_kept`.
    rng
        Chooses.

    Returns
    -------
    Choice
        Class by class, in random order.
    """
    found = []
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        kept = rng.choice(len(rows), n_kept(len(rows), keep), replace=False)
        found.append((str(label), choice_of(rows[kept])))
    return joined(found)


def choose_by_reservoir(y: NDArray[Any], keep: float, rng: np.random.Generator) -> Choice:
    """Choose the rows that a class-balanced reservoir holds when it has seen all in their order.

    Parameters
    ----------
    y
        Class of each row (n_samples,).
    keep
        As for `n_kept`; the reservoir has room for what this gives of all classes together, and
        shares it among them equally.
    rng
        Decides.

    Returns
    -------
    Choice
        Class by class.
    """
    labels, sizes = np.unique(y, return_counts=True)
    capacity = sum(n_kept(int(size), keep) for size in sizes)
    if not capacity:
        return joined([])
    reservoir = Reservoir(capacity, rng)
    reservoir.offer(range(len(y)), y.tolist())
    kept = reservoir.rows()
    return joined((str(label), choice_of(kept[label])) for label in labels.tolist())


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
