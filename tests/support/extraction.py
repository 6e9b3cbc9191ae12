"""Running real extractions with a tiny backbone, in this process or in one that gets killed."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from support.tiny_backbone import TinyBackbone

import featstore
from featstore import backbones
from featstore.extract import Summary, extract
from featstore.extract_config import ExtractConfig


def run_tiny(images: Path, store: Path, **options: Any) -> Summary:
    """Extract with `TinyBackbone`; options are those of `ExtractConfig`."""
    backbones.BACKBONES["tiny"] = TinyBackbone
    settings: dict[str, Any] = {
        "backbone": "tiny", "features": "tiny", "device": "cpu", "batch_size": 8, "workers": 2,
    }  # fmt: skip
    return extract(ExtractConfig(str(images), str(store), **{**settings, **options}))


def run_tiny_quietly(images: str, store: str, options: dict[str, Any]) -> None:
    """Entry point of a child process."""
    run_tiny(Path(images), Path(store), **options)


def content(store: Path, **query: Any) -> dict[str, Any]:
    """Return everything that can be selected of a store, for comparison."""
    ds = featstore.open(store).select(layer=["block.*", "proj"], **query)
    values: dict[str, Any] = {name: ds[name].values for name in ds.variables}
    return values


def assert_same_content(first: Path, second: Path) -> None:
    """Fail unless two stores hold the same, bit for bit."""
    one, two = content(first), content(second)
    assert one.keys() == two.keys()
    for name in one.keys() - {"group"}:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


def rows_by_path(ds: xr.Dataset) -> dict[tuple[int, str], bytes]:
    """Return the bytes of every selected row by dataset and path."""
    rows, paths = ds["cls"].values, ds["path"].values
    return {
        (int(code), str(path)): row.tobytes()
        for code, path, row in zip(ds["dataset"].values, paths, rows, strict=True)
    }
