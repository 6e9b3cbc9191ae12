"""A hidden layer that makes features >= 0, and rows as they are seen through it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heads.loop.batch_source import BatchSource, Floats, Pass, RowBatch, Target


@dataclass(frozen=True)
class ReluLayer:
    """The map ``x -> max(0, weight @ x + bias)``.

    Parameters
    ----------
    weight
        Shape (n_hidden, n_features).
    bias
        Shape (n_hidden,).
    """

    weight: Floats
    bias: Floats

    def __call__(self, X: Floats) -> Floats:
        """Return the hidden features (n, n_hidden) of rows (n, n_features), float64."""
        hidden = X.astype(np.float64) @ self.weight.T + self.bias
        return np.maximum(hidden, 0, out=hidden)


class HiddenBatches:
    """A source whose features are those behind a hidden layer.

    Parameters
    ----------
    source
        What is read.
    layer
        The hidden layer.
    """

    def __init__(self, source: BatchSource, layer: ReluLayer) -> None:
        self._source, self._layer = source, layer
        self.n_samples, self.n_features = source.n_samples, len(layer.bias)
        self.layers: tuple[int, ...] = (self.n_features,)
        self.layer_names: tuple[str, ...] | None = None
        self.classes, self.workspace = source.classes, source.workspace
        self.targets: Mapping[str, Target] = source.targets

    def counts(self) -> NDArray[np.intp]:
        """Return how many rows each class has."""
        return self._source.counts()

    def cut(self, batch: RowBatch) -> RowBatch:
        """Return a batch of the source with its hidden features."""
        return batch._replace(X=self._layer(batch.X))

    def batches(self, reading: Pass) -> Iterator[RowBatch]:
        """Yield the batches of one pass.

        Parameters
        ----------
        reading
            Batch size and order.

        Yields
        ------
        RowBatch
            Hidden features, labels and positions.
        """
        return map(self.cut, self._source.batches(reading))
