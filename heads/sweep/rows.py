"""Which rows and layers the members of a sweep read."""

from typing import TYPE_CHECKING

import numpy as np

import featstore
from featstore.subset import match
from heads.experiments.config import Names
from heads.experiments.selecting import select_rows
from heads.origins import layer_names
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


def require_layers(config: SweepConfig) -> None:
    """Refuse layers that are not there, before any work is done.

    Parameters
    ----------
    config
        The sweep.

    Raises
    ------
    ConfigError
        If the store has no layer of a name, or the sweep does not read it.
    """
    store = featstore.open(config.store)
    where = config.train, config.features, config.view
    known = None if config.layer is None else layer_names(select_rows(store, *where, config.layer))
    for layer in filter(None, config.layers):
        if known is None:
            select_rows(store, *where, layer)
        else:
            match("layer", layer, known)


def drawn(ds: "xr.Dataset", part: TrainPart) -> "xr.Dataset":
    """Draw a fraction of the rows: equally large of each dataset and generator.

    Parameters
    ----------
    ds
        A selection of the store.
    part
        What is wanted of it.

    Returns
    -------
    xarray.Dataset
        The rows drawn, in their order, at least one of each kind. Aligned rows (equal ``pair`` in a
        dataset) are drawn or left out together; smaller fractions of one seed are parts of larger
        ones.
    """
    if part.fraction == 1:
        return ds
    pair, dataset, generator = (
        ds[name].values.astype(np.int64) for name in ("pair", "dataset", "generator")
    )
    alone, row = pair < 0, np.arange(len(pair))
    named = np.stack([np.where(alone, -1, dataset), np.where(alone, row, pair)])
    _, unit = np.unique(named, axis=1, return_inverse=True)
    _, kind = np.unique(np.stack([dataset, generator]), axis=1, return_inverse=True)
    kinds = np.zeros((unit.max() + 1, kind.max() + 1), bool)
    kinds[unit, kind] = True
    _, stratum = np.unique(kinds, axis=0, return_inverse=True)
    rank = np.random.default_rng(part.seed).random(len(kinds))
    chosen = np.zeros(len(kinds), bool)
    for code in range(stratum.max() + 1):
        own = np.flatnonzero(stratum == code)
        n_drawn = max(1, round(part.fraction * len(own)))
        chosen[own[np.argsort(rank[own], kind="stable")[:n_drawn]]] = True
    return ds.isel(sample=np.flatnonzero(chosen[unit]))
