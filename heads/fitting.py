"""Training heads from the store, out of core: `fit` for one head, `fit_many` for a whole grid.

Both are the one loop of `heads.passes`; this module only feeds it batches of a lazy selection.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from dask.utils import parse_bytes

from featstore.batches import iter_batches
from featstore.errors import ConfigError
from heads.origins import origin_of, require_same_features
from heads.passes import WORKSPACE, Batches, Floats, Pass, train

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
    classes
        The sorted labels that exist; found in the rows if absent.
    """

    def __init__(
        self, ds: "xr.Dataset", max_memory: int | str = "2GB", *, classes: Any = None
    ) -> None:
        labels = np.asarray(ds["label"].values)
        self.classes = np.unique(labels) if classes is None else np.asarray(classes)
        if unknown := set(labels.tolist()) - set(self.classes.tolist()):
            raise ConfigError(
                f"validation rows must have labels seen in training {self.classes.tolist()}, "
                f"got {sorted(unknown)} too; select matching rows."
            )
        self._y = np.searchsorted(self.classes, labels)
        self._ds, self._max_memory = ds, max_memory
        self.workspace = min(WORKSPACE, int(parse_bytes(max_memory)) // 8)
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

        Raises
        ------
        ConfigError
            If a feature is not finite; the message names its image.
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
            X = batch.X.reshape(len(batch.X), -1)
            _require_finite(X, batch.index, self._ds)
            yield X, self._y[batch.index]


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
    TypeError
        If the head is not one of this package, or the rows are not a dataset.
    ConfigError
        If there are no rows or rows of one class only, a feature is not finite, or validation rows
        are among those to learn from or are meant for reporting.
    FingerprintError
        If the validation rows have features of another origin, or other layers.

    Notes
    -----
    The same code as ``head.fit(X, y)`` is fed by another reader. The two are equal, up to rounding,
    for heads that read rows in stored order; heads that shuffle see the same order only when
    `max_memory` holds all rows in one window.

    The head knows where its features came from: ``origin_`` has the store, feature set, view,
    fingerprint and layers, is saved with it, and is compared when rows are scored.

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
    members: list[Any] = _checked_heads(heads)
    _check_rows(ds, "rows to learn from")
    source = StoreBatches(ds, max_memory)
    if len(source.classes) == 1:
        raise ConfigError(
            f"rows to learn from must be of two classes, got one class only: label "
            f"{source.classes[0]!s}; select real and fake images."
        )
    validation = None
    if val is not None:
        _check_validation(val, ds)
        validation = StoreBatches(val, max_memory, classes=source.classes)
        if any(getattr(head, "selects_on_validation", False) for head in members):
            _require_both_classes(val)
    train(members, source, validation, progress=progress)
    origin = origin_of(ds)
    for head in members:
        vars(head).pop("origin_", None)
        if origin is not None:
            head.origin_ = dict(origin)
    return list(heads)


def _checked_heads(heads: Sequence[Any]) -> list[Any]:
    """Return the heads if they are."""
    for head in heads:
        if isinstance(head, type) or not hasattr(head, "trainers"):
            name = head.__name__ if isinstance(head, type) else type(head).__name__
            kind = "the class " if isinstance(head, type) else ""
            raise TypeError(
                f"heads must be instances of heads of this package, got {kind}{name}; "
                "'heads.HEADS' lists them."
            )
    return list(heads)


def _check_rows(ds: Any, what: str) -> None:
    """Refuse what is no selection, or an empty one."""
    import xarray as xr

    if not isinstance(ds, xr.Dataset):
        raise TypeError(
            f"{what} must be an xarray Dataset, as from 'store.select', got {type(ds).__name__}; "
            "arrays are for 'head.fit(X, y)'."
        )
    if "label" not in ds.coords or "sample" not in ds.sizes:
        raise ConfigError(
            f"{what} must have the coordinate 'label' along 'sample', got "
            f"{sorted(map(str, ds.coords))}; select from a store, or assign labels."
        )
    if not ds.sizes["sample"]:
        raise ConfigError(f"{what} must be at least one, got an empty selection; select more.")


def _check_validation(val: Any, ds: "xr.Dataset") -> None:
    """Refuse validation rows of other features, for reporting, or learned from."""
    from heads.evaluation.roles import require_disjoint, require_selection_split

    _check_rows(val, "validation rows")
    require_same_features(origin_of(ds), val, "validation rows")
    if "split" in val.coords and "splits" in val.attrs:
        require_selection_split(val, what="what a head keeps")
    require_disjoint(val, ds, "train")


def _require_both_classes(val: "xr.Dataset") -> None:
    """Refuse validation rows that rank nothing."""
    if len(found := np.unique(val["label"].values)) < 2:
        raise ConfigError(
            f"validation rows must hold both classes for heads that select on them, got only label "
            f"{found[0]!s}; choose other rows or selection='last'."
        )


def _require_finite(X: Floats, index: Any, ds: "xr.Dataset") -> None:
    """Refuse features that are not numbers, and name the first image that has them."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(X.sum()):
            return
    rows = np.sort(index[~np.isfinite(X).all(axis=1)])
    if len(rows):
        path = f" ({str(ds['path'][rows[0]].values)!r})" if "path" in ds.coords else ""
        raise ConfigError(
            f"features must be finite, got {len(rows)} rows in a batch that are not, first row "
            f"{rows[0]}{path}; extract them again in a higher precision, or leave them out."
        )
