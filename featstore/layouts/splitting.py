"""Giving records other splits than their folders do."""

from collections.abc import Iterable, Mapping
from hashlib import blake2b

import numpy as np

from featstore.errors import ConfigError, unknown_name
from featstore.layouts.records import Record


def rename_splits(records: Iterable[Record], names: Mapping[str, str]) -> list[Record]:
    """Rename splits, for instance GenImage's ``val``, which papers report as their test set.

    Parameters
    ----------
    records
        Records of a scan.
    names
        Old to new name; splits that are not mentioned keep theirs.

    Returns
    -------
    list of Record
        In the order received.

    Raises
    ------
    ConfigError
        If no record has a split that was to be renamed.

    Examples
    --------
    >>> from pathlib import Path
    >>> record = Record(Path("a.png"), 0, "real", "sdv5", "val")
    >>> rename_splits([record], {"val": "test"})[0].split
    'test'
    """
    records = list(records)
    splits = {record.split for record in records}
    for name in names:
        if name not in splits:
            raise ConfigError(unknown_name("split to rename", name, splits))
    return [record._replace(split=names.get(record.split, record.split)) for record in records]


def assign_splits(
    records: Iterable[Record], fractions: Mapping[str, float], seed: int = 0
) -> list[Record]:
    """Split records at random, keeping aligned images together.

    Parameters
    ----------
    records
        Records of a scan; the splits they have are replaced.
    fractions
        Split name to its share, positive, adding up to 1.
    seed
        Another seed gives another split.

    Returns
    -------
    list of Record
        In the order received. Images of one dataset with the same pair key (or, without one, the
        same file name but for the suffix) are in the same split. Shares are met on average: the
        split of an image depends on these names alone, not on which other images there are.

    Raises
    ------
    ConfigError
        If the shares are not positive or do not add up to 1.

    Examples
    --------
    >>> from pathlib import Path
    >>> photos = [Record(Path(f"{i}.jpg"), 0, "real", "d", "all") for i in range(1000)]
    >>> splits = [r.split for r in assign_splits(photos, {"train": 0.8, "test": 0.2})]
    >>> splits[:3], splits.count("test")
    (['train', 'train', 'train'], 211)
    """
    names, shares = list(fractions), list(fractions.values())
    if not shares or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise ConfigError(
            f"shares of splits must be positive and add up to 1, got {dict(fractions)!r}; "
            "write for instance train=0.8 val=0.1 test=0.1."
        )
    ends = np.cumsum(shares)[:-1]
    return [
        record._replace(split=names[int(np.searchsorted(ends, _draw(record, seed), side="right"))])
        for record in records
    ]


def _draw(record: Record, seed: int) -> float:
    """Return a number in [0, 1) that depends on the seed and the image's names alone."""
    text = "\0".join([str(seed), record.dataset, record.pair or record.path.stem])
    digest = blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53
