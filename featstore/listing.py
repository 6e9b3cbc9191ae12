"""The table of what a store holds."""

from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.gather import readable_rows
from featstore.layouts import FAKE, REAL

if TYPE_CHECKING:
    import pandas as pd

    from featstore.store import GroupKey, Store


def contents(store: "Store") -> "pd.DataFrame":
    """Return one row per feature group; see `featstore.store.Store.contents`.

    Parameters
    ----------
    store
        The store.

    Returns
    -------
    pandas.DataFrame
        Names and counts.
    """
    import pandas as pd

    return pd.DataFrame([_row(store, key) for key in store.groups()], columns=COLUMNS)


COLUMNS = [
    "features", "view", "dataset", "split", "layers", "rows", "unreadable", "missing",
    "real", "fake", "generators",
]  # fmt: skip


def _row(store: "Store", key: "GroupKey") -> dict[str, Any]:
    """Count one group."""
    group = store.group(key)
    markers = group.markers()
    rows = readable_rows(group)
    table = store.samples(key.dataset, key.split)  # after the markers: tables only grow
    labels, generators = table.column("label")[rows], table.column("generator")[rows]
    return {
        **key._asdict(),
        "layers": len(group.layers),
        "rows": len(rows),
        "unreadable": sum(len(marker.unreadable) for marker in markers.values()),
        "missing": group.n_rows - sum(marker.n_rows for marker in markers.values()),
        "real": int(np.count_nonzero(labels == REAL)),
        "fake": int(np.count_nonzero(labels == FAKE)),
        "generators": ", ".join(
            table.generators[code]
            for code in np.unique(generators)
            if table.generators[code] != "real"
        ),
    }
