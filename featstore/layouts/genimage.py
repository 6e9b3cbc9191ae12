"""Layout ``genimage``: photographs below ``nature``, generated images below ``ai``.

The layout of GenImage (Zhu et al., NeurIPS 2023), one generator or all of them::

    <root>/Midjourney/train/{nature,ai}/*
    <root>/{train,val}/{nature,ai}/*
"""

from pathlib import Path

from featstore.layouts.labelled_tree import scan_labelled_tree
from featstore.layouts.records import Scan


def scan_genimage(root: Path, *, dataset: str | None = None, split: str | None = None) -> Scan:
    """Scan a tree of ``nature`` and ``ai`` folders.

    Parameters
    ----------
    root
        Folder with one folder per generator, or the folder of one generator.
    dataset
        Name of the dataset of all images; if left out, the generator's folder.
    split
        Name of the split of all images where folders do not tell, as in
        `featstore.layouts.class_folders.scan_class_folders`.

    Returns
    -------
    Scan
        Records sorted by the bytes of their path; the generator of a generated image is its
        dataset. Splits keep the names of their folders.

    Raises
    ------
    ConfigError
        If there is no such image, or split folders contradict `split` or are ambiguous.

    Notes
    -----
    GenImage has no test split: what papers report is its ``val``. Select thresholds on a part of
    ``train`` and rename ``val`` to ``test`` with `featstore.layouts.splitting.rename_splits`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     image = Path(folder, "ADM/val/ai/0.PNG")
    ...     image.parent.mkdir(parents=True)
    ...     image.touch()
    ...     print(*scan_genimage(Path(folder)).records[0][1:5])
    1 ADM ADM val
    """
    return scan_labelled_tree(root, "genimage", dataset=dataset, split=split)
