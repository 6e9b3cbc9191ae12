"""The numbers of one head on the rows that have nothing to do with what it learned from."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from featstore.errors import ConfigError
from heads.evaluation.bootstrap import CountedMetrics
from heads.evaluation.metrics import ALLOWED_FPR
from heads.evaluation.published_metrics import fiser_tpr_at_fpr
from heads.evaluation.thresholds import best_threshold
from heads.experiments.choosing import HALF
from heads.few_shot.episodes import Positions, apart

if TYPE_CHECKING:
    import xarray as xr

Floats = NDArray[np.float64]
NEAREST = "tpr_nearest_5pct_fpr"


class Rows(NamedTuple):
    """The rows of a role: features of some layers, and the unit of every row (n_rows,)."""

    features: "xr.Dataset"
    units: Positions


class Judged(NamedTuple):
    """Decision values (n_rows,) of rows, and the units that the head learned from (n_support,)."""

    scores: Floats
    rows: Rows
    learned: Positions


def validated(judged: Judged, select_by: str) -> tuple[float, float]:
    """Return how good a head is on validation rows, and its threshold there.

    Parameters
    ----------
    judged
        Scores of validation rows.
    select_by
        The number that layers are chosen by.

    Returns
    -------
    tuple of float
        Its mean over the datasets that have both classes, and the threshold with the best balanced
        accuracy over all rows.

    Raises
    ------
    ConfigError
        If no dataset has both classes apart from the support.
    """
    found = [record[select_by] for record in by_dataset(judged, HALF)]
    if not found:
        raise ConfigError(
            "choosing a layer needs real and fake validation rows in one dataset, got none that "
            "are not linked to the support; name other 'val' rows, or fewer 'shots'."
        )
    kept = apart(judged.rows.units, judged.learned)
    labels = judged.rows.features["label"].values[kept]
    return float(np.mean(found)), best_threshold(judged.scores[kept], labels)


def by_dataset(
    judged: Judged, thresholds: Mapping[str, float], *, nearest: bool = False
) -> Iterator[dict[str, Any]]:
    """Yield the numbers of each dataset on the rows apart from the support.

    Parameters
    ----------
    judged
        Scores of some rows.
    thresholds
        Decision thresholds by name.
    nearest
        Whether that of `heads.evaluation.published_metrics.fiser_tpr_at_fpr` is among the numbers.

    Yields
    ------
    dict
        ``dataset``, ``n_real``, ``n_fake`` and the numbers of `heads.evaluation.metrics.columns`,
        for datasets that have both classes.
    """
    ds = judged.rows.features
    kept = apart(judged.rows.units, judged.learned)
    for code in np.unique(ds["dataset"].values):
        part = np.flatnonzero(kept & (ds["dataset"].values == code))
        scores, labels = judged.scores[part], ds["label"].values[part]
        n_fake = int(np.count_nonzero(labels))
        if not 0 < n_fake < len(labels):
            continue
        metrics = CountedMetrics(scores, labels, thresholds)
        values = metrics(np.ones((1, len(part)), np.intp))[0].tolist()
        record = {"dataset": ds.attrs["datasets"][code], "n_real": len(part) - n_fake}
        record |= {"n_fake": n_fake, **dict(zip(metrics.names, values, strict=True))}
        if nearest:
            rate = ALLOWED_FPR["tpr_at_5pct_fpr"]
            record[NEAREST] = fiser_tpr_at_fpr(scores, labels, rate)[0]
        yield record
