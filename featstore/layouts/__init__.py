"""How image collections lie on disk: one scan function per layout, looked up in `LAYOUTS`.

A scan opens no image. It returns every image file as a `Record`, sorted by path, and every file
that it left out with the reason, so that nothing disappears unseen.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from featstore.errors import ConfigError, unknown_name
from featstore.layouts.class_folders import scan_class_folders
from featstore.layouts.genimage import scan_genimage
from featstore.layouts.manifest import scan_manifest
from featstore.layouts.records import FAKE, REAL, Ignored, Record, Scan
from featstore.layouts.splitting import assign_splits, rename_splits

__all__ = [
    "FAKE", "LAYOUTS", "REAL", "Ignored", "Record", "Scan",
    "assign_splits", "rename_splits", "scan",
]  # fmt: skip

LAYOUTS: Mapping[str, Callable[..., Scan]] = {
    "class-folders": scan_class_folders,
    "genimage": scan_genimage,
    "manifest": scan_manifest,
}


def scan(
    source: str | Path,
    layout: str = "class-folders",
    *,
    dataset: str | None = None,
    split: str | None = None,
) -> Scan:
    """List the images of a collection with their labels, generators, datasets and splits.

    Parameters
    ----------
    source
        Folder of images; for the layout ``manifest`` the file.
    layout
        A key of `LAYOUTS`.
    dataset, split
        Names for what the layout does not tell; see the layout's function.

    Returns
    -------
    Scan
        Records sorted by the bytes of their path, and ignored files.

    Raises
    ------
    ConfigError
        If there is no such layout, nothing is found, or what is found contradicts itself.
    """
    if layout not in LAYOUTS:
        raise ConfigError(unknown_name("layout", layout, LAYOUTS))
    return LAYOUTS[layout](Path(source), dataset=dataset, split=split)
