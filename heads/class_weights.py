"""How much the rows of each class count."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.class_weight import compute_class_weight


def class_weights(
    setting: Mapping[Any, float] | str | None,
    classes: NDArray[Any],
    counts: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Return the weight of the rows of each class.

    Parameters
    ----------
    setting
        None for 1, a weight > 0 for each label, or ``"balanced"`` for
        ``n_rows / (n_classes · n_rows_of_class)``.
    classes
        The labels (n_classes,).
    counts
        Rows of each class (n_classes,); None if more rows and classes may come.

    Returns
    -------
    numpy.ndarray
        Weights > 0 (n_classes,), float64.

    Raises
    ------
    ValueError
        If a weight is not > 0, is for a label that does not exist, or depends on rows to come.

    Examples
    --------
    >>> class_weights("balanced", np.array(["fake", "real"]), [1, 3])
    array([2.        , 0.66666667])
    """
    if setting == "balanced":
        if counts is None:
            raise ValueError(
                "'class_weight' must not be 'balanced' while rows are still to come; name weights."
            )
        rows = np.asarray(counts)
        balanced: NDArray[np.float64] = rows.sum() / (len(rows) * np.maximum(rows, 1))
        return balanced
    if counts is None and isinstance(setting, Mapping):
        setting = {label: setting[label] for label in classes.tolist() if label in setting}
    weights = compute_class_weight(setting, classes=classes, y=classes)
    if not ((weights > 0) & np.isfinite(weights)).all():
        raise ValueError(f"class weights must be > 0 and finite, got {setting!r}.")
    return np.asarray(weights, np.float64)
