"""Creating and growing the arrays of a feature group, all of them or, after a crash, none."""

from collections.abc import Sequence
from pathlib import Path

import zarr

from featstore import schema
from featstore.feature_group import FeatureGroup
from featstore.layers import Layer
from featstore.zarr_nodes import create_array, require_group, sync_nodes, write_attributes


def require_feature_group(
    root: Path, path: Path, layers: Sequence[Layer], fingerprint: str, n_rows: int, block_rows: int
) -> FeatureGroup:
    """Create a feature group, or grow one to a longer sample table.

    Parameters
    ----------
    root
        The store's folder; the caller holds its planning lock.
    path
        Folder of the group.
    layers
        Layers of the feature set, in order.
    fingerprint
        Fingerprint of the feature set.
    n_rows
        Rows of the sample table.
    block_rows
        Rows per block of the sample table.

    Returns
    -------
    FeatureGroup
        The group. Its attribute ``n_rows`` is written last, so a crash leaves no half-made group.
    """
    group = require_group(root, *path.relative_to(root).parts)
    if group.attrs.get("n_rows", -1) == n_rows:
        return FeatureGroup(path)
    for array, tail in _tails(layers).items():
        shape = (n_rows, *tail) if array != schema.COMMITS else (-(-n_rows // block_rows),)
        if array in group:
            existing = group[array]
            assert isinstance(existing, zarr.Array)
            existing.resize(shape)
        else:
            chunks = (block_rows, *((1, *tail[1:]) if len(tail) == 2 else tail))
            chunks = chunks if array != schema.COMMITS else (1,)
            create_array(group, array, schema.array_spec(array), shape, chunks)
    sync_nodes(path, "*/zarr.json")
    write_attributes(
        path,
        block_rows=block_rows,
        fingerprint=fingerprint,
        layers=[list(layer) for layer in layers],
        formats=list(schema.FORMATS),
        n_rows=n_rows,
    )
    return FeatureGroup(path)


def _tails(layers: Sequence[Layer]) -> dict[str, tuple[int, ...]]:
    """Return the shape behind the row axis of every array of a group."""
    tails: dict[str, tuple[int, ...]] = {
        "sample_id": (schema.SAMPLE_ID_BYTES,),
        "file_facts": (len(schema.FACTS),),
        schema.COMMITS: (),
    }
    for array in dict.fromkeys(layer.array for layer in layers):
        own = [layer for layer in layers if layer.array == array]
        tails[array] = (own[0].width,) if array == schema.PROJ else (len(own), own[0].width)
    return tails
