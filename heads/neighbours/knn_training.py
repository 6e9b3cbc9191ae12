"""The training of `KNNHead`: the bank is gathered."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from heads.loop.batch_source import BatchSource, Floats, RowBatch, Shared
from heads.loop.one_pass import OnePassTrainer

if TYPE_CHECKING:
    from heads.neighbours.knn import KNNHead

BankDtype = Literal["float16", "float32"]


class BankTrainer(OnePassTrainer):
    """Gathers the rows, once for all heads that keep them in the same precision.

    Parameters
    ----------
    members
        Heads that see the same rows.
    source
        The rows of the bank.

    Raises
    ------
    ValueError
        If the bank is larger than a head allows.
    """

    def __init__(self, members: Sequence["KNNHead"], source: BatchSource) -> None:
        super().__init__(members, source)
        shape = (source.n_samples, source.n_features)
        for head in members:
            _check_size(head, shape)
        self._labels = np.empty(source.n_samples, np.int64)
        self._banks: dict[str, Floats] = {
            dtype: np.empty(shape, dtype) for dtype in {head.bank_dtype for head in members}
        }

    def consume(self, batch: RowBatch, shared: Shared) -> None:
        """Put the rows where they belong."""
        self._labels[batch.index] = batch.y
        for dtype, bank in self._banks.items():
            with np.errstate(over="ignore"):
                rows = batch.X.astype(dtype, copy=False)
            if not np.isfinite(rows).all():
                raise ValueError(
                    f"features must be finite as {dtype}, got rows that are not; leave them out, "
                    "or choose bank_dtype='float32'."
                )
            bank[batch.index] = rows

    def finish(self) -> None:
        """Give the bank to the members."""
        super().finish()
        for head in self.members:
            head.bank_, head.bank_classes_ = self._banks[head.bank_dtype], self._labels


def _check_size(head: "KNNHead", shape: tuple[int, int]) -> None:
    """Refuse a bank that is larger than a head allows."""
    size = shape[0] * shape[1] * np.dtype(head.bank_dtype).itemsize
    if size > head.max_bank:
        raise ValueError(
            f"'max_bank' must hold the bank, {size:,} bytes for {shape[0]:,} rows of {shape[1]:,} "
            f"features as {head.bank_dtype}, got {head.max_bank:,}; raise it, or leave the bank in "
            "the store with 'heads.evaluation.knn_scores.score_knn'."
        )
