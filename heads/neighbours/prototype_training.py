"""The training of `PrototypeHead`: class sums in one pass."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from heads.loop.batch_source import BatchSource, RowBatch, Shared
from heads.loop.one_pass import OnePassTrainer
from heads.neighbours.search import unit_rows

if TYPE_CHECKING:
    from heads.neighbours.prototype import PrototypeHead


class PrototypeTrainer(OnePassTrainer):
    """Sums of the rows of each class, for all heads that see the same rows.

    Parameters
    ----------
    members
        The heads.
    source
        The rows to learn from.
    """

    def __init__(self, members: Sequence["PrototypeHead"], source: BatchSource) -> None:
        super().__init__(members, source)
        self._counts = source.counts().astype(np.int64)
        shape = (len(self._counts), source.n_features)
        self._sums = {head.normalize: np.zeros(shape) for head in members}

    def consume(self, batch: RowBatch, shared: Shared) -> None:
        """Add a batch to the sums."""
        rows = batch.X.astype(np.float64)
        of_class = (batch.y == np.arange(len(self._counts))[:, None]).astype(np.float64)
        for normalize, sums in self._sums.items():
            sums += of_class @ (unit_rows(rows) if normalize else rows)

    def finish(self) -> None:
        """Write the learned attributes."""
        super().finish()
        for head in self.members:
            sums = self._sums[head.normalize]
            if not np.isfinite(sums).all():
                raise ValueError("features must be finite, got rows that are not; leave them out.")
            head.prototypes_, head.class_counts_ = unit_rows(sums), self._counts
