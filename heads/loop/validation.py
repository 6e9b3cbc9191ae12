"""How good scores of validation rows are: what an epoch is chosen by."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, balanced_accuracy_score

from heads.loop.batch_source import Floats


def average_precisions(scores: Floats, y: NDArray[np.intp], classes: NDArray[Any]) -> Floats:
    """Return the average precision of each column of scores.

    Parameters
    ----------
    scores
        Decision values (n_rows, n_members).
    y
        Labels (n_rows,), indices into `classes`.
    classes
        The two classes, for the message.

    Returns
    -------
    numpy.ndarray
        Shape (n_members,); -inf where scores are not finite.

    Raises
    ------
    ValueError
        If the rows are of one class only.
    """
    _require_both(y, classes)
    return np.array(
        [average_precision_score(y, s) if np.isfinite(s).all() else -np.inf for s in scores.T]
    )


def balanced_accuracy(scores: Floats, y: NDArray[np.intp], classes: NDArray[Any]) -> float:
    """Return the mean, over both classes, of the part whose scores have the right sign.

    Parameters
    ----------
    scores
        Decision values (n_rows,); positive ones mean the second class.
    y
        Labels (n_rows,), indices into `classes`.
    classes
        The two classes, for the message.

    Returns
    -------
    float
        Between 0 and 1; 0.5 if all scores are 0.

    Raises
    ------
    ValueError
        If the rows are of one class only.
    """
    _require_both(y, classes)
    return float(balanced_accuracy_score(y, scores > 0))


def _require_both(y: NDArray[np.intp], classes: NDArray[Any]) -> None:
    """Check that rows to select on are of two classes."""
    if len(present := np.unique(y)) < 2:
        raise ValueError(
            f"validation rows must hold both classes {classes.tolist()!r}, got only "
            f"{classes[present].tolist()!r}; choose other rows or selection='last'."
        )
