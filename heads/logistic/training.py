"""`LogisticProbe`s while they are being trained: which sums their solvers want, pass by pass."""

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

from heads.class_weights import class_weights
from heads.logistic.curvatures import Curvatures
from heads.logistic.newton import Newton, NewtonCG, QuasiNewton, Sums
from heads.logistic.row_sums import Evaluation, Labels, Matrix, RowSample, Vector, add_batch
from heads.loop.batch_source import BatchSource, Floats, Pass, RowBatch, Shared
from heads.loop.passes import State

if TYPE_CHECKING:
    from heads.logistic.probe import LogisticProbe

READING = Pass(2048)
"""The pass that all heads ask for, whatever they see of the rows."""

BLOCK_NUMBERS = 2**22
"""Features converted to float64 at a time, all rows together: 32 MiB."""


class Summary:
    """Spread of the features.

    Parameters
    ----------
    n_coefficients
        Columns of the design matrix.
    """

    def __init__(self, n_coefficients: int) -> None:
        self.points = self.totals = np.empty((0, n_coefficients))
        self._scaler = StandardScaler()

    def weigh(self, A: Matrix, Z: Matrix, y: Labels) -> Matrix:
        """Add a batch of rows.

        Parameters
        ----------
        A
            Design matrix (n, n_coefficients).
        Z
            Nothing (0, n).
        y
            Labels (n,), indices of classes.

        Returns
        -------
        ndarray
            Nothing (0, n).
        """
        self._scaler.partial_fit(A)
        return Z

    @property
    def variances(self) -> Vector:
        """Variance of each column, 1 for a constant one."""
        variances: Vector = self._scaler.scale_**2
        return variances


class Course:
    """One head on its way to the solution.

    Parameters
    ----------
    head
        What is trained.
    summary
        Filled in a first pass, if the head needs it.
    make_solver
        Makes its solver, called when that is over.
    """

    def __init__(
        self, head: "LogisticProbe", summary: Summary, make_solver: Callable[..., Newton]
    ) -> None:
        self.head, self.n_passes = head, 0
        self._summary, self._make_solver = summary, make_solver
        self._sums = self._plan()
        self.wanted = next(self._sums, None)

    def _plan(self) -> Sums:
        """Yield all the sums over rows that the head needs."""
        if self.head.standardize:
            yield self._summary
        self.solver = self._make_solver(self.head)
        yield from self.solver.sums()

    def go_on(self) -> None:
        """Let the solver use the sum that was wanted."""
        self.n_passes += 1
        self.wanted = next(self._sums, None)
        if self.n_passes == self.head.max_iter:
            self.wanted = None


class LogisticTrainer:
    """Solvers of heads that have one design matrix, fed with the same passes.

    Parameters
    ----------
    heads
        What is trained: all with an intercept or none, all standardised or none.
    source
        The rows to learn from; only its sizes and classes are read here.
    memory
        What the solvers share: Hessians, or rows held for conjugate gradients.
    """

    validates = False

    def __init__(
        self,
        heads: "Sequence[LogisticProbe]",
        source: BatchSource,
        memory: Curvatures | RowSample,
    ) -> None:
        self.members: Sequence[LogisticProbe] = heads
        self._memory, self._classes, self._counts = memory, source.classes, source.counts()
        self._n_features, self._intercept = source.n_features, int(heads[0].fit_intercept)
        self._summary = Summary(self._n_features + self._intercept)
        self._courses = [Course(head, self._summary, self._make_solver) for head in heads]
        self._grant()

    def _make_solver(self, head: "LogisticProbe") -> Newton:
        """Return the solver; standardising is a penalty in units of each feature's variance."""
        ridge = np.ones(self._n_features + self._intercept)
        if head.standardize:
            ridge = self._summary.variances
        ridge[self._n_features :] = 0
        weights = class_weights(head.class_weight, self._classes, self._counts)
        if isinstance(self._memory, Curvatures):
            return QuasiNewton(ridge, head.C * weights, head.tol, self._memory)
        return NewtonCG(ridge, head.C * weights, head.tol, self._memory)

    def _evaluations(self) -> dict[Any, Evaluation]:
        """Return what is being evaluated, by solver."""
        return {
            course.solver: course.wanted
            for course in self._courses
            if isinstance(course.wanted, Evaluation)
        }

    def _grant(self) -> None:
        """Choose the evaluation that comes with a Hessian in the next pass."""
        if isinstance(self._memory, Curvatures):
            self._memory.grant(self._evaluations())

    def next_pass(self) -> Pass | None:
        """Return the pass wanted next, the same for all heads, or None at the end."""
        return READING if any(course.wanted is not None for course in self._courses) else None

    def consume(self, batch: RowBatch, shared: Shared) -> None:
        """Add one batch to the sums of this pass."""
        X, y = batch.X, batch.y
        sums = [course.wanted for course in self._courses if course.wanted is not None]
        n_rows = max(1, BLOCK_NUMBERS // self._n_features)
        for start in range(0, len(y), n_rows):
            rows = slice(start, start + n_rows)
            A = self._design_matrix(X[rows])
            if isinstance(self._memory, RowSample) and not self._memory.complete:
                self._memory.add(A, y[rows])
            add_batch(list(dict.fromkeys(sums)), A, y[rows])

    def _design_matrix(self, X: Floats) -> Matrix:
        """Return the rows as float64, with a column of ones for the intercept."""
        A = np.ones((len(X), self._n_features + self._intercept))
        A[:, : self._n_features] = X
        return A

    def scores(self, X: Floats) -> Floats:
        """Return the logits (n_rows, n_members) of the current points."""
        points = np.stack([course.solver.theta for course in self._courses])
        logits: Floats = self._design_matrix(X) @ points.T
        return logits

    def end_pass(self, validation: tuple[Floats, NDArray[np.intp]] | None) -> None:
        """Let the solvers use the sums."""
        if isinstance(self._memory, Curvatures):
            self._memory.collect(self._evaluations())
        for course in self._courses:
            if course.wanted is not None:
                course.go_on()
        self._grant()

    def state(self) -> State | None:
        """Return None: an exact solver that was interrupted begins anew."""
        return None

    def restore(self, state: State) -> None:
        """Do nothing; there is no state."""

    def finish(self) -> None:
        """Write the learned attributes, and warn if they are not the solution."""
        for head, course in zip(self.members, self._courses, strict=True):
            theta = course.solver.theta
            head.coef_ = theta[None, : self._n_features].copy()
            head.intercept_ = theta[self._n_features :].copy() if self._intercept else np.zeros(1)
            head.classes_, head.n_features_in_ = self._classes, self._n_features
            head.n_iter_, head.gradient_norm_ = course.n_passes, course.solver.gradient_norm
            if not course.solver.converged:
                warnings.warn(
                    f"{head!r} stopped after {course.n_passes} passes with gradient norm "
                    f"{head.gradient_norm_:.2g}; raise 'max_iter' or 'tol', or "
                    f"scale the features.",
                    ConvergenceWarning,
                    stacklevel=2,
                )
