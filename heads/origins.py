"""Where features came from: training writes it on a head, and a head meets no other features."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.errors import FingerprintError
from heads.loop.views import columns_of

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
        Origin of the features of the training; None, as for arrays, agrees with everything, and
        so does what it does not say. One without a fingerprint, of a head that was trained
        elsewhere, only has ``layers``, and says in ``remedy`` how to get them.
    ds
        Other rows; a dataset that is not from a store agrees with everything.
    what
        What the rows are for, for the message (``"validation rows"``).

    Raises
    ------
    FingerprintError
        If the fingerprints or the layers differ; views and stores may.
    """
    _require_same_fingerprint(trained, ds, what)
    found = origin_of(ds)
    if trained is None or found is None:
        return
    if list(trained.get("layers", found["layers"])) != found["layers"]:
        remedy = trained.get("remedy", "select the same layers in the same order")
        raise FingerprintError(
            f"{what} must have the layers a head was trained on, {trained.get('layers')}, got "
            f"{found['layers']}; {remedy}."
        )


def columns_seen(trained: Origin | None, ds: "xr.Dataset", what: str) -> Any:
    """Return the columns of rows that a head was trained on, refusing rows that lack them.

    Parameters
    ----------
    trained
        Origin of the features of the training; None, as for arrays, means all columns, and so
        does one without ``layers``.
    ds
        Rows with these layers and maybe others, in any order; of a dataset that is not from a
        store all columns are meant.
    what
        What the rows are for, for the message.

    Returns
    -------
    slice or numpy.ndarray
        Index of columns, layers one behind the other, in the order of the training.

    Raises
    ------
    FingerprintError
        If the fingerprints differ or a layer is missing.
    """
    _require_same_fingerprint(trained, ds, what)
    if trained is None or origin_of(ds) is None:
        return slice(None)
    found = layer_names(ds)
    wanted = list(trained.get("layers", found))
    if not set(wanted) <= set(found):
        raise FingerprintError(
            f"{what} must have the layers a head was trained on, {wanted}, got {found}; "
            f"{trained.get('remedy', 'select them, too')}."
        )
    return columns_of(layer_widths(ds), [found.index(name) for name in wanted])


def _require_same_fingerprint(trained: Origin | None, ds: "xr.Dataset", what: str) -> None:
    """Refuse features that were extracted in another way."""
    found = origin_of(ds)
    if trained is None or found is None:
        return
    if trained.get("fingerprint", found["fingerprint"]) == found["fingerprint"]:
        return
    raise FingerprintError(
        f"{what} must have the features a head was trained on, {_named(trained)}, got "
        f"{_named(found)}; extract with the same settings, or train again."
    )


def layer_widths(ds: "xr.Dataset") -> list[int]:
    """Return the number of features of every layer, in feature order.

    Parameters
    ----------
    ds
        A selection of the store, or any dataset.

    Returns
    -------
    list of int
        One for each of `layer_names`.
    """
    widths: list[int] = []
    for values in ds.data_vars.values():
        n_layers = values.shape[1] if values.ndim > 2 else 1
        widths += [int(np.prod(values.shape[1:])) // n_layers] * n_layers
    return widths


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
