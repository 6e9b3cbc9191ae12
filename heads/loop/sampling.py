"""Which rows an epoch holds: all of them, a balance of classes or generators, or aligned pairs."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from heads.loop.batch_source import Target

Sampling = Literal["rows", "class", "generator", "pair"]
"""``"rows"``: every row once. ``"class"``: as many rows of one class as of the other.
``"generator"``: the same, and within a class as many of each generator. ``"pair"``: aligned pairs
of a real image and its fake, side by side in one batch."""

Rows = NDArray[np.int64]


def draw_units(
    sampling: Sampling, targets: Mapping[str, "Target"], rng: np.random.Generator
) -> Rows | None:
    """Choose the rows of one epoch.

    Parameters
    ----------
    sampling
        How to choose.
    targets
        What rows are told apart by: ``"label"``, and ``"generator"`` or ``"pair"`` where wanted.
    rng
        Decides which rows are repeated or left out.

    Returns
    -------
    ndarray or None
        Units (n_units, rows_per_unit) of positions that stay together, in no particular order;
        None for every row once.

    Raises
    ------
    ValueError
        If generators or pairs are not known, or rows have no mate.

    Notes
    -----
    A balanced epoch has as many rows as there are, up to rounding. A group with fewer rows than its
    share is repeated as a whole and filled up with rows drawn without replacement.
    """
    if sampling == "rows":
        return None
    needed = {"class": "label"}.get(sampling, sampling)
    if needed not in targets:
        raise ValueError(
            f"sampling={sampling!r} needs the {needed} of every row, got rows without; train from "
            f"the store, or pass it to 'fit'."
        )
    label = targets["label"].codes
    if sampling == "pair":
        return _pairs(label, targets["pair"])
    strata = [np.flatnonzero(label == code) for code in np.unique(label)]
    if sampling == "class":
        return np.concatenate(_balanced(strata, len(label), rng))[:, None]
    generator = targets["generator"].codes
    drawn: list[Rows] = []
    for stratum, share in zip(strata, _shares(len(label), len(strata)), strict=True):
        own = generator[stratum]
        drawn += _balanced([stratum[own == code] for code in np.unique(own)], share, rng)
    return np.concatenate(drawn)[:, None]


def _shares(total: int, n_parts: int) -> list[int]:
    """Return parts of a total that differ by one at most, none of them empty."""
    return [max(1, (total + part) // n_parts) for part in range(n_parts)]


def _balanced(groups: list[Rows], total: int, rng: np.random.Generator) -> list[Rows]:
    """Draw equally many rows of each group, every row as often as any other, give or take one."""
    drawn = []
    for group, share in zip(groups, _shares(total, len(groups)), strict=True):
        whole, rest = divmod(share, len(group))
        extra = rng.choice(group, rest, replace=False)
        drawn.append(np.concatenate([np.tile(group, whole), extra]))
    return drawn


def _pairs(label: NDArray[Any], pair: "Target") -> Rows:
    """Return (n_fakes, 2): each fake with a real image of its pair."""
    if pair.names.dtype.kind not in "iu":
        raise ValueError(
            f"pairs must be numbered by integers, -1 for none, got {pair.names.dtype}; number them."
        )
    number = pair.names[pair.codes]
    alone = number < 0
    real = np.flatnonzero((label == label.min()) & ~alone)
    fake = np.flatnonzero((label == label.max()) & ~alone)
    real = real[np.argsort(number[real], kind="stable")]
    place = np.searchsorted(number[real], number[fake])
    n_mated = np.isin(number[fake], number[real]).sum() + np.isin(number[real], number[fake]).sum()
    if label.min() == label.max() or n_mated < len(label):
        raise ValueError(
            f"sampling='pair' needs every row to have a mate of the other class, got "
            f"{len(label) - n_mated} of {len(label)} rows without; select aligned pairs only."
        )
    return np.column_stack((real[place], fake))
