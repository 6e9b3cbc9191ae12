"""Encoder and decoder of features, linear or squashed, and the errors they make."""

from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh

from heads.loop.batch_source import Floats


class Autoencoder(NamedTuple):
    """An encoder and a decoder of features as they come, and what their errors are measured in.

    ``squash`` is 1 for codes through tanh, 0 for a linear code; ``error_weights`` are those of the
    two errors in the score.
    """

    encoder_weight: Floats
    encoder_bias: Floats
    decoder_weight: Floats
    decoder_bias: Floats
    scale: Floats
    error_weights: Floats
    squash: int

    def encode(self, X: Floats) -> Floats:
        """Return the codes (n, n_components) of rows (n, n_features)."""
        codes: Floats = X @ self.encoder_weight.T + self.encoder_bias
        return np.tanh(codes) if self.squash else codes

    def errors(self, X: Floats) -> Floats:
        """Return the two errors (n, 2) of rows: of the features, and of their codes."""
        X = np.asarray(X, np.float64)
        codes = self.encode(X)
        reconstructed = codes @ self.decoder_weight.T + self.decoder_bias
        of_features = (((X - reconstructed) / self.scale) ** 2).mean(1)
        of_codes = ((codes - self.encode(reconstructed)) ** 2).sum(1)
        return np.column_stack((of_features, of_codes))

    def scores(self, X: Floats) -> Floats:
        """Return the weighted sum (n,) of both errors of rows (n, n_features)."""
        scores: Floats = self.errors(X) @ self.error_weights
        return scores


def projection(covariance: Floats, mean: Floats, scale: Floats, n_components: int) -> Autoencoder:
    """Return the projection on the principal components of scaled features.

    Parameters
    ----------
    covariance
        Covariance (n_features, n_features) of the features as they come.
    mean
        Their mean (n_features,).
    scale
        Units > 0 in which they are measured (n_features,).
    n_components
        Number of components, at most n_features.

    Returns
    -------
    Autoencoder
        With a linear code, whose score is the mean squared error in these units.

    Examples
    --------
    >>> both = projection(np.diag([4.0, 1.0]), np.zeros(2), np.ones(2), 1)
    >>> both.scores(np.array([[5.0, 0.0], [5.0, 2.0]]))
    array([0., 2.])
    """
    size = len(covariance)
    _, axes = eigh(
        covariance / np.outer(scale, scale), subset_by_index=(size - n_components, size - 1)
    )
    encoder = axes.T / scale
    return Autoencoder(
        encoder_weight=encoder,
        encoder_bias=-encoder @ mean,
        decoder_weight=scale[:, None] * axes,
        decoder_bias=mean,
        scale=scale,
        error_weights=np.array([1.0, 0.0]),
        squash=0,
    )
