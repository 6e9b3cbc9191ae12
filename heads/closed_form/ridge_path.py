"""Ridge regression of class membership for any number of penalties, from one Gram matrix."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from heads.closed_form.gram import Matrix
from heads.closed_form.moments import Moments
from heads.closed_form.spectrum import Spectrum
from heads.loop.batch_source import Floats, Shared


class RidgePath:
    """Solutions of ``min Σ weight · ‖t - W x - b‖² + α ‖W‖²`` for all α.

    The targets t are ±1 of the second of two classes, or of each of more.

    Parameters
    ----------
    moments
        Of all rows; the classes must have some.
    standardize
        Whether W is penalised as if each feature had variance 1.

    Notes
    -----
    With the features centred at their weighted mean, ``S = Σ weight · x xᵀ`` and
    ``R = Σ weight · x tᵀ``, the solution is ``W = ((S + α I)⁻¹ R)ᵀ``. One eigendecomposition of S
    serves all α.
    """

    def __init__(self, moments: Moments, standardize: bool) -> None:
        masses, scatter = moments.masses, moments.scatter
        self.mean, self.mass = moments.mean, float(masses.sum())
        self.n_rows, self.weights = int(moments.counts.sum()), moments.weights
        self.scale = moments.spreads if standardize else np.ones(moments.n_features)
        scatter /= self.scale
        scatter /= self.scale[:, None]
        self.spectrum = Spectrum(scatter)
        self.targets = _targets(len(masses))
        self.target_mean: Matrix = masses @ self.targets / self.mass
        deviations = self.targets - self.target_mean
        self._squares: Matrix = masses @ deviations**2
        self._products: Matrix = (moments.deviations / self.scale).T @ (
            masses[:, None] * deviations
        )

    def solve(self, alphas: NDArray[Any]) -> tuple[Matrix, Matrix]:
        """Return the weights and intercepts.

        Parameters
        ----------
        alphas
            Penalties >= 0 (n_alphas,).

        Returns
        -------
        coefs : numpy.ndarray
            W (n_alphas, n_outputs, n_features), for features as they come.
        intercepts : numpy.ndarray
            b (n_alphas, n_outputs).
        """
        coefs = self.spectrum.solve(self._products, alphas).swapaxes(1, 2) / self.scale
        return coefs, self.target_mean - coefs @ self.mean

    def generalised_errors(self, alphas: NDArray[Any]) -> Matrix:
        """Return the generalised cross-validation errors.

        Parameters
        ----------
        alphas
            Penalties >= 0 (n_alphas,).

        Returns
        -------
        numpy.ndarray
            Mean squared training error over (1 - effective parameters / n_rows)² (n_alphas,); the
            intercept is one parameter. Infinite where none is left for the error, as with a
            penalty of 0 and at least as many independent features as rows.

        Notes
        -----
        Features that could fit every row leave no error and no freedom to small penalties; so as
        not to divide one rounding by the other, both are then sums of what is left: the squared
        error ``α² Wᵀ S⁺ W`` and the freedom ``Σ α / (s + α)`` over the eigenvalues s > 0.

        References
        ----------
        Golub, Heath, Wahba, "Generalized cross-validation as a method for choosing a good ridge
        parameter", Technometrics 21 (1979).
        """
        spectrum, alphas = self.spectrum, np.asarray(alphas)
        W = spectrum.solve(self._products, alphas)
        inverses = spectrum.inverses(np.zeros(1))[:, 0]
        left = alphas * spectrum.inverses(alphas)[inverses > 0].sum(axis=0)
        spare = self.n_rows - 1 - np.count_nonzero(inverses)
        if spare > 0:
            explained = np.einsum("adk,dk->a", W, self._products)
            penalties = alphas * np.einsum("adk,adk->a", W, W)
            squares = np.maximum(self._squares.sum() - explained - penalties, 0)
        else:
            coordinates = spectrum.vectors.T @ W
            squares = alphas**2 * np.einsum("adk,d->a", coordinates**2, inverses)
        freedom = (max(spare, 0) + left) / self.n_rows
        means = squares / (self.mass * self.targets.shape[1])
        errors: Matrix = np.divide(
            means, freedom**2, out=np.full_like(means, np.inf), where=freedom > 0
        )
        return errors

    def centred(self, X: Floats, shared: Shared) -> Matrix:
        """Return rows minus their mean in float64, made once per batch."""
        key = (RidgePath, "centred", id(self))
        if key not in shared:
            shared[key] = np.subtract(X, self.mean)
        rows: Matrix = shared[key]
        return rows

    def squared_coordinates(self, X: Floats, shared: Shared) -> Matrix:
        """Return squared coordinates of rows along the eigenvectors, made once per batch."""
        key = (RidgePath, "squared coordinates", id(self))
        if key not in shared:
            basis = self.spectrum.vectors / self.scale[:, None]
            shared[key] = (self.centred(X, shared) @ basis) ** 2
        coordinates: Matrix = shared[key]
        return coordinates


def _targets(n_classes: int) -> Matrix:
    """Return what rows of each class are to be mapped to (n_classes, n_outputs)."""
    targets: Matrix = 2 * np.eye(n_classes) - 1
    return targets[:, 1:] if n_classes == 2 else targets
