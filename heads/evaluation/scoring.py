"""Scores of trained heads on every row of a selection, read once for all heads."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn import config_context

from featstore.batches import iter_batches
from featstore.errors import ConfigError
from heads.head import Head
from heads.loop.batch_source import Floats
from heads.origins import columns_seen

BATCH_SIZE = 4096
COLUMNS = (
    "sample_id", "path", "dataset", "split", "generator", "label", "pair", "score", "probability",
)  # fmt: skip
"""Columns of a frame of scores."""


def score(head: Any, ds: Any, *, max_memory: str | int = "2GB") -> pd.DataFrame:
    """Score every row of a selection with one head.

    Parameters
    ----------
    head
        A fitted head of two classes, or an estimator with ``decision_function`` and
        ``predict_proba``.
    ds
        A selection of the store.
    max_memory
        Most memory that reading may use.

    Returns
    -------
    DataFrame
        One row per sample in the order of the selection, with the columns `COLUMNS`: ``score`` is
        the decision value, ``probability`` that of the class fake, ``pair`` -1 for none.
    """
    return score_many([head], ds, max_memory=max_memory)[0]


def score_many(
    heads: Sequence[Any], ds: Any, *, max_memory: str | int = "2GB", finite: bool = True
) -> list[pd.DataFrame]:
    """Score every row of a selection with several heads, reading the features once.

    Parameters
    ----------
    heads
        Fitted estimators; each scores the layers that it was trained on.
    ds
        A selection of the store with all of these layers.
    max_memory
        Most memory that reading may use.
    finite
        Whether scores that are not finite are refused; if not, they are returned.

    Returns
    -------
    list of DataFrame
        One frame per head, as from `score`.

    Raises
    ------
    FingerprintError
        If a head was trained on features of another origin, or on a layer that is not there.
    ValueError
        If the selection is empty, or a head was fitted on another number of features, or a score
        is not finite.

    Notes
    -----
    Besides ``max_memory``, 16 bytes per row and head and the text columns are held.
    """
    values = decide_many(heads, ds, max_memory=max_memory, finite=finite)
    samples = sample_frame(ds)
    return [
        samples.assign(score=decisions, probability=probabilities)
        for decisions, probabilities in zip(*values, strict=True)
    ]


def decide_many(
    heads: Sequence[Any], ds: Any, *, max_memory: str | int = "2GB", finite: bool = True
) -> NDArray[np.float64]:
    """Decide on every row of a selection with several heads, reading the features once.

    Parameters
    ----------
    heads, ds, max_memory, finite
        As for `score_many`.

    Returns
    -------
    ndarray
        Decision values and probabilities of the class fake, float64 (2, n_heads, n_samples).

    Raises
    ------
    FingerprintError
        If a head was trained on features of another origin, or on a layer that is not there.
    ValueError
        If the selection is empty, or a head was fitted on another number of features, or a score
        is not finite.
    """
    n_samples = ds.sizes["sample"]
    if not n_samples:
        raise ConfigError("scoring needs at least one row, got an empty selection; select more.")
    origins = [getattr(head, "origin_", None) for head in heads]
    seen = [columns_seen(origin, ds, "rows to be scored") for origin in origins]
    values = np.full((2, len(heads), n_samples), np.nan)
    quiet = np.errstate(over="ignore", invalid="ignore")
    with config_context(assume_finite=True), quiet:  # scores are checked, once for all heads
        for batch in iter_batches(ds, BATCH_SIZE, max_memory=max_memory):
            X = batch.X.reshape(len(batch.X), -1)
            for decisions, probabilities, head, own in zip(*values, heads, seen, strict=True):
                found = _decisions_and_probabilities(head, X[:, own])
                decisions[batch.index], probabilities[batch.index] = found
    if finite:
        for head, own in zip(heads, values[0], strict=True):
            _require_finite(head, own)
    return values


def _decisions_and_probabilities(head: Any, X: Floats) -> tuple[Floats, Floats]:
    """Return both (n,), without computing twice what heads derive from each other."""
    decisions = head.decision_function(X)
    if isinstance(head, Head):
        return decisions, head.probabilities(decisions)[:, 1]
    return decisions, head.predict_proba(X)[:, 1]


def _require_finite(head: Any, scores: NDArray[np.float64]) -> None:
    """Refuse scores that are not numbers, and say whether the head or a row is to blame."""
    rows = np.flatnonzero(~np.isfinite(scores))
    if not len(rows):
        return
    remedy = "look at these rows, with 'featstore verify' for example"
    if len(rows) == len(scores):
        remedy = "its training diverged if its weights are not finite: train it with other settings"
    raise ConfigError(
        f"the scores of {type(head).__name__} must be finite, got {len(rows)} rows that are not, "
        f"first row {rows[0]}; {remedy}."
    )


def sample_frame(ds: Any) -> pd.DataFrame:
    """Return what is known of every row of a selection.

    Parameters
    ----------
    ds
        A selection of the store.

    Returns
    -------
    DataFrame
        The columns of `COLUMNS` before ``score``; dataset, split and generator are categorical.
    """
    return pd.DataFrame(
        {
            "sample_id": _text(ds, "sample_id"),
            "path": _text(ds, "path"),
            "dataset": _names(ds, "dataset"),
            "split": _names(ds, "split"),
            "generator": _names(ds, "generator"),
            "label": ds["label"].values.astype(np.int8),
            "pair": ds["pair"].values.astype(np.int64),
        }
    )


def _text(ds: Any, name: str) -> "pd.Series[str]":
    """Return a lazy text coordinate as strings."""
    return pd.Series(ds[name].values.astype(object), dtype="str")


def _names(ds: Any, name: str) -> pd.Categorical:
    """Return a coded coordinate by its names."""
    codes: NDArray[np.integer[Any]] = ds[name].values
    names = pd.Categorical.from_codes(codes.astype(np.intp), ds.attrs[f"{name}s"])
    return names.remove_unused_categories()
