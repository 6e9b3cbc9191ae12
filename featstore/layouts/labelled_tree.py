"""Folders whose names say what the images below them are.

The layouts ``class-folders`` and ``genimage`` differ only in the names of their label folders. Of
the folders between the root and the label folder, one may name the split, the first other one is
the dataset, the rest are classes. Folders below the label folder are classes too.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from featstore.errors import ConfigError
from featstore.layouts.records import FAKE, REAL, Ignored, Record, Scan
from featstore.layouts.walking import walk_images

LABEL_FOLDERS: Mapping[str, Mapping[str, int]] = {
    "class-folders": {"0_real": REAL, "1_fake": FAKE},
    "genimage": {"nature": REAL, "ai": FAKE},
}
"""Layout name to the names of its label folders."""

SPLIT_FOLDERS: Mapping[str, str] = {
    "train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
}  # fmt: skip
"""Folder names that stand for a split, and the split's name."""

NO_SPLIT = "all"


class _Found(NamedTuple):
    """An image below a label folder: its path below the root, and the folders on both sides."""

    path: str
    label: int
    above: list[str]
    below: list[str]

    @property
    def split_folder(self) -> str | None:
        """The first folder with the name of a split."""
        return next((folder for folder in self.above if folder in SPLIT_FOLDERS), None)


def scan_labelled_tree(
    root: Path, layout: str, *, dataset: str | None = None, split: str | None = None
) -> Scan:
    """Scan a tree with the label folders of a layout.

    Parameters
    ----------
    root
        Folder to scan.
    layout
        A key of `LABEL_FOLDERS`.
    dataset
        Name of the dataset of all images, whatever the folders are called.
    split
        Name of the split of all images, where no folders below `root` tell.

    Returns
    -------
    Scan
        Images below a label folder. Images of both labels that share dataset, split, class folders
        and name (without suffix) get a common pair key, unless the name is ambiguous.

    Raises
    ------
    ConfigError
        If there is no such image, a folder contradicts `split`, or only some images lie below a
        folder with the name of a split and neither `split` nor the name of `root` settles it.
    """
    root = Path(root)
    labels = LABEL_FOLDERS[layout]
    images, ignored = walk_images(root)
    found = []
    for image in images:
        *folders, _ = parts = image.split("/")
        names = set(folders) & labels.keys()
        if len(names) == 1:
            at = folders.index(names.pop())
            found.append(_Found(image, labels[folders[at]], folders[:at], parts[at + 1 :]))
        else:
            where = f"below both a {' and a '.join(labels)} folder"
            where = where if names else f"not below a {' or '.join(labels)} folder"
            ignored.append(Ignored(root / image, where))
    if not found:
        raise ConfigError(_nothing_found(root, layout, ignored))
    ignored.sort(key=lambda item: os.fsencode(item.path))
    only_split = _only_split(root, found, split)
    unnamed, _ = _names(root)
    return Scan(
        _paired([_record(root, item, dataset, only_split, unnamed) for item in found]), ignored
    )


def _names(root: Path) -> tuple[str, str | None]:
    """Return the names of dataset and split that the root folder itself stands for."""
    *_, above, name = ("", *Path(os.path.abspath(root)).parts)
    return (above, SPLIT_FOLDERS[name]) if name in SPLIT_FOLDERS else (name, None)


def _only_split(root: Path, found: Sequence[_Found], split: str | None) -> str | None:
    """Return the split of all images; None if each lies below the folder of its own.

    A folder ``train`` among others that are no splits is a class: one of LSUN's is called so.
    """
    folders = Counter(item.split_folder for item in found)
    n_without = folders.pop(None, 0)
    _, own = _names(root)
    if n_without and folders and not (split or own):
        raise ConfigError(
            f"every image must lie below a split folder, or none; below {str(root)!r} are "
            f"{sorted(map(str, folders))} besides {n_without} images without; scan the folder "
            "above or each split alone, or give 'split' if these folders are classes."
        )
    if n_without:
        return split or own or NO_SPLIT
    if split and (others := [folder for folder in folders if SPLIT_FOLDERS[str(folder)] != split]):
        raise ConfigError(
            f"'split' must name images that lie below no split folder, got {split!r} for a tree "
            f"with the folders {others}; scan one of them alone, or rename its split."
        )
    return None


def _record(
    root: Path, found: _Found, dataset: str | None, split: str | None, unnamed: str
) -> Record:
    """Name split, dataset and generator; the pair key is that of the file, paired or not."""
    classes = list(found.above)
    if split is None:
        folder = str(found.split_folder)
        classes.remove(folder)
        split = SPLIT_FOLDERS[folder]
    if dataset is None:
        dataset = classes.pop(0) if classes else unnamed
    generator = "real" if found.label == REAL else dataset
    key = os.path.splitext("/".join([split, *classes, *found.below]))[0]
    return Record(root / found.path, found.label, generator, dataset, split, key)


def _paired(records: Sequence[Record]) -> list[Record]:
    """Keep pair keys that exactly one real and one generated image of a dataset have."""
    counts = Counter((record.dataset, record.pair, record.label) for record in records)
    return [
        record
        if all(counts[record.dataset, record.pair, label] == 1 for label in (REAL, FAKE))
        else record._replace(pair="")
        for record in records
    ]


def _nothing_found(root: Path, layout: str, ignored: Iterable[Ignored]) -> str:
    """Say what was looked for, what is there instead and which layout might fit."""
    ignored = list(ignored)
    reasons = Counter(item.reason for item in ignored)
    folders = {part for item in ignored for part in item.path.relative_to(root).parts[:-1]}
    tables = [item.path for item in ignored if item.path.suffix.lower() in (".csv", ".parquet")]
    hints = [
        f"found folders {sorted(folders & labels.keys())}: try --layout {other}"
        for other, labels in LABEL_FOLDERS.items()
        if other != layout and folders & labels.keys()
    ] + [f"found {str(path)!r}: scan it with --layout manifest" for path in tables[:1]]
    wanted = " or ".join(map(repr, LABEL_FOLDERS[layout]))
    seen = "; ".join(f"{n} × {reason}" for reason, n in reasons.most_common(5)) or "no files"
    return (
        f"layout {layout!r} needs images below folders named {wanted}, got none in {str(root)!r} "
        f"({seen}); {'; '.join(hints) or 'choose another folder or layout'}."
    )
