"""Exact leave-one-out errors of ridge regression, for all penalties, in one pass over the rows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from heads.closed_form.gram import Matrix
from heads.closed_form.ridge_path import RidgePath
from heads.loop.batch_source import Floats, Shared


class LeaveOneOut:
    """Sums the squared errors that every row would have, had it been left out of the training.

    Parameters
    ----------
    path
        The regressions on all rows.
    alphas
        Penalties >= 0 (n_alphas,).

    Notes
    -----
    The error of a row that was left out is ``e / (1 - h)``, with e its error when it is not and h
    its leverage ``weight · (1 / Σ weights + Σ_j z_j² / (s_j + α))``, where s are the eigenvalues of
    the scatter and z the coordinates of the centred row along the eigenvectors. It is not a
    function of second moments, hence the pass. Where a penalty is so small that a row is
    interpolated, e and 1 - h both vanish in rounding; the error counts as infinite then.

    Cost per row: 2 · n_features · (n_features + n_alphas · (n_outputs + 1)) operations, and
    8 · n_features · n_alphas · n_outputs bytes in all.

    References
    ----------
    Allen, "The relationship between variable selection and data augmentation and a method for
    prediction", Technometrics 16 (1974). Rifkin, Lippert, "Notes on regularized least squares",
    MIT-CSAIL-TR-2007-025.
    """

    def __init__(self, path: RidgePath, alphas: NDArray[Any]) -> None:
        self._path = path
        coefs, _ = path.solve(alphas)
        self._shape = coefs.shape[:2]
        self._coefs = coefs.reshape(-1, coefs.shape[2]).T
        self._inverses = path.spectrum.inverses(alphas)
        self._sums: Matrix = np.zeros(len(alphas))

    def add(self, X: Floats, y: NDArray[np.intp], shared: Shared) -> None:
        """Add rows.

        Parameters
        ----------
        X
            Features (n, n_features).
        y
            Indices of classes (n,).
        shared
            Cache of the batch.
        """
        path, weights = self._path, self._path.weights[y]
        rows = path.centred(X, shared)
        fitted = (rows @ self._coefs).reshape(len(rows), *self._shape)
        errors = (path.targets - path.target_mean)[y, None, :] - fitted
        spans = path.squared_coordinates(X, shared) @ self._inverses
        leverages = weights[:, None] * (1 / path.mass + spans)
        free = 1 - leverages
        known = free > path.spectrum.rounding
        squares = np.divide(
            (errors**2).sum(axis=2), free**2, out=np.full_like(free, np.inf), where=known
        )
        self._sums += weights @ squares

    def errors(self) -> Matrix:
        """Return the weighted mean squared errors (n_alphas,) of the rows added so far."""
        errors: Matrix = self._sums / (self._path.mass * self._shape[1])
        return errors
