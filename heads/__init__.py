"""Heads: light estimators on frozen features, trained on arrays or from the store.

A head is a scikit-learn estimator on NumPy arrays (``fit``, ``decision_function``,
``predict_proba``, ``predict``); `fit` and `fit_many` train heads on a selection of the store that
need not fit in memory, `save` and `load` keep them. ``HEADS`` holds every head by name.
"""

from typing import Any

from heads.fitting import fit, fit_many
from heads.hsic_probe import HSICProbe
from heads.logistic_probe import LogisticProbe
from heads.persistence import HeadFileError, load, save

__all__ = [
    "HEADS",
    "HSICProbe",
    "HeadFileError",
    "LogisticProbe",
    "fit",
    "fit_many",
    "load",
    "save",
]

HEADS: dict[str, type[Any]] = {
    "hsic_probe": HSICProbe,
    "logistic_probe": LogisticProbe,
}
"""Every head by its name in configurations and in files."""
