"""Reading feature trees of one ``.npy`` file per layer, without loading a file.

The layout of the HSIC bottleneck's released code (Yang et al., ICLR 2026)::

    <root>/<split>/<dataset>/{0_real,1_fake}/
        feature_layer0.npy …              CLS token after each block, (n_images, width)
        feature_before_projection.npy     the same after the final LayerNorm
        feature_after_projection.npy      the projected embedding (may be absent)
        packed_features.npy               all but the embedding side by side (may be absent)

Names of image files are not part of it: a sample is known by its row, and by the row's content.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import ConfigError, SchemaError
from featstore.half import to_half
from featstore.interchange.npy_files import Columns, LabelFiles, label_files
from featstore.layers import Layer
from featstore.layouts.labelled_tree import LABEL_FOLDERS, SPLIT_FOLDERS
from featstore.layouts.records import REAL, Record
from featstore.schema import SAMPLE_ID_BYTES

_LABELS = LABEL_FOLDERS["class-folders"]


@dataclass(frozen=True)
class NpyGroup:
    """The features of one dataset and split in such a tree.

    Parameters
    ----------
    dataset, split
        Their names; ``valid`` and ``validation`` are called ``val``.
    layers
        ``block.0 …``, ``ln_post`` and ``proj``, as far as there are files.
    n_rows
        Label to its number of rows.
    columns
        Label to where each of the layers lies, in the order of `layers`.
    """

    dataset: str
    split: str
    layers: tuple[Layer, ...]
    n_rows: Mapping[int, int]
    columns: Mapping[int, tuple[Columns, ...]]

    def take(self, label: int, rows: NDArray[np.integer[Any]]) -> dict[str, NDArray[np.float16]]:
        """Read rows of all layers.

        Parameters
        ----------
        label
            0 for the real images, 1 for the generated ones.
        rows
            Row numbers in any order; the files are read in ascending order.

        Returns
        -------
        dict
            Array name (``cls``, ``proj``) to float16 values (n_rows, n_layers, width).

        Raises
        ------
        SchemaError
            If a value is not finite or too large for float16.

        Notes
        -----
        Files are mapped for the duration of the call, one at a time; pages of the rows asked for
        are read and one layer of them is held besides the result.
        """
        order = np.argsort(rows, kind="stable")
        values: dict[str, NDArray[np.float16]] = {}
        for array in dict.fromkeys(layer.array for layer in self.layers):
            places = [i for i, layer in enumerate(self.layers) if layer.array == array]
            width = self.layers[places[0]].width
            values[array] = np.empty((len(rows), len(places), width), np.float16)
            for at, place in enumerate(places):
                columns = self.columns[label][place]
                where = f"layer {self.layers[place].name!r} of '{columns.path}'"
                values[array][order, at] = to_half(columns.read(rows[order]), where)
        return values

    def records(self) -> list[Record]:
        """Return one record per row, real images first.

        Returns
        -------
        list of Record
            Paths are ``<first file>#<row>``, see `source_row`; the generator of a generated image
            is its dataset.
        """
        return [
            Record(
                Path(f"{self.columns[label][0].path}#{row}"),
                label,
                "real" if label == REAL else self.dataset,
                self.dataset,
                self.split,
            )
            for label, n_rows in sorted(self.n_rows.items())
            for row in range(n_rows)
        ]


def source_row(path: str) -> tuple[int, int]:
    """Return which row of a tree a record's path stands for.

    Parameters
    ----------
    path
        Path of a record of `NpyGroup.records`, absolute or relative.

    Returns
    -------
    tuple of int
        Label and row number.

    Examples
    --------
    >>> source_row("train/progan/1_fake/feature_layer0.npy#12")
    (1, 12)
    """
    file, _, row = path.rpartition("#")
    return _LABELS[Path(file).parent.name], int(row)


def row_ids(features: Mapping[str, NDArray[np.float16]]) -> NDArray[np.uint8]:
    """Return ids of samples whose image files are unknown.

    Parameters
    ----------
    features
        Array name to values (n_rows, n_layers, width), as `NpyGroup.take` returns them.

    Returns
    -------
    ndarray
        BLAKE2b-128 of each row's float16 values in all arrays, in the order of the arrays' names;
        uint8 (n_rows, 16). Equal features give equal ids, from float32 and float16 files alike.

    Examples
    --------
    >>> row_ids({"cls": np.zeros((2, 1, 3), np.float16)}).shape
    (2, 16)
    """
    arrays = [np.ascontiguousarray(features[name]) for name in sorted(features)]
    digests = bytearray()
    for row in range(len(arrays[0])):
        digest = blake2b(digest_size=SAMPLE_ID_BYTES)
        for array in arrays:
            digest.update(array[row])
        digests += digest.digest()
    return np.frombuffer(digests, np.uint8).reshape(-1, SAMPLE_ID_BYTES)


def scan_npy(root: str | Path, *, n_layers: int = 25) -> list[NpyGroup]:
    """Find the feature files of a tree and check that they fit together.

    Parameters
    ----------
    root
        Folder with one folder per split.
    n_layers
        How many layers a ``packed_features.npy`` holds where there are no files per layer: all
        blocks and the final LayerNorm, 25 for CLIP ViT-L/14.

    Returns
    -------
    list of NpyGroup
        One per split and dataset, sorted by folder. Where a layer has its own file, the packed
        file is not read.

    Raises
    ------
    ConfigError
        If there is no such tree.
    SchemaError
        If a file is no complete array of float16 or float32, layers are missing, or files
        disagree in rows, width or layers.

    Notes
    -----
    Reads headers only.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     folder = Path(root, "train", "progan", "0_real")
    ...     folder.mkdir(parents=True)
    ...     np.save(folder / "feature_layer0.npy", np.ones((3, 8), np.float32))
    ...     [group] = scan_npy(root)
    ...     group.take(0, np.array([2, 0]))["cls"].shape
    (2, 1, 8)
    """
    found: dict[tuple[Path, Path], dict[int, LabelFiles]] = {}
    for split in _folders(Path(root)):
        for dataset in _folders(split):
            for name, label in _LABELS.items():
                if (folder := dataset / name).is_dir():
                    found.setdefault((split, dataset), {})[label] = label_files(folder, n_layers)
    if not found:
        raise ConfigError(
            f"features must lie in <split>/<dataset>/{{0_real,1_fake}}/*.npy, got no such folder "
            f"below {str(root)!r}; name the folder that holds the split folders."
        )
    _check_layers(files for labels in found.values() for files in labels.values())
    return [
        NpyGroup(
            dataset.name,
            SPLIT_FOLDERS.get(split.name, split.name),
            next(iter(labels.values())).layers,
            {label: files.n_rows for label, files in labels.items()},
            {label: files.columns for label, files in labels.items()},
        )
        for (split, dataset), labels in found.items()
    ]


def _folders(path: Path) -> list[Path]:
    return sorted(item for item in path.iterdir() if item.is_dir()) if path.is_dir() else []


def _check_layers(everywhere: Iterable[LabelFiles]) -> None:
    """Refuse a tree that has other layers in one place than in another."""
    first, *others = everywhere
    for files in others:
        if files.layers != first.layers:
            raise SchemaError(
                f"all folders must hold the same layers, got {_summary(first)} but "
                f"{_summary(files)}; import them as separate trees, or add what is missing."
            )


def _summary(files: LabelFiles) -> str:
    layers = ", ".join(f"{layer.name} ({layer.width})" for layer in files.layers)
    return f"'{files.columns[0].path.parent}': {layers}"
