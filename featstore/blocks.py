"""What goes to disk at once: the rows of one block."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Block:
    """Everything extraction knows about the rows of one block.

    Parameters
    ----------
    number
        Number of the block in its group.
    features
        Array name to float16 values (n_rows, n_layers, width); NaN in unreadable rows.
    sample_ids
        BLAKE2b-128 of each file, uint8 (n_rows, 16); zero where a file could not be read.
    facts
        ``n_bytes``, width, height and format code of each file, int64 (n_rows, 4).
    unreadable
        Row in the block to the reason its image could not be decoded.
    """

    number: int
    features: Mapping[str, NDArray[np.float16]]
    sample_ids: NDArray[np.uint8]
    facts: NDArray[np.int64]
    unreadable: dict[int, str]

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.sample_ids)
