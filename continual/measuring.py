"""How well a head does on the test rows of every domain."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from continual.config import METRICS, ContinualConfig
from continual.domains import Domains
from featstore.batches import iter_batches
from heads.evaluation.scoring import BATCH_SIZE, decide_many


def metrics_of(config: ContinualConfig) -> list[str]:
    """Return the names of what a study measures.

    Parameters
    ----------
    config
        The study.

    Returns
    -------
    list of str
        All `METRICS`; of generators, the accuracies alone.
    """
    return list(METRICS) if config.target == "label" else ["accuracy", "balanced_accuracy"]


def measure(config: ContinualConfig, head: Any, domains: Domains) -> list[dict[str, Any]]:
    """Measure a head on all domains, reading their rows once.

    Parameters
    ----------
    config
        The study.
    head
        A fitted head, or what decides like one.
    domains
        Test rows.

    Returns
    -------
    list of dict
        For each domain its name as ``domain``, ``n_real``, ``n_fake`` and the metrics.
    """
    if config.target == "label":
        values = decide_many([head], domains.ds, max_memory=config.max_memory)[0, 0]
        labels = domains.ds["label"].values
        found = {
            name: {key: metric(values[rows], labels[rows]) for key, metric in METRICS.items()}
            for name, rows in domains.rows.items()
        }
    else:
        truth = generators_of(domains.ds)
        right = _predictions(config, head, domains) == truth
        found = {name: _shares(right[rows], truth[rows]) for name, rows in domains.rows.items()}
    return [
        {"domain": name, **_counts(domains.ds["label"].values[rows]), **found[name]}
        for name, rows in domains.rows.items()
    ]


def generators_of(ds: Any) -> NDArray[Any]:
    """Return the generator of every row.

    Parameters
    ----------
    ds
        A selection of the store.

    Returns
    -------
    ndarray
        Names, of type object.
    """
    names: NDArray[Any] = np.asarray(ds.attrs["generators"], dtype=object)
    return np.asarray(names[ds["generator"].values])


def _predictions(config: ContinualConfig, head: Any, domains: Domains) -> NDArray[Any]:
    """Return the class that a head gives every row."""
    predicted = np.empty(domains.ds.sizes["sample"], object)
    for batch in iter_batches(domains.ds, BATCH_SIZE, max_memory=config.max_memory):
        predicted[batch.index] = head.predict(batch.X.reshape(len(batch.X), -1))
    return predicted


def _shares(right: NDArray[np.bool_], truth: NDArray[Any]) -> dict[str, float]:
    """Return the share of rows that are right, of all and as the mean over generators."""
    recalls = [right[truth == name].mean() for name in np.unique(truth.astype(str))]
    return {"accuracy": float(right.mean()), "balanced_accuracy": float(np.mean(recalls))}


def _counts(labels: NDArray[Any]) -> dict[str, int]:
    return {"n_real": int((labels == 0).sum()), "n_fake": int((labels == 1).sum())}
