"""Where features came from: training writes it on a head, and a head meets no other features."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.errors import FingerprintError

if TYPE_CHECKING:
    import xarray as xr

FIELDS = ("store", "features", "view", "fingerprint")
SHOWN = 12
"""Digits of a fingerprint in a message."""

Origin = Mapping[str, Any]


def origin_of(ds: "xr.Dataset") -> dict[str, Any] | None:
    """Return where the features of a selection came from.

    Parameters
    ----------
    ds
        A selection of the store, or any dataset.

    Returns
    -------
    dict or None
        ``store``, ``features``, ``view``, ``fingerprint`` and ``layers`` in feature order, of JSON
        types; None if the dataset is not from a store.
    """
    if any(name not in ds.attrs for name in FIELDS):
        return None
    return {**{name: str(ds.attrs[name]) for name in FIELDS}, "layers": layer_names(ds)}


def require_same_features(trained: Origin | None, ds: "xr.Dataset", what: str) -> None:
    """Refuse features of another origin than those of the training.

    Parameters
    ----------
    trained
        Origin of the features of the training; None, as for arrays, agrees with everything.
    ds
        Other rows; a dataset that is not from a store agrees with everything.
    what
        What the rows are for, for the message (``"validation rows"``).

    Raises
    ------
    FingerprintError
        If the fingerprints or the layers differ; views and stores may.
    """
    found = origin_of(ds)
    if trained is None or found is None:
        return
    if trained.get("fingerprint") != found["fingerprint"]:
        raise FingerprintError(
            f"{what} must have the features a head was trained on, {_named(trained)}, got "
            f"{_named(found)}; extract with the same settings, or train again."
        )
    if list(trained.get("layers", ())) != found["layers"]:
        raise FingerprintError(
            f"{what} must have the layers a head was trained on, {trained.get('layers')}, got "
            f"{found['layers']}; select the same layers in the same order."
        )


def layer_names(ds: "xr.Dataset") -> list[str]:
    """Return the names of the layers that are there, in feature order.

    Parameters
    ----------
    ds
        A selection of the store, or any dataset.

    Returns
    -------
    list of str
        For an array without layers its own name.
    """
    names: list[str] = []
    for array, values in ds.data_vars.items():
        axes = [name for name in values.coords if str(name).startswith("layer")]
        taps = [str(tap) for axis in axes for tap in np.atleast_1d(values[axis].values)]
        names += taps or [str(array)]
    return names


def _named(origin: Origin) -> str:
    """Name a feature set for a message."""
    digits = str(origin.get("fingerprint"))[:SHOWN]
    return f"{origin.get('features')!r} of {origin.get('store')!r} ({digits})"
