"""One `LogisticProbe` while it is being trained: which sums its solver wants, pass by pass."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_class_weight

from heads.batch_source import BatchSource, Floats, Pass, RowBatch, Shared
from heads.newton import DenseNewton, Newton, NewtonCG, Sums
from heads.passes import State
from heads.row_sums import Labels, Matrix, RowSample, Vector

if TYPE_CHECKING:
    from heads.logistic_probe import LogisticProbe

BATCH_NUMBERS = 2**22
"""Features per batch, all rows together: 32 MiB as float64."""


class Summary:
    """Spread of the features and number of rows per class.

    Parameters
    ----------
    classes
        How many classes there are.
    """

    def __init__(self, classes: int = 2) -> None:
        self._scaler, self.counts = StandardScaler(), np.zeros(classes, np.intp)

    def add(self, A: Matrix, y: Labels) -> None:
        """Add a batch of rows.

        Parameters
        ----------
        A
            Design matrix (n, n_coefficients).
        y
            Labels (n,), indices of classes.
        """
        self._scaler.partial_fit(A)
        self.counts += np.bincount(y, minlength=len(self.counts))

    @property
    def variances(self) -> Vector:
        """Variance of each column, 1 for a constant one."""
        variances: Vector = self._scaler.scale_**2
        return variances


class LogisticTrainer:
    """Newton's method for one head, fed with passes.

    Parameters
    ----------
    head
        What is trained.
    source
        The rows to learn from; only its sizes and classes are read here.
    sample
        Rows to be held for conjugate gradients, filled in the first pass by the first trainer
        that has it; None accumulates a Hessian instead.
    """

    validates = False

    def __init__(
        self, head: "LogisticProbe", source: BatchSource, sample: RowSample | None
    ) -> None:
        self.members: Sequence[LogisticProbe] = [head]
        self._head, self._sample = head, sample
        self._classes, self._n_features = source.classes, source.n_features
        self._pass = Pass(max(1, BATCH_NUMBERS // source.n_features))
        self._n_passes = 0
        self._sums = self._plan()
        self._wanted = next(self._sums, None)

    def _plan(self) -> Sums:
        """Yield all the sums over rows that the head needs."""
        summary = Summary()
        if self._head.standardize or self._head.class_weight == "balanced":
            yield summary
        self._solver = self._make_solver(summary)
        yield from self._solver.sums()

    def _make_solver(self, summary: Summary) -> Newton:
        """Return the solver; standardising is a penalty in units of each feature's variance."""
        head = self._head
        ridge = np.ones(self._n_features + head.fit_intercept)
        if head.standardize:
            ridge = summary.variances
        ridge[self._n_features :] = 0
        if head.class_weight == "balanced":
            weights = summary.counts.sum() / (2 * summary.counts)
        else:
            weights = compute_class_weight(
                head.class_weight, classes=self._classes, y=self._classes
            )
        if self._sample is None:
            return DenseNewton(ridge, head.C * weights, head.tol)
        return NewtonCG(ridge, head.C * weights, head.tol, self._sample)

    def next_pass(self) -> Pass | None:
        """Return the pass wanted next, the same for all heads, or None at the end."""
        return None if self._wanted is None else self._pass

    def consume(self, batch: RowBatch, shared: Shared) -> None:
        """Add one batch to the sum of this pass."""
        X, y, _ = batch
        key = ("design matrix", self._head.fit_intercept)
        if key not in shared:
            shared[key] = _design_matrix(X, self._head.fit_intercept)
        if self._sample is not None and not (self._sample in shared or self._sample.complete):
            self._sample.add(shared[key], y)
            shared[self._sample] = True
        assert self._wanted is not None
        self._wanted.add(shared[key], y)

    def scores(self, X: Floats) -> Floats:
        """Return the logits (n_rows, 1) of the current point."""
        theta = self._solver.theta
        logits: Floats = _design_matrix(X, self._head.fit_intercept) @ theta[:, None]
        return logits

    def end_pass(self, validation: tuple[Floats, NDArray[np.intp]] | None) -> None:
        """Let the solver use the sum."""
        self._n_passes += 1
        self._wanted = next(self._sums, None)
        if self._n_passes == self._head.max_iter:
            self._wanted = None

    def state(self) -> State | None:
        """Return None: an exact solver that was interrupted begins anew."""
        return None

    def restore(self, state: State) -> None:
        """Do nothing; there is no state."""

    def finish(self) -> None:
        """Write the learned attributes, and warn if they are not the solution."""
        head, theta = self._head, self._solver.theta
        head.coef_ = theta[None, : self._n_features].copy()
        head.intercept_ = theta[self._n_features :].copy() if head.fit_intercept else np.zeros(1)
        head.classes_, head.n_features_in_ = self._classes, self._n_features
        head.n_iter_, head.gradient_norm_ = self._n_passes, self._solver.gradient_norm
        if not self._solver.converged:
            warnings.warn(
                f"{head!r} stopped after {self._n_passes} passes with gradient norm "
                f"{head.gradient_norm_:.2g}; raise 'max_iter' or 'tol'.",
                ConvergenceWarning,
                stacklevel=2,
            )


def _design_matrix(X: Floats, fit_intercept: bool) -> Matrix:
    """Return the rows as float64, with a column of ones for the intercept."""
    A = np.ones((len(X), X.shape[1] + fit_intercept))
    A[:, : X.shape[1]] = X
    return A
