"""Training heads from the store, out of core: `fit` for one head, `fit_many` for a whole grid.

Both are the one loop of `heads.loop.passes`; this module only feeds it batches of a lazy selection.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from featstore.errors import ConfigError
from featstore.layouts import FAKE, REAL
from featstore.subset import Names, match
from heads.checkpoints import Checkpoint
from heads.loop.passes import train
from heads.loop.views import View
from heads.origins import origin_of, require_same_features
from heads.store_batches import StoreBatches

if TYPE_CHECKING:
    import xarray as xr

Head = TypeVar("Head")
Progress = Callable[[int, int], None]


def fit(  # noqa: PLR0913  keyword-only options
    head: Head,
    ds: "xr.Dataset",
    val: "xr.Dataset | None" = None,
    *,
    target: str = "label",
    checkpoint: Path | str | None = None,
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
    target
        What is learned to be told apart: ``"label"``, real from fake, or ``"generator"``.
    checkpoint
        File in which the state after each pass is kept, and from which an interrupted training
        of the same head on the same rows, those of `val` too, goes on; removed at the end.
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
    settings: Any = {"max_memory": max_memory, "progress": progress, "checkpoint": checkpoint}
    return fit_many([head], ds, val, targets=[target], **settings)[0]


def fit_many(  # noqa: PLR0913  keyword-only options
    heads: Sequence[Head],
    ds: "xr.Dataset",
    val: "xr.Dataset | None" = None,
    *,
    layers: Sequence[Names] | None = None,
    targets: Sequence[str] | None = None,
    checkpoint: Path | str | None = None,
    max_memory: int | str = "2GB",
    progress: Progress | None = None,
) -> list[Head]:
    """Train many heads together; what they read and what they share is read and computed once.

    Parameters
    ----------
    heads
        Estimators of this package, of one kind or several; a grid over hyper-parameters, say.
    ds, val, checkpoint, max_memory, progress
        As for `fit`.
    layers
        For each head the layers it sees: a name, a glob, a list of them, or None for all.
    targets
        For each head what it learns to tell apart; ``"label"`` for all if None.

    Returns
    -------
    list of estimators
        The heads themselves, fitted; each equal to its single fit.
    """
    members: list[Any] = _checked_heads(heads)
    _check_rows(ds, "rows to learn from")
    source = StoreBatches(ds, max_memory, classes=_known_classes(members, ds))
    views = _views(len(members), source, layers, targets)
    if len(source.classes) == 1 and {"label"} >= {view.target for view in views}:
        raise ConfigError(
            f"rows to learn from must be of two classes, got one class only: label "
            f"{source.classes[0]!s}; select real and fake images."
        )
    validation = None
    if val is not None:
        _check_validation(val, ds)
        try:
            validation = StoreBatches(val, max_memory, classes=source.classes)
        except ValueError as err:
            raise ConfigError(str(err)) from err
        if any(getattr(head, "selects_on_validation", False) for head in members):
            _require_both_classes(val)
    origin = origin_of(ds)
    state = None if checkpoint is None else Checkpoint(Path(checkpoint), _rows_of(ds, val, views))
    train(members, source, validation, views=views, checkpoint=state, progress=progress)
    for head, view in zip(members, views, strict=True):
        vars(head).pop("origin_", None)
        if origin is not None:
            seen = range(len(source.layers)) if view.layers is None else view.layers
            names = [origin["layers"][position] for position in seen]
            head.origin_ = {**origin, "layers": names, "target": view.target}
    if state is not None:
        state.remove()
    return list(heads)


def _known_classes(heads: Sequence[Any], ds: "xr.Dataset") -> NDArray[Any] | None:
    """Return both classes for heads that need rows of the first alone; None: those of the rows."""
    need_reals = all(getattr(head, "one_class", False) for head in heads)
    alone = need_reals and np.unique(ds["label"].values).tolist() == [REAL]
    return np.array([REAL, FAKE]) if alone else None


def _views(
    n_heads: int,
    source: StoreBatches,
    layers: Sequence[Names] | None,
    targets: Sequence[str] | None,
) -> list[View]:
    """Return what each head sees."""
    for name, given in (("layers", layers), ("targets", targets)):
        if given is not None and len(given) != n_heads:
            raise ConfigError(
                f"{name!r} must have one entry per head, {n_heads}, got {len(given)}."
            )
    known = list(source.layer_names or ())
    chosen = [
        None if wanted is None else tuple(map(known.index, match("layer", wanted, known)))
        for wanted in layers or [None] * n_heads
    ]
    return [View(*both) for both in zip(chosen, targets or ["label"] * n_heads, strict=True)]


def _rows_of(ds: "xr.Dataset", val: "xr.Dataset | None", views: Sequence[View]) -> dict[str, Any]:
    """Return what identifies the rows of a training, and what is seen of them."""
    digests = []
    for rows in (ds,) if val is None else (ds, val):
        digest = hashlib.blake2b(digest_size=16)
        for name in ("group", "row", "label"):
            if name in rows.coords:
                digest.update(np.ascontiguousarray(rows[name].values).tobytes())
        digests.append(digest.hexdigest())
    return {"origin": origin_of(ds), "rows": digests, "views": [*map(str, views)]}


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
