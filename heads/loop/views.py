"""What one head sees of rows that many read together: some of the layers, one of the targets."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heads.loop.batch_source import BatchSource, Labels, Pass, RowBatch


@dataclass(frozen=True)
class View:
    """Part of a source.

    Parameters
    ----------
    layers
        Positions of layers, in the order wanted; None for all.
    target
        What is to be told apart: a key of the source's ``targets``.
    """

    layers: tuple[int, ...] | None = None
    target: str = "label"


class ViewedBatches:
    """A source as seen through a view.

    Parameters
    ----------
    source
        What is read.
    view
        The part of it that is seen.
    classes
        The sorted labels that exist; those of the source, or of its rows, if None.

    Raises
    ------
    ValueError
        If the source has no such target or layer.
    """

    def __init__(
        self, source: BatchSource, view: View, classes: NDArray[Any] | None = None
    ) -> None:
        if view.target not in source.targets:
            raise ValueError(
                f"'target' must be one of {sorted(source.targets)}, got {view.target!r}."
            )
        chosen = range(len(source.layers)) if view.layers is None else view.layers
        if not chosen or not set(chosen) <= set(range(len(source.layers))):
            raise ValueError(
                f"layers must be one at least, below {len(source.layers)}, got {tuple(chosen)}."
            )
        self._source, self.n_samples, self.targets = source, source.n_samples, source.targets
        self.layers = tuple(source.layers[layer] for layer in chosen)
        names = source.layer_names
        self.layer_names = None if names is None else tuple(names[layer] for layer in chosen)
        self.n_features = sum(self.layers)
        self.workspace = source.workspace * self.n_features // source.n_features
        self._columns = columns_of(source.layers, list(chosen))
        if classes is None and view.target == "label":
            classes = source.classes
        self._labels = Labels(source.targets[view.target], classes)
        self.classes = self._labels.classes

    def counts(self) -> NDArray[np.intp]:
        """Return how many rows each class has."""
        return self._labels.counts()

    def cut(self, batch: RowBatch) -> RowBatch:
        """Return a batch of the source as it is seen; columns in a row are not copied."""
        return batch._replace(X=batch.X[:, self._columns], y=self._labels.at(batch.index))

    def batches(self, reading: Pass) -> Iterator[RowBatch]:
        """Yield the batches of one pass.

        Parameters
        ----------
        reading
            Batch size and order.

        Yields
        ------
        RowBatch
            Features of the layers seen, labels and positions.
        """
        return map(self.cut, self._source.batches(reading))


def columns_of(widths: Sequence[int], chosen: Sequence[int]) -> Any:
    """Return the columns of layers that lie one behind the other.

    Parameters
    ----------
    widths
        Number of features of every layer.
    chosen
        Positions of the layers wanted, in the order wanted.

    Returns
    -------
    slice or numpy.ndarray
        Index of columns: a slice, which copies nothing, if the layers are adjacent.

    Examples
    --------
    >>> columns_of([2, 3, 1], [1, 2])
    slice(2, 6, None)
    """
    edges = np.cumsum([0, *widths])
    if list(chosen) == list(range(chosen[0], chosen[0] + len(chosen))):
        return slice(int(edges[chosen[0]]), int(edges[chosen[-1] + 1]))
    return np.concatenate([np.arange(edges[layer], edges[layer + 1]) for layer in chosen])
