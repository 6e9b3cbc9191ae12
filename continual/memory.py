"""What is kept of past domains: row ids into the store, never copies of features."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from continual.selection import Choice
from featstore.durable import sync_folder, write_bytes, write_json
from featstore.errors import ConfigError, SchemaError

if TYPE_CHECKING:
    import xarray as xr

    from featstore.store import Store

FORMAT_VERSION = 2
ROWS, RECORD = "rows.parquet", "memory.json"
COLUMNS = {
    "domain": "str", "rank": "int64", "label": "int8", "generator": "str", "dataset": "str",
    "split": "str", "row": "int64", "sample_id": "str", "path": "str",
    "score": "float64", "sigma": "float64", "logit": "float64",
}  # fmt: skip
"""Columns of the table: ``rank`` is the place of a row in the order of choice of its class and
domain, ``row`` its number in the sample table of its dataset and split, ``score`` what it was
chosen by and ``sigma`` the bandwidth of its class (nan where there is none), ``logit`` the decision
value of the head at that time."""


class ReplayMemory:
    """Rows kept for replay.

    Attributes
    ----------
    rows : DataFrame
        One line per row kept, with the columns `COLUMNS`.
    choices : dict
        For each domain how its rows were chosen: selection and its options (``lambda_kc``), what
        it says of each class, digest of the head whose representations decided.
    features : dict or None
        Store, feature set, view and fingerprint of the features the rows were chosen by.
    """

    def __init__(self) -> None:
        self.rows = pd.DataFrame({k: pd.Series([], dtype=v) for k, v in COLUMNS.items()})
        self.choices: dict[str, dict[str, Any]] = {}
        self.features: dict[str, str] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def remember(
        self,
        ds: "xr.Dataset",
        choice: Choice,
        domain: str,
        how: Mapping[str, Any],
        logits: ArrayLike = np.nan,
        classes: ArrayLike | None = None,
    ) -> None:
        """Add rows of a domain; rows of the same domain that were kept before are replaced.

        Parameters
        ----------
        ds
            The selection of the store that was chosen from.
        choice
            Positions along ``sample``, in the order of choice within each class, scores and
            bandwidths.
        domain
            Name of the domain.
        how
            What is known of the choice, of JSON types.
        logits
            Decision values of the head for the rows chosen (n_kept,).
        classes
            What each of the rows chosen was chosen as (n_kept,); its label if None.

        Raises
        ------
        ConfigError
            If a row is chosen twice, or the features are of another origin.
        """
        if len(np.unique(choice.rows)) != len(choice.rows):
            raise ConfigError("rows must be kept once, got some twice; choose different rows.")
        self._require_origin(ds)
        kept = ds.isel(sample=choice.rows)
        label = kept["label"].values.astype(np.int8)
        kinds = label if classes is None else np.asarray(classes)
        rows = pd.DataFrame(
            {
                "domain": domain,
                "rank": pd.Series(label).groupby(kinds).cumcount().to_numpy(),
                "label": label,
                **{name: _names(kept, name) for name in ("generator", "dataset", "split")},
                "row": kept["row"].values,
                "sample_id": kept["sample_id"].values.astype(str),
                "path": kept["path"].values.astype(str),
                "score": choice.score,
                "sigma": choice.sigma,
                "logit": logits,
            }
        ).astype(COLUMNS)
        others = self.rows[self.rows["domain"] != domain]
        self.rows = pd.concat([others, rows], ignore_index=True)
        self.choices[domain] = dict(how)

    def _require_origin(self, ds: "xr.Dataset") -> None:
        """Refuse features of another origin than those kept."""
        names = ("store", "features", "view", "fingerprint")
        found = {name: str(ds.attrs[name]) for name in names}
        if self.features is not None and self.features["fingerprint"] != found["fingerprint"]:
            raise ConfigError(
                f"a memory must hold rows of features of one origin, {self.features}, got {found}."
            )
        self.features = found

    def shrink(self, capacity: int) -> None:
        """Keep at most so many rows, shared equally among domains and classes.

        Parameters
        ----------
        capacity
            Most rows, at least one per domain and class. Rows chosen first are kept; a class with
            fewer than its share leaves the rest to the others.

        Raises
        ------
        ConfigError
            If the capacity does not hold a row of each.
        """
        n_classes = int((self.rows["rank"] == 0).sum())
        if capacity < n_classes:
            raise ConfigError(
                f"'capacity' must hold a row of each of {n_classes} classes and domains, got "
                f"{capacity}."
            )
        ordered = self.rows.assign(place=np.arange(len(self.rows))).sort_values(["rank", "place"])
        self.rows = self.rows.loc[np.sort(ordered.index[:capacity])].reset_index(drop=True)

    def select(self, store: "Store", layer: Any = None) -> "xr.Dataset":
        """Return the features of the rows kept, lazily.

        Parameters
        ----------
        store
            The store that holds them.
        layer
            Layers, as for `Store.select`.

        Returns
        -------
        xarray.Dataset
            As of `Store.select`, in the order of the store, with the coordinate ``logit``.

        Raises
        ------
        ConfigError
            If the memory is empty.
        SchemaError
            If the store does not hold these images at these rows.
        """
        if self.features is None or not len(self.rows):
            raise ConfigError("a memory must hold rows to be selected, got an empty one.")
        ds = store.select(
            self.features["features"],
            dataset=sorted(set(self.rows["dataset"])),
            split=sorted(set(self.rows["split"])),
            layer=layer,
            view=self.features["view"],
        )
        places = self._places(ds)
        if missing := int((places < 0).sum()):
            raise SchemaError(
                f"the store must hold the rows kept, got {str(store.path)!r} without {missing} of "
                "them; extract them again."
            )
        order = np.argsort(places, kind="stable")
        found, positions = self.rows.iloc[order], places[order]
        kept = ds.isel(sample=positions)
        if (kept["sample_id"].values.astype(str) != found["sample_id"].to_numpy()).any():
            raise SchemaError(
                f"the store must hold the images kept, got {str(store.path)!r} with others at "
                "their rows; is it the store the memory was made from?"
            )
        return kept.assign_coords(logit=("sample", found["logit"].to_numpy()))

    def _places(self, ds: "xr.Dataset") -> NDArray[np.int64]:
        """Return where each row kept is in a selection, -1 for nowhere; a number per row of it."""
        names = ("dataset", "split")
        known = [pd.Index(ds.attrs[f"{name}s"]) for name in names]
        own = [index.get_indexer(self.rows[name]) for index, name in zip(known, names, strict=True)]
        n_rows = int(max(ds["row"].values.max(), self.rows["row"].max())) + 1
        shape = (*map(len, known), n_rows)
        wanted = np.ravel_multi_index((*own, self.rows["row"].to_numpy()), shape)
        every = np.ravel_multi_index(tuple(ds[name].values for name in (*names, "row")), shape)
        there = np.flatnonzero(np.isin(every, wanted))
        return pd.Series(there, every[there]).reindex(wanted, fill_value=-1).to_numpy(np.int64)

    def save(self, folder: Path | str) -> None:
        """Write the memory into a folder, replacing what is there.

        Parameters
        ----------
        folder
            Created if absent.
        """
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        write_bytes(target / ROWS, self.rows.to_parquet(index=False))
        record = {"format_version": FORMAT_VERSION, "n_rows": len(self.rows)}
        write_json(target / RECORD, {**record, "features": self.features, "choices": self.choices})
        sync_folder(target)

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read a memory.

        Parameters
        ----------
        folder
            Written by `save`.

        Returns
        -------
        ReplayMemory
            Equal to that saved.

        Raises
        ------
        SchemaError
            If the folder holds no memory, or one of a newer version.
        """
        source = Path(folder)
        try:
            record = json.loads((source / RECORD).read_text())
            version, n_rows = record.get("format_version"), record.get("n_rows")
            rows = pd.read_parquet(source / ROWS).astype(COLUMNS)
        except (OSError, ValueError, KeyError, AttributeError) as err:
            raise SchemaError(f"{str(source)!r} must hold a saved memory: {err}") from err
        whole = isinstance(record.get("choices"), dict) and isinstance(
            record.get("features"), dict if len(rows) else NoneType
        )
        if version != FORMAT_VERSION or n_rows != len(rows) or not whole:
            raise SchemaError(
                f"{str(source)!r} must hold a whole memory of format {FORMAT_VERSION}, got format "
                f"{version!r} with {len(rows)} rows; save it again."
            )
        memory = cls()
        memory.rows, memory.features = rows[list(COLUMNS)], record["features"]
        memory.choices = record["choices"]
        return memory


def _names(ds: "xr.Dataset", name: str) -> NDArray[Any]:
    """Return a coded coordinate as text."""
    names: NDArray[Any] = np.asarray(ds.attrs[f"{name}s"], dtype=object)
    return np.asarray(names[ds[name].values])
