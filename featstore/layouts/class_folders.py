"""Layout ``class-folders``: real images below ``0_real``, generated ones below ``1_fake``.

The layout of ForenSynths (Wang et al., CVPR 2020), UniversalFakeDetect and their successors::

    <root>/train/progan/car/0_real/01.png     with splits and classes
    <root>/stylegan/1_fake/01.png             a folder per generator
    <root>/0_real/cats/01.png                 classes below the label
"""

from pathlib import Path

from featstore.layouts.labelled_tree import scan_labelled_tree
from featstore.layouts.records import Scan


def scan_class_folders(root: Path, *, dataset: str | None = None, split: str | None = None) -> Scan:
    """Scan a tree of ``0_real`` and ``1_fake`` folders at any depth.

    Parameters
    ----------
    root
        Folder to scan.
    dataset
        Name of the dataset of all images. If left out, the first folder above the label folder that
        is no split, or the name of `root` where there is none. A tree whose folders are classes of
        one generator (``train/car/0_real``) needs it.
    split
        Name of the split of all images. Needed where only some lie below a folder called ``train``,
        ``val``, ``valid``, ``validation`` or ``test`` (these are classes then) and `root` has no
        such name itself; refused where all do. Without any such folder, ``"all"`` if left out.

    Returns
    -------
    Scan
        Records sorted by the bytes of their path. The generator of a generated image is its
        dataset. Images of both labels with the same dataset, split, class folders and name
        (suffixes may differ) are taken as aligned with each other and share a pair key.

    Raises
    ------
    ConfigError
        If there is no such image, or split folders contradict `split` or are ambiguous.

    Notes
    -----
    No image is opened; about 10 µs per file.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("valid/biggan/0_real/7.jpg", "valid/biggan/1_fake/7.PNG"):
    ...         Path(folder, name).parent.mkdir(parents=True)
    ...         Path(folder, name).touch()
    ...     for record in scan_class_folders(Path(folder)).records:
    ...         print(*record[1:6])
    0 real biggan val val/7
    1 biggan biggan val val/7
    """
    return scan_labelled_tree(root, "class-folders", dataset=dataset, split=split)
