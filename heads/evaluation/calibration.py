"""Whether probabilities mean what they say: proper scores and calibration errors.

The positive class is *fake* (label 1). All of these depend on the probabilities themselves, not
only on their order, and on the share of fakes among the rows.
"""

import numpy as np
from numpy.typing import NDArray

from heads.evaluation.metrics import Labels, Scores, checked

BINS = 15
"""Bins of equal width in [0, 1], the usual number."""


def nll(logits: Scores, labels: Labels) -> float:
    """Return the mean negative log-likelihood (binary cross-entropy, in nats).

    Parameters
    ----------
    logits
        Logits of fake (n_samples,); logits and not probabilities, of which 1 - p is soon 0.
    labels
        0 real, 1 fake (n_samples,).

    Returns
    -------
    float
        At least 0; log 2 for logits of 0.

    Examples
    --------
    >>> nll(np.array([0.0, 40.0]), np.array([0, 1]))
    0.34657359027997264
    """
    values, fake = checked(logits, labels)
    return float(np.logaddexp(0, np.where(fake, -values, values)).mean())


def brier(probabilities: Scores, labels: Labels) -> float:
    """Return the mean square difference of probability and outcome.

    Parameters
    ----------
    probabilities
        Probabilities of fake (n_samples,), in [0, 1].
    labels
        0 real, 1 fake (n_samples,).

    Returns
    -------
    float
        In [0, 1]; ¼ for probabilities of one half.

    Examples
    --------
    >>> brier(np.array([0.5, 1.0]), np.array([0, 1]))
    0.125
    """
    values, fake = _probabilities(probabilities, labels)
    return float(np.mean((values - fake) ** 2))


def calibration_error(probabilities: Scores, labels: Labels, n_bins: int = BINS) -> float:
    """Return the expected calibration error of the probability of fake.

    Parameters
    ----------
    probabilities
        Probabilities of fake (n_samples,), in [0, 1].
    labels
        0 real, 1 fake (n_samples,).
    n_bins
        Bins of equal width, at least 1; a probability on an edge belongs to the upper bin.

    Returns
    -------
    float
        In [0, 1]: the mean over samples of the difference, within a sample's bin, of mean
        probability and share of fakes.

    Examples
    --------
    >>> calibration_error(np.array([0.9, 0.9, 0.9, 0.9]), np.array([1, 1, 1, 0]))
    0.15000000000000002
    """
    values, fake = _probabilities(probabilities, labels)
    return _gap(values, fake, n_bins)


def confidence_error(probabilities: Scores, labels: Labels, n_bins: int = BINS) -> float:
    """Return the expected calibration error of the confidence in the decision.

    Parameters
    ----------
    probabilities
        Probabilities of fake (n_samples,), in [0, 1]; above one half is called fake.
    labels
        0 real, 1 fake (n_samples,).
    n_bins
        Bins of equal width in [0, 1], at least 1, of which the upper half is used.

    Returns
    -------
    float
        In [0, 1]: as `calibration_error`, of the probability of the class that is called and of the
        share of right calls (Guo et al., "On calibration of modern neural networks", ICML 2017).

    Examples
    --------
    >>> confidence_error(np.array([0.1, 0.9]), np.array([0, 0]))
    0.4
    """
    values, fake = _probabilities(probabilities, labels)
    return _gap(np.maximum(values, 1 - values), (values > 0.5) == fake, n_bins)


def _probabilities(
    probabilities: Scores, labels: Labels
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return probabilities and whether samples are fake, checked."""
    values, fake = checked(probabilities, labels)
    if values.min() < 0 or values.max() > 1:
        raise ValueError(
            f"'probabilities' must be in [0, 1], got {values.min():.4g} to {values.max():.4g}; "
            "apply the logistic function to logits."
        )
    return values, fake


def _gap(values: NDArray[np.float64], outcomes: NDArray[np.bool_], n_bins: int) -> float:
    """Return the mean over samples of how far a bin's mean value is from its mean outcome."""
    if n_bins < 1:
        raise ValueError(f"'n_bins' must be at least 1, got {n_bins!r}.")
    bins = np.minimum((values * n_bins).astype(np.intp), n_bins - 1)
    gaps = np.bincount(bins, values - outcomes)
    return float(np.abs(gaps).sum() / len(values))
