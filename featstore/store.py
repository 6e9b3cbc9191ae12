"""The store: a Zarr group on disk that knows which features it holds.

The store's root attributes are its catalogue (what exists); counts come from the sample tables and
block markers, so they are never stale. Opening reads one small file.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import filelock
import zarr

from featstore import schema
from featstore.errors import (
    FingerprintError,
    FormatVersionError,
    SchemaError,
    StoreExistsError,
    StoreNotFoundError,
    unknown_name,
)
from featstore.feature_group import FeatureGroup
from featstore.fingerprint import difference, fingerprint
from featstore.group_arrays import require_feature_group
from featstore.layers import Layer
from featstore.samples import SampleTable
from featstore.zarr_nodes import open_group, require_group, write_attributes

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

FORMAT_KEY, CATALOGUE_KEY = "featstore_format", "catalogue"


class GroupKey(NamedTuple):
    """Names of one feature group."""

    features: str
    view: str
    dataset: str
    split: str


class Store:
    """A feature store on disk; made by `create` or `open`.

    Parameters
    ----------
    path
        Folder of the store.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        attributes: dict[str, Any] = dict(open_group(self.path).attrs)
        if FORMAT_KEY not in attributes:
            raise SchemaError(
                f"a store must carry the attribute {FORMAT_KEY!r}, got the Zarr group {path} "
                "without it; it was not made by featstore."
            )
        if int(attributes[FORMAT_KEY]) > schema.FORMAT_VERSION:
            raise FormatVersionError(
                f"store {str(path)!r} has format version {attributes[FORMAT_KEY]}, this featstore "
                f"reads up to {schema.FORMAT_VERSION}; upgrade featstore."
            )

    def __repr__(self) -> str:
        return f"<featstore.Store {str(self.path)!r}, {len(self.groups())} feature groups>"

    def groups(self) -> list[GroupKey]:
        """Return the names of all feature groups.

        Returns
        -------
        list of GroupKey
            Sorted.
        """
        catalogue: Any = open_group(self.path).attrs.get(CATALOGUE_KEY)
        if catalogue is None:
            raise SchemaError(
                f"the store {str(self.path)!r} must have the attribute {CATALOGUE_KEY!r}, got "
                "none; run 'featstore verify --rebuild'."
            )
        return sorted(GroupKey(*key) for key in catalogue)

    def feature_sets(self) -> list[str]:
        """Return the names of all feature sets.

        Returns
        -------
        list of str
            Sorted.
        """
        return sorted({key.features for key in self.groups()})

    def group(self, key: GroupKey) -> FeatureGroup:
        """Open one feature group.

        Parameters
        ----------
        key
            Its names, as `groups` gives them.

        Returns
        -------
        FeatureGroup
            The group.
        """
        return FeatureGroup(self.group_path(key))

    def group_path(self, key: GroupKey) -> Path:
        """Return the folder of a feature group, whether or not it exists.

        Parameters
        ----------
        key
            Its names.

        Returns
        -------
        Path
            A folder below the store.
        """
        return self.path.joinpath(schema.FEATURES, *map(schema.folder_name, key))

    def samples(self, dataset: str, split: str) -> SampleTable:
        """Open the sample table of a dataset and split.

        Parameters
        ----------
        dataset, split
            Their names.

        Returns
        -------
        SampleTable
            The table.
        """
        folders = schema.folder_name(dataset), schema.folder_name(split)
        return SampleTable(self.path.joinpath(schema.SAMPLES, *folders))

    def description(self, features: str) -> dict[str, Any]:
        """Return what a feature set is: backbone, weights, preprocessing, versions, fingerprint.

        Parameters
        ----------
        features
            Name of the feature set.

        Returns
        -------
        dict
            JSON types; ``fingerprint`` is the SHA-256 of the rest.

        Raises
        ------
        KeyError
            If there is no such feature set; the message names those there are.
        """
        path = self.path / schema.FEATURES / schema.folder_name(features)
        if not (path / "zarr.json").exists():
            raise KeyError(unknown_name("feature set", features, self.feature_sets()))
        return open_group(path).attrs.asdict()

    def contents(self) -> "pd.DataFrame":
        """Return a table of what the store holds, one row per feature group.

        Returns
        -------
        pandas.DataFrame
            Columns ``features``, ``view``, ``dataset``, ``split``, ``layers`` (number), ``rows``
            (readable), ``unreadable``, ``missing`` (planned, not yet extracted), ``real``,
            ``fake`` and ``generators``.

        Notes
        -----
        Reads the markers and the label columns, never a feature.
        """
        from featstore.listing import contents

        return contents(self)

    def select(  # noqa: PLR0913  the axes of a query
        self,
        features: str | None = None,
        *,
        dataset: str | Sequence[str] | None = None,
        split: str | Sequence[str] | None = None,
        layer: str | Sequence[str] | None = None,
        label: int | None = None,
        generator: str | Sequence[str] | None = None,
        view: str = "clean",
    ) -> "xr.Dataset":
        """Return features as a lazy, labelled dataset; nothing of them is read.

        See `featstore.subset.select` for parameters and result.

        Parameters
        ----------
        features
            Feature set; may be left out when the store holds only one.
        dataset, split, generator
            Names, globs or lists of them; all if left out.
        layer
            Layer names, globs or a list of them, in the wanted order; all layers but ``proj`` if
            left out.
        label
            0 or 1 for only real or only generated images.
        view
            Name of the view.

        Returns
        -------
        xarray.Dataset
            Lazy ``cls (sample, layer, feature)`` and the sample table as coordinates.
        """
        from featstore.subset import Query, select

        query = Query(features, dataset, split, layer, label, generator, view)
        return select(self, query)

    @contextmanager
    def planning(self) -> Iterator[None]:
        """Hold the lock under which tables and groups are made.

        Yields
        ------
        None
            While held, no other process changes what the store is to hold. Extraction itself
            needs no lock: ranks own different blocks.
        """
        with _planning_lock(self.path):
            yield

    def register(
        self, features: str, view: str, description: Mapping[str, Any], layers: Sequence[Layer]
    ) -> str:
        """Record what a feature set is, or check that it still is the same.

        Parameters
        ----------
        features, view
            Names of the feature set and the view.
        description
            Everything that determines the numbers, as JSON types.
        layers
            Its layers, in order.

        Returns
        -------
        str
            The fingerprint.

        Raises
        ------
        FingerprintError
            If the name already stands for different features; the message says what differs.
        """
        content = json.loads(json.dumps({**description, "layers": [list(x) for x in layers]}))
        identity = fingerprint(content)
        folders = (schema.FEATURES, schema.folder_name(features))
        group = require_group(self.path, *folders)
        stored = group.attrs.asdict()
        if stored and stored.get("fingerprint") != identity:
            raise FingerprintError(difference(features, stored, content))
        if not stored:
            path = self.path.joinpath(*folders)
            write_attributes(path, **content, fingerprint=identity)
        require_group(self.path, *folders, schema.folder_name(view))
        return identity

    def require(self, key: GroupKey, layers: Sequence[Layer], identity: str) -> FeatureGroup:
        """Create or grow a feature group so that it matches its sample table.

        Parameters
        ----------
        key
            Names of the group.
        layers, identity
            Layers and fingerprint of its feature set.

        Returns
        -------
        FeatureGroup
            The group, entered into the catalogue.
        """
        table = self.samples(key.dataset, key.split)
        group = require_feature_group(
            self.path, self.group_path(key), layers, identity, table.n_rows, table.block_rows
        )
        self.catalogue({*self.groups(), key})
        return group

    def catalogue(self, keys: set[GroupKey]) -> None:
        """Write the list of feature groups.

        Parameters
        ----------
        keys
            All groups that exist.
        """
        entries = [list(key) for key in sorted(keys)]
        if entries != open_group(self.path).attrs[CATALOGUE_KEY]:
            write_attributes(self.path, **{CATALOGUE_KEY: entries})


def create(path: str | Path) -> Store:
    """Create an empty store.

    Parameters
    ----------
    path
        Folder to create; usually ends in ``.zarr``.

    Returns
    -------
    Store
        The new store.

    Raises
    ------
    StoreExistsError
        If there is something at the path.
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise StoreExistsError(
            f"a new store needs an unused path, got {str(path)!r}, which exists; "
            "open it with featstore.open(path, mode='a') or choose another path."
        )
    attributes = {FORMAT_KEY: schema.FORMAT_VERSION, CATALOGUE_KEY: []}
    zarr.create_group(path, zarr_format=3, attributes=attributes)
    return Store(path)


def open_store(path: str | Path, mode: Literal["r", "a"] = "r") -> Store:
    """Open a store; ``featstore.open`` is this function.

    Parameters
    ----------
    path
        Folder of the store.
    mode
        ``"r"`` for an existing store, ``"a"`` to create it where absent.

    Returns
    -------
    Store
        The store.

    Raises
    ------
    StoreNotFoundError
        If there is no store there and `mode` is ``"r"``.
    FormatVersionError
        If a newer featstore wrote it.
    SchemaError
        If the folder is a Zarr group of another origin.
    """
    path = Path(path)
    if not (path / "zarr.json").exists():
        if mode == "a":
            return _create_once(path)
        found = "a folder that holds none" if path.is_dir() else "nothing there"
        raise StoreNotFoundError(
            f"there must be a store at {str(path)!r}, got {found}; "
            "make one with 'featstore extract'."
        )
    return Store(path)


def _planning_lock(path: Path) -> filelock.BaseFileLock:
    """Return the lock of a store, which need not exist; it lies beside the store."""
    path = path.absolute()
    return filelock.FileLock(path.with_name(f".{path.name}.lock"))


def _create_once(path: Path) -> Store:
    """Create a store, unless another process was faster."""
    path.absolute().parent.mkdir(parents=True, exist_ok=True)
    with _planning_lock(path):
        return Store(path) if (path / "zarr.json").exists() else create(path)
