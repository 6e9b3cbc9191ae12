"""Nearest neighbours between two selections of the store, neither of which need fit in memory."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from dask.utils import parse_bytes
from numpy.typing import NDArray
from scipy.special import expit

from featstore.errors import ConfigError
from heads.evaluation.roles import require_disjoint, require_selection_split
from heads.evaluation.scoring import sample_frame
from heads.evaluation.thresholds import ORACLE, Selection
from heads.loop.batch_source import Pass
from heads.neighbours.knn import KNNHead
from heads.neighbours.rules import auroc_by_k, select_k
from heads.neighbours.votes import Votes
from heads.origins import origin_of, require_same_features
from heads.store_batches import StoreBatches

if TYPE_CHECKING:
    import xarray as xr

Progress = Callable[[int, int], None]

SCORE_BYTES = 96
"""What a sample and a neighbour take while scores are computed."""


def score_knn(
    head: KNNHead,
    query_ds: "xr.Dataset",
    bank_ds: "xr.Dataset",
    *,
    max_memory: int | str = "2GB",
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Score every row of a selection by its nearest neighbours in another.

    Parameters
    ----------
    head
        Says how to search and to count by its hyper-parameters; it need not be fitted, and its
        `max_bank` does not matter.
    query_ds
        The rows to be scored.
    bank_ds
        The rows of the bank, of both classes.
    max_memory
        Bytes, or text such as ``"2GB"``, for readers and queries together.
    progress
        Called with the number of the reading of the bank (from 1) and the rows read in it so far.

    Returns
    -------
    DataFrame
        As from `heads.evaluation.scoring.score`; the scores are those of a head that was fitted on
        the rows of the bank, up to rounding.

    Raises
    ------
    ConfigError
        If there are no rows, rows of the bank of one class only, a feature is not finite, or rows
        to be scored are in the bank, where they would be their own neighbours.
    FingerprintError
        If the two selections have features of another origin, or other layers.
    ValueError
        If a hyper-parameter is not legal.

    Notes
    -----
    The bank is read once for as many rows as fit into `max_memory`: about 60,000 rows of 1024
    features for 2 GB. Besides, 16 bytes per row to be scored and 2 per row of the bank are held.

    Examples
    --------
    >>> import tempfile
    >>> from featstore.simulate import simulate_store
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = simulate_store(folder + "/s.zarr", shift=4.0)
    ...     bank, test = store.select(split="train"), store.select(split="test")
    ...     frame = score_knn(KNNHead(k=9), test, bank)
    >>> len(frame), bool(((frame["score"] > 0) == frame["label"]).mean() > 0.9)
    (400, True)
    """
    windows = _scores(head, query_ds, bank_ds, max_memory, progress)
    values = np.concatenate([scores[:, -1] for scores in windows])
    return sample_frame(query_ds).assign(score=values, probability=expit(values))


def sweep_k(
    head: KNNHead,
    query_ds: "xr.Dataset",
    bank_ds: "xr.Dataset",
    *,
    selection: Selection = "val",
    max_memory: int | str = "2GB",
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Return how well each number of neighbours ranks the rows of a selection, from one search.

    Parameters
    ----------
    head
        As for `score_knn`; its `k` is the largest number tried.
    query_ds
        The rows that are ranked: validation rows, or any for ``selection="oracle"``.
    bank_ds, max_memory, progress
        As for `score_knn`.
    selection
        ``"val"``, or ``"oracle"`` to choose on the rows that are reported, as published tables do.

    Returns
    -------
    DataFrame
        One row for each ``k``, with ``auroc`` (named ``ORACLE_auroc`` where it was chosen on rows
        that are reported) and whether it is ``chosen``: the smallest of the best.

    Raises
    ------
    ConfigError
        As for `score_knn`, or if rows are meant for reporting, or of one class only.

    Notes
    -----
    Holds 8 bytes per row and neighbour beside `max_memory`.
    """
    if selection not in ("val", "oracle"):
        raise ConfigError(f"'selection' must be 'val' or 'oracle', got {selection!r}.")
    if selection == "val":
        require_selection_split(query_ds, what="the number of neighbours")
    labels = np.asarray(query_ds["label"].values)
    if len(found := np.unique(labels)) != 2:
        raise ConfigError(
            f"choosing the number of neighbours needs real and fake rows, got labels "
            f"{found.tolist()}; select both."
        )
    scores = np.concatenate([*_scores(head, query_ds, bank_ds, max_memory, progress)])
    name = "auroc" if selection == "val" else f"{ORACLE}_auroc"
    areas = auroc_by_k(scores, labels)
    k = np.arange(1, len(areas) + 1)
    return pd.DataFrame({"k": k, name: areas, "chosen": k == select_k(scores, labels)})


def _scores(
    head: KNNHead,
    query_ds: "xr.Dataset",
    bank_ds: "xr.Dataset",
    max_memory: int | str,
    progress: Progress | None,
) -> Iterator[NDArray[np.float64]]:
    """Yield decision values (n, k) of as many rows as memory holds, in the order of the rows."""
    head._validate_params()
    limit = int(parse_bytes(max_memory))
    queries, bank = _sources(query_ds, bank_ds, limit)
    k = min(head.k, bank.n_samples)
    n_rows = max(1, limit // 4 // (4 * queries.n_features + SCORE_BYTES * k))
    for number, window in enumerate(queries.batches(Pass(n_rows)), start=1):
        votes = Votes(head, window.X, len(bank.classes), bank.n_samples)
        n_read = 0
        for batch in bank.batches(Pass()):
            votes.add(batch.X, batch.y)
            n_read += len(batch.y)
            if progress is not None:
                progress(number, n_read)
        real, fake = votes.scores_by_k()
        yield fake - real


def _sources(
    query_ds: "xr.Dataset", bank_ds: "xr.Dataset", max_memory: int
) -> tuple[StoreBatches, StoreBatches]:
    """Return what reads the queries, and the bank, after checking that they go together."""
    for what, ds in (("rows to be scored", query_ds), ("a bank", bank_ds)):
        if not ds.sizes["sample"]:
            raise ConfigError(f"{what} must be at least one row, got an empty selection.")
    require_same_features(origin_of(bank_ds), query_ds, "rows to be scored")
    require_disjoint(query_ds, bank_ds, "bank")
    bank = StoreBatches(bank_ds, max_memory // 4)
    if len(bank.classes) != 2:
        raise ConfigError(
            f"a bank must have rows of two classes, got label {bank.classes.tolist()} only; select "
            "real and fake images."
        )
    return StoreBatches(query_ds, max_memory // 2), bank
