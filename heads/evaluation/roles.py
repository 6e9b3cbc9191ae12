"""Roles of rows: some are learned from, some are chosen on, others are reported, none is two."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featstore.errors import ConfigError

SELECTION_SPLITS = ("train", "val")
"""Splits on which choosing something is honest."""


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
            f"{what} must be chosen on rows of {allowed}, got rows of {wrong}; name another split, "
            "or ask for 'selection: oracle' to print what that choice would give."
        )


def require_disjoint(rows: Any, others: Any, role: str) -> None:
    """Refuse rows that another role has too; views of one image count as one row.

    Parameters
    ----------
    rows
        A selection of rows that are reported or chosen on.
    others
        A selection of the rows of another role, from the same store.
    role
        Name of that role, for the message.

    Raises
    ------
    ConfigError
        If they have rows in common.
    """
    known = _rows_by_table(others)
    for (dataset, split), numbers in _rows_by_table(rows).items():
        common = np.intersect1d(numbers, known.get((dataset, split), ())).size
        if common:
            raise ConfigError(
                f"rows that are reported or chosen on must not be those of '{role}', got {common} "
                f"common rows of dataset {dataset!r}, split {split!r}; name other rows."
            )


def _rows_by_table(ds: Any) -> dict[tuple[str, str], NDArray[np.int64]]:
    """Return the selected row numbers of each dataset and split."""
    codes = pd.DataFrame({name: ds[name].values for name in ("dataset", "split", "row")})
    return {
        (ds.attrs["datasets"][d], ds.attrs["splits"][s]): rows.to_numpy()
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
