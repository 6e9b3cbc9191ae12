"""Training heads from the store, out of core: `fit` for one head, `fit_many` for a whole grid.

Both are the one loop of `heads.passes`; this module only feeds it batches of a lazy selection.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from featstore.batches import iter_batches
from heads.passes import Batches, Pass, train

if TYPE_CHECKING:
    import xarray as xr

Head = TypeVar("Head")
Progress = Callable[[int, int], None]


class StoreBatches:
    """Batches of a lazy selection, read anew in every pass.

    Parameters
    ----------
    ds
        A selection of the store.
    max_memory
        Bytes, or text such as ``"2GB"``, that reading may take.
    target
        Coordinate to be predicted.
    classes
        The sorted values of the target; found in it if absent.
    """

    def __init__(
        self,
        ds: "xr.Dataset",
        max_memory: int | str = "2GB",
        *,
        target: str = "label",
        classes: Any = None,
    ) -> None:
        labels = np.asarray(ds[target].values)
        self.classes = np.unique(labels) if classes is None else np.asarray(classes)
        if unknown := set(labels.tolist()) - set(self.classes.tolist()):
            raise ValueError(
                f"validation rows must have labels seen in training {self.classes.tolist()}, "
                f"got {sorted(unknown)} too; select matching rows."
            )
        self._y = np.searchsorted(self.classes, labels)
        self._ds, self._max_memory = ds, max_memory
        self.n_samples = int(ds.sizes["sample"])
        self.n_features = sum(int(np.prod(v.shape[1:])) for v in ds.data_vars.values())

    def batches(self, reading: Pass) -> Batches:
        """Yield the batches of one pass.

        Parameters
        ----------
        reading
            Batch size and order.

        Yields
        ------
        tuple
            ``X`` float32 (n, n_features), layers one behind the other, and ``y``, indices into
            `classes`.
        """
        shuffle = reading.seed is not None
        rows = iter_batches(
            self._ds,
            reading.batch_size,
            shuffle=shuffle,
            rng=reading.rng() if shuffle else 0,
            max_memory=self._max_memory,
        )
        for batch in rows:
            yield batch.X.reshape(len(batch.X), -1), self._y[batch.index]


def fit(
    head: Head,
    ds: "xr.Dataset",
    val: "xr.Dataset | None" = None,
    *,
    max_memory: int | str = "2GB",
    progress: Progress | None = None,
) -> Head:
    """Train one head on a selection of the store, out of core.

    Parameters
    ----------
    head
        An estimator of this package.
    ds
        Rows and layers to learn from.
    val
        Rows on which the head may select (an epoch, say); never the rows you report on.
    max_memory
        Bytes, or text such as ``"2GB"``: limit of the reader.
    progress
        Called with the number of the pass and the rows read in it so far.

    Returns
    -------
    estimator
        The head itself, fitted.

    Raises
    ------
    ValueError
        If the rows hold only one class.

    Notes
    -----
    Equal to ``head.fit(X, y)`` on the same rows in memory: the same code is fed by another reader.

    Examples
    --------
    >>> import tempfile, heads
    >>> from featstore.simulate import simulate_store
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = simulate_store(folder + "/s.zarr", shift=4.0)
    ...     head = fit(heads.LogisticProbe(), store.select(split="train"))
    >>> head.coef_.shape
    (1, 48)
    """
    return fit_many([head], ds, val, max_memory=max_memory, progress=progress)[0]


def fit_many(
    heads: Sequence[Head],
    ds: "xr.Dataset",
    val: "xr.Dataset | None" = None,
    *,
    max_memory: int | str = "2GB",
    progress: Progress | None = None,
) -> list[Head]:
    """Train many heads together; what they read and what they share is read and computed once.

    Parameters
    ----------
    heads
        Estimators of this package, of one kind or several; a grid over hyper-parameters, say.
    ds, val, max_memory, progress
        As for `fit`.

    Returns
    -------
    list of estimators
        The heads themselves, fitted; each equal to its single fit.
    """
    source = StoreBatches(ds, max_memory)
    validation = None if val is None else StoreBatches(val, max_memory, classes=source.classes)
    train(list(heads), source, validation, progress=progress)
    return list(heads)
