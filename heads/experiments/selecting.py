"""The rows of each role of a training: learned from, chosen on, reported."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import featstore
from featstore.errors import ConfigError
from heads.evaluation.roles import require_disjoint, require_selection_split, splits_of
from heads.experiments.config import RowsConfig, TrainConfig

if TYPE_CHECKING:
    import xarray as xr


def select_rows(
    store: featstore.Store, rows: RowsConfig, features: str | None, view: str, layer: Any = None
) -> "xr.Dataset":
    """Return the rows of one role.

    Parameters
    ----------
    store
        The store.
    rows
        Which rows.
    features, view, layer
        Of which features; see `featstore.store.Store.select`.

    Returns
    -------
    xarray.Dataset
        A lazy selection.
    """
    return store.select(features, view=view, layer=layer, **asdict(rows))


def select_roles(config: TrainConfig) -> dict[str, "xr.Dataset"]:
    """Select the rows of each role; reported rows may have no other role.

    Parameters
    ----------
    config
        What is asked for.

    Returns
    -------
    dict
        ``train``, ``test`` and, where asked for, ``val`` to a selection of the store.

    Raises
    ------
    ConfigError
        If rows that are reported are learned from or chosen on, or are of several splits.
    """
    store = featstore.open(config.store)
    wanted = {"train": config.train, "val": config.val, "test": config.test}
    data = {
        role: select_rows(store, rows, config.features, config.view, config.layer)
        for role, rows in wanted.items()
        if rows is not None
    }
    require_selection_split(data["train"], what="the weights of a head")
    if "val" in data:
        require_selection_split(data["val"], what="thresholds and hyper-parameters")
    require_one_split(data["test"])
    for role in [role for role in data if role != "test"]:
        require_disjoint(data["test"], data[role], role)
    return data


def require_one_split(rows: "xr.Dataset") -> None:
    """Refuse to report rows of several splits as one number.

    Parameters
    ----------
    rows
        The rows to be reported.

    Raises
    ------
    ConfigError
        If they are of several splits.
    """
    if len(found := splits_of(rows)) != 1:
        raise ConfigError(
            f"reported rows must be of one split, got {found}; name one in 'test.split', and "
            "make a run for each."
        )
