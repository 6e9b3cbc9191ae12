"""How well scores of validation rows rank: what an epoch is chosen by."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from heads.batch_source import Floats


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
    if len(present := np.unique(y)) < 2:
        raise ValueError(
            f"validation rows must hold both classes {classes.tolist()!r}, got only "
            f"{classes[present].tolist()!r}; choose other rows or selection='last'."
        )
    return np.array(
        [average_precision_score(y, s) if np.isfinite(s).all() else -np.inf for s in scores.T]
    )
