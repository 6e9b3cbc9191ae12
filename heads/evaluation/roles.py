"""Roles of rows: some are learned from, some are chosen on, others are reported, none is two."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featstore.errors import ConfigError

SELECTION_SPLITS = ("train", "val")
"""Splits on which choosing something is honest."""


COMMON = {
    "sample_id": "the same image must not be reported or chosen on and be one of '{role}', got "
    "{n} images that are (such as {path!r}); remove it from one of them, or name other rows.",
    "pair": "aligned pairs must not be divided between rows that are reported or chosen on and "
    "'{role}', got {n} pairs that are (such as that of {path!r}); give both images of a pair the "
    "same split, or name other rows.",
}
"""What rows of two roles may not have in common, and the sentence if they do."""


def splits_of(data: Any) -> list[str]:
    """Return the names of the splits that rows come from.

    Parameters
    ----------
    data
        A selection of the store, or a frame of scores.

    Returns
    -------
    list of str
        Sorted names of the splits that have rows.
    """
    codes = data["split"]
    if "splits" in data.attrs:
        names = np.asarray(data.attrs["splits"], dtype=object)
        return sorted(str(name) for name in names[np.unique(codes.values)])
    return sorted(str(name) for name in codes.unique())


def require_selection_split(
    data: Any, *, what: str, allowed: Iterable[str] = SELECTION_SPLITS
) -> None:
    """Refuse to choose something on rows that are meant for reporting.

    Parameters
    ----------
    data
        A selection of the store, or a frame of scores.
    what
        What is chosen, for the message (``"the decision threshold"``).
    allowed
        Splits on which choosing is honest.

    Raises
    ------
    ConfigError
        If any row belongs to another split.

    Examples
    --------
    >>> require_selection_split(pd.DataFrame({"split": ["val"]}), what="the threshold")
    """
    allowed = sorted(allowed)
    if wrong := sorted(set(splits_of(data)) - set(allowed)):
        raise ConfigError(
            f"{what} must be chosen on rows of {allowed}, got rows of {wrong}; name another split."
        )


def require_disjoint(rows: Any, others: Any, role: str) -> None:
    """Refuse rows that another role has too, in whatever dataset, split, view or store.

    Parameters
    ----------
    rows
        A selection of rows that are reported or chosen on.
    others
        A selection of the rows of another role, or their `identities`.
    role
        Name of that role, for the message.

    Raises
    ------
    ConfigError
        If they have rows of the store or images (equal bytes) in common, or if an aligned pair is
        divided between them.

    Notes
    -----
    Reads the content ids of both, 16 bytes per row. Datasets that are not from a store are
    compared by the coordinates they have.
    """
    if not isinstance(others, pd.DataFrame):
        _refuse_common_rows(rows, others, role)
        others = identities(others)
    own = identities(rows)
    for name, message in COMMON.items():
        if name in own and name in others:
            _refuse_common(rows, own[name], others[name], message, role)


def identities(ds: Any) -> pd.DataFrame:
    """Return what identifies the images of a selection.

    Parameters
    ----------
    ds
        A selection of the store.

    Returns
    -------
    DataFrame
        ``sample_id``, the hash of the image's bytes as hexadecimal text, and ``pair``, -1 for
        none; without those that a dataset from elsewhere lacks.
    """
    return pd.DataFrame({name: ds[name].values for name in COMMON if name in ds.coords})


def trained_on(data: Mapping[str, Any]) -> pd.DataFrame:
    """Return the images that were learned from or chosen on, so that they are known later.

    Parameters
    ----------
    data
        Selections by role.

    Returns
    -------
    DataFrame
        The columns of `identities` and ``role``, sorted by role and id.
    """
    frames = [identities(data[r]).assign(role=r) for r in SELECTION_SPLITS if r in data]
    return pd.concat(frames).sort_values(["role", "sample_id"], ignore_index=True)


def _refuse_common(rows: Any, own: Any, others: Any, message: str, role: str) -> None:
    """Refuse equal identities; negative numbers stand for none."""
    common = own.isin(others.unique())
    if own.dtype.kind == "i":
        common &= own >= 0
    if common.any():
        first = int(np.flatnonzero(common)[0])
        path = str(rows["path"][first].values) if "path" in rows.coords else f"row {first}"
        raise ConfigError(message.format(role=role, n=own[common].nunique(), path=path))


def _refuse_common_rows(rows: Any, others: Any, role: str) -> None:
    """Refuse rows of the store that are in both; views of one image are one row."""
    known = _rows_by_table(others)
    for (store, dataset, split), numbers in _rows_by_table(rows).items():
        common = np.intersect1d(numbers, known.get((store, dataset, split), ())).size
        if common:
            raise ConfigError(
                f"rows that are reported or chosen on must not be those of {role!r}, got {common} "
                f"common rows of dataset {dataset!r}, split {split!r}; name other rows."
            )


def _rows_by_table(ds: Any) -> dict[tuple[str, str, str], NDArray[np.int64]]:
    """Return the selected row numbers of each dataset and split; none if not from a store."""
    if "store" not in ds.attrs or "row" not in ds.coords:
        return {}
    codes = pd.DataFrame({name: ds[name].values for name in ("dataset", "split", "row")})
    return {
        (ds.attrs["store"], ds.attrs["datasets"][d], ds.attrs["splits"][s]): rows.to_numpy()
        for (d, s), rows in codes.groupby(["dataset", "split"])["row"]
    }


def row_counts(ds: Any) -> list[dict[str, Any]]:
    """Count the real and fake rows of a selection.

    Parameters
    ----------
    ds
        A selection of the store.

    Returns
    -------
    list of dict
        ``dataset``, ``split``, ``n_real`` and ``n_fake`` of each dataset and split.
    """
    frame = pd.DataFrame({name: ds[name].values for name in ("dataset", "split", "label")})
    return [
        {
            "dataset": ds.attrs["datasets"][d],
            "split": ds.attrs["splits"][s],
            "n_real": int((labels == 0).sum()),
            "n_fake": int((labels == 1).sum()),
        }
        for (d, s), labels in frame.groupby(["dataset", "split"])["label"]
    ]
