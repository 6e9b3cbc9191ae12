"""Asking the store for features: names and globs in, a lazy labelled dataset out."""

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from featstore import schema
from featstore.errors import ConfigError, FingerprintError, unknown_name
from featstore.gather import readable_rows
from featstore.layers import Layer
from featstore.lazy import Part, lazy_columns, lazy_features

if TYPE_CHECKING:
    import xarray as xr

    from featstore.store import GroupKey, Store

Names = str | Sequence[str] | None


class Query(NamedTuple):
    """What is asked for; the fields are those of `featstore.store.Store.select`."""

    features: str | None = None
    dataset: Names = None
    split: Names = None
    layer: Names = None
    label: int | None = None
    generator: Names = None
    view: str = "clean"


def match(kind: str, wanted: Names, known: Iterable[str]) -> list[str]:
    """Resolve names and globs.

    Parameters
    ----------
    kind
        What is named, for the error message.
    wanted
        A name, a glob, a sequence of them, or None for all.
    known
        The names that exist, in their natural order.

    Returns
    -------
    list of str
        Names in the order asked for; those of one glob in natural order; none twice.

    Raises
    ------
    ConfigError
        If a name or glob matches nothing.

    Examples
    --------
    >>> match("layer", ["ln_post", "block.*"], ["block.0", "block.1", "ln_post"])
    ['ln_post', 'block.0', 'block.1']
    """
    known = list(dict.fromkeys(known))
    if wanted is None:
        return known
    found: dict[str, None] = {}
    for pattern in [wanted] if isinstance(wanted, str) else wanted:
        hits = [pattern] if pattern in known else [n for n in known if fnmatchcase(n, pattern)]
        if not hits:
            raise ConfigError(unknown_name(kind, pattern, known))
        found |= dict.fromkeys(hits)
    return list(found)


def select(store: "Store", query: Query) -> "xr.Dataset":
    """Return the features that a query asks for as a lazy dataset.

    Parameters
    ----------
    store
        The store.
    query
        What is wanted.

    Returns
    -------
    xarray.Dataset
        ``cls (sample, layer, feature)`` float16, backed by dask, and ``proj (sample, embedding)``
        where asked for. Coordinates along ``sample``: ``label``, ``generator``, ``dataset`` and
        ``split`` (codes; names in the attributes ``generators``, ``datasets``, ``splits``),
        ``pair``, ``group`` and ``row`` (where a sample is stored), and, lazily, ``path``,
        ``sample_id``, file facts and metadata. Only committed rows of readable images.

    Raises
    ------
    ConfigError
        If a name matches nothing (close matches are named) or no row is left.
    FingerprintError
        If groups of the feature set come from different extractions.

    Notes
    -----
    Reads label columns and block markers: milliseconds per million rows; features are not read.
    """
    features = _one_feature_set(store, query.features)
    parts = [_part(store, key, query) for key in _keys(store, features, query)]
    _check_generators(query.generator, parts)
    parts = [part for part in parts if len(part.rows)]
    if not parts:
        raise ConfigError(
            f"a selection must hold at least one readable sample, got none for {query}; "
            "'featstore ls' shows what there is."
        )
    fingerprints = {part.group.fingerprint: "/".join(part.key) for part in parts}
    if len(fingerprints) > 1:
        raise FingerprintError(f"features of one origin are needed, got {fingerprints}.")
    return _dataset(store, query, parts)


def choose_layers(layers: Sequence[Layer], wanted: Names) -> list[Layer]:
    """Resolve layer names and globs.

    Parameters
    ----------
    layers
        All layers of a feature set.
    wanted
        Names or globs; None means all but the projected embedding.

    Returns
    -------
    list of Layer
        The layers in the order asked for.
    """
    by_name = {layer.name: layer for layer in layers}
    if wanted is None:
        return [layer for layer in layers if layer.array != schema.PROJ] or list(layers)
    return [by_name[name] for name in match("layer", wanted, by_name)]


def group_code(path: Path | str) -> int:
    """Return the number that stands for a feature group in the coordinate ``group``.

    Parameters
    ----------
    path
        Folder of the group.

    Returns
    -------
    int
        A 31-bit hash of the path: unlike a position in a list it survives concatenation.
    """
    return int.from_bytes(blake2b(str(path).encode(), digest_size=4).digest(), "little") >> 1


def _one_feature_set(store: "Store", features: str | None) -> str:
    """Return the feature set meant."""
    known = store.feature_sets()
    if features is None:
        if len(known) != 1:
            raise ConfigError(
                f"'features' must name one of the store's feature sets {known}, got none."
            )
        return known[0]
    if features not in known:
        raise ConfigError(unknown_name("feature set", features, known))
    return features


def _keys(store: "Store", features: str, query: Query) -> list["GroupKey"]:
    """Return the groups that a query reaches, by dataset in the order asked for."""
    keys = [key for key in store.groups() if key.features == features]
    match("view", query.view, [key.view for key in keys])
    keys = [key for key in keys if key.view == query.view]
    datasets = match("dataset", query.dataset, [key.dataset for key in keys])
    splits = match("split", query.split, [key.split for key in keys])
    found = [k for name in datasets for k in keys if k.dataset == name and k.split in splits]
    absent = set(datasets) - {key.dataset for key in found}
    if absent and query.dataset is not None:
        raise ConfigError(f"datasets {sorted(absent)} hold nothing of split {query.split!r}.")
    return found


def _part(store: "Store", key: "GroupKey", query: Query) -> Part:
    """Find the rows of one group."""
    group = store.group(key)
    rows = readable_rows(group)
    table = store.samples(key.dataset, key.split)  # after the markers: tables only grow
    if query.label is not None:
        rows = rows[table.column("label")[rows] == query.label]
    if query.generator is not None:
        patterns = [query.generator] if isinstance(query.generator, str) else query.generator
        codes = [
            code
            for code, name in enumerate(table.generators)
            if any(name == p or fnmatchcase(name, p) for p in patterns)
        ]
        rows = rows[np.isin(table.column("generator")[rows], codes)]
    return Part(key, group, table, rows)


def _check_generators(wanted: Names, parts: Sequence[Part]) -> None:
    """Refuse a generator that none of the groups knows."""
    match("generator", wanted, [name for part in parts for name in part.table.generators])


def _dataset(store: "Store", query: Query, parts: Sequence[Part]) -> "xr.Dataset":
    """Assemble the lazy dataset."""
    import dask.array as da
    import xarray as xr

    chosen = choose_layers(parts[0].group.layers, query.layer)
    names = _names(store, parts[0].key.features)
    coordinates: dict[str, Any] = {
        name: (schema.SAMPLE, np.concatenate([values(part) for part in parts]))
        for name, values in _eager_columns(names).items()
    }
    lazy = [lazy_columns(part) for part in parts]
    for name in lazy[0]:
        if all(name in columns for columns in lazy):
            joined = da.concatenate([columns[name] for columns in lazy])
            coordinates[name] = (schema.SAMPLE, joined)
    variables: dict[str, Any] = {}
    for array in dict.fromkeys(layer.array for layer in chosen):
        own = [layer for layer in chosen if layer.array == array]
        dims = schema.array_spec(array).dims
        values = da.concatenate([lazy_features(part, array, own) for part in parts])
        coordinates[dims[-1]] = np.arange(own[0].width)
        if len(dims) == 3:
            coordinates[dims[1]] = [layer.name for layer in own]
            coordinates[f"tap{dims[1].removeprefix('layer')}"] = (dims[1], [x.tap for x in own])
            coordinates[f"depth{dims[1].removeprefix('layer')}"] = (dims[1], [x.depth for x in own])
            variables[array] = (dims, values)
        else:
            variables[array] = (dims, values[:, 0])
    order = [layer.name for array in variables for layer in chosen if layer.array == array]
    attributes = {
        "store": str(store.path),
        "features": parts[0].key.features,
        "view": query.view,
        "fingerprint": parts[0].group.fingerprint,
        "layers": order,
        **names,
    }
    return xr.Dataset(variables, coordinates, attributes)


def _names(store: "Store", features: str) -> dict[str, list[str]]:
    """Return what codes stand for: the same in every selection of a feature set."""
    keys = [key for key in store.groups() if key.features == features]
    tables = [store.samples(*group) for group in sorted({(k.dataset, k.split) for k in keys})]
    generators = {name for table in tables for name in table.generators}
    return {
        "datasets": sorted({key.dataset for key in keys}),
        "splits": sorted({key.split for key in keys}),
        "generators": sorted(generators, key=lambda name: (name != "real", name)),
    }


def _eager_columns(
    names: dict[str, list[str]],
) -> dict[str, Callable[[Part], NDArray[Any]]]:
    """Return the small coordinates: name to a function of a part."""

    def generator(part: Part) -> NDArray[np.int16]:
        codes = [names["generators"].index(name) for name in part.table.generators]
        return np.asarray(np.array(codes, np.int16)[part.table.column("generator")[part.rows]])

    def code(kind: str, field: str) -> Callable[[Part], NDArray[np.int16]]:
        return lambda part: np.full(
            len(part.rows), names[kind].index(getattr(part.key, field)), np.int16
        )

    return {
        "label": lambda part: part.table.column("label")[part.rows],
        "generator": generator,
        "dataset": code("datasets", "dataset"),
        "split": code("splits", "split"),
        "pair": lambda part: part.table.column("pair")[part.rows],
        "group": lambda part: np.full(len(part.rows), group_code(part.group.path), np.int32),
        "row": lambda part: part.rows,
    }
