"""Which rows and layers the members of a sweep read."""

from typing import TYPE_CHECKING

import numpy as np

from heads.experiments.config import Names
from heads.sweep.config import Group, SweepConfig, TrainPart

if TYPE_CHECKING:
    import xarray as xr


def layers_read(config: SweepConfig, group: Group) -> Names:
    """Return the layers that some member of a group sees.

    Parameters
    ----------
    config
        The sweep.
    group
        Its members.

    Returns
    -------
    list of str or None
        Names and globs; None for those of the sweep, if it names some or a member sees all.
    """
    wanted = [member.layer for member in group]
    if config.layer is not None or None in wanted:
        return None
    names = [[layer] if isinstance(layer, str) else layer or [] for layer in wanted]
    return list(dict.fromkeys(name for own in names for name in own))


def drawn(ds: "xr.Dataset", part: TrainPart) -> "xr.Dataset":
    """Draw a fraction of the rows: equally large of each dataset, generator and class.

    Parameters
    ----------
    ds
        A selection of the store.
    part
        What is wanted of it.

    Returns
    -------
    xarray.Dataset
        The rows drawn, in their order, at least one of each kind. An aligned pair is drawn or left
        out as a whole; smaller fractions of one seed are parts of larger ones.
    """
    if part.fraction == 1:
        return ds
    pair, row = ds["pair"].values.astype(np.int64), np.arange(ds.sizes["sample"])
    _, unit = np.unique(np.where(pair < 0, -1 - row, pair), return_inverse=True)
    rank = np.random.default_rng(part.seed).random(unit.max() + 1)[unit]
    kinds = np.stack([ds[name].values.astype(np.int64) for name in ("dataset", "generator")])
    _, kind = np.unique(kinds, axis=1, return_inverse=True)
    chosen = np.zeros(len(row), bool)
    for code in range(kind.max() + 1):
        own = np.flatnonzero(kind == code)
        n_drawn = max(1, round(part.fraction * len(own)))
        chosen[own[np.argsort(rank[own], kind="stable")[:n_drawn]]] = True
    return ds.isel(sample=np.flatnonzero(chosen))
