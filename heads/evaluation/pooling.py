"""One score per image from the scores of several views or crops of it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import expit

from featstore.errors import ConfigError


def pool_views(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Average the decision values of several views of the same images.

    Parameters
    ----------
    frames
        One frame per view (ten for the published ten crops), as `heads.evaluation.score` returns
        them, with at least ``sample_id`` and ``score``; rows in any order.

    Returns
    -------
    DataFrame
        The first frame with the mean of the logits as ``score``, and its sigmoid as
        ``probability``.

    Raises
    ------
    ConfigError
        If there are no frames, or they are not of the same samples.

    Notes
    -----
    The mean is taken before the sigmoid: a view that is sure counts for more than two that are not.

    References
    ----------
    Koutlis, Papadopoulos, "Leveraging representations from intermediate encoder-blocks for
    synthetic image detection", ECCV 2024, for the Synthbuster images.

    Examples
    --------
    >>> views = [pd.DataFrame({"sample_id": ["a"], "score": [logit]}) for logit in (-1.0, 3.0)]
    >>> pool_views(views)["score"].tolist()
    [1.0]
    """
    if not frames:
        raise ConfigError("there must be scores of one view at least, got none; score some.")
    first = frames[0]["sample_id"].to_numpy()
    place = first.argsort(kind="stable")
    total = np.zeros(len(first))
    for number, frame in enumerate(frames):
        found = frame["sample_id"].to_numpy()
        order = found.argsort(kind="stable")
        # Equal identities are equal files, which have equal scores.
        if not np.array_equal(first[place], found[order]):
            differing = sorted({*first.tolist()} ^ {*found.tolist()})[:1]
            raise ConfigError(
                f"all views must hold the same samples, got {len(first)} in the first and "
                f"{len(found)} in view {number}, which differ (in {differing or 'repetitions'}); "
                f"score the same rows of every view."
            )
        total[place] += frame["score"].to_numpy()[order]
    mean = total / len(frames)
    return frames[0].assign(score=mean, probability=expit(mean))
