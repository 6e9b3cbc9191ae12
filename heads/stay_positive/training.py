"""`StayPositiveProbe`s on their way to the exact optimum: sums over rows, pass by pass."""

import warnings
from collections import deque
from collections.abc import Sequence
from math import isqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from heads.class_weights import class_weights
from heads.logistic.row_sums import Matrix, add_batch
from heads.logistic.sampled_hessian import ModelSample
from heads.logistic.training import BLOCK_NUMBERS, READING
from heads.loop.batch_source import BatchSource, Floats, Pass, RowBatch, Shared
from heads.loop.passes import State, Trainer
from heads.stay_positive.duality_gap import Problem
from heads.stay_positive.nonnegative_logistic import NonNegativeCG, NonNegativeNewton

if TYPE_CHECKING:
    from heads.stay_positive.probe import StayPositiveProbe


DENSE_FEATURES = 4096
"""Up to here Hessians are accumulated: of all weights, if there are at least as many rows."""

SOLVING = 2
"""Matrices of the size of a Hessian that a solver needs besides its own, one solver at a time."""

SAMPLE_ROWS = 4096
"""Most rows held otherwise; their Gram matrix is made anew for every set of free weights."""


def require_meaning(members: Sequence["StayPositiveProbe"], X: Floats, shared: Shared) -> None:
    """Check that features are not negative, unless they may be.

    Parameters
    ----------
    members
        Heads, whose `allow_signed` counts.
    X
        Features of a batch (n, n_features).
    shared
        Cache of the batch.

    Raises
    ------
    ValueError
        If a feature is negative and a head does not allow it.
    """
    if all(head.allow_signed for head in members):
        return
    if "least feature" not in shared:
        shared["least feature"] = X.min()
    if (least := shared["least feature"]) < 0:
        raise ValueError(
            f"features must be >= 0, got {least:.6g}, which would be evidence for the first class; "
            "set 'hidden' to learn features >= 0 first, or allow_signed=True."
        )


class ExactTrainer:
    """Solvers of several heads, fed with the same passes.

    Parameters
    ----------
    members
        What is trained.
    source
        The rows to learn from; only its sizes, classes and counts are read here.
    sample
        Rows held to guess which weights are 0, filled in the first pass; None accumulates the
        Hessians of all weights.
    n_abreast
        Most solvers that are fed at a time, at least 1; the others wait until one has finished.
    """

    validates = False

    def __init__(
        self,
        members: Sequence["StayPositiveProbe"],
        source: BatchSource,
        sample: ModelSample | None,
        n_abreast: int,
    ) -> None:
        self.members, self._sample, self._n_abreast = members, sample, n_abreast
        self._classes, self._n_features = source.classes, source.n_features
        self._solvers = [self._make_solver(head, source) for head in members]
        self._sums = [solver.sums() for solver in self._solvers]
        self._wanted: dict[int, Any] = {}  # by the solver's number
        self._waiting = deque(range(len(members)))
        self._n_passes = np.zeros(len(members), np.intp)
        self._admit()

    def _make_solver(self, head: "StayPositiveProbe", source: BatchSource) -> NonNegativeNewton:
        """Return the solver of one head."""
        costs = class_weights(head.class_weight, source.classes, source.counts())
        problem = Problem(head.ridge, head.l1, costs, source.n_samples)
        if self._sample is None:
            return NonNegativeNewton(problem, source.n_features, head.tol)
        return NonNegativeCG(
            problem, source.n_features, head.tol, self._sample, most_free(len(self.members), source)
        )

    def _admit(self) -> None:
        """Let as many solvers begin as there is room for."""
        while self._waiting and len(self._wanted) < self._n_abreast:
            m = self._waiting.popleft()
            self._wanted[m] = next(self._sums[m])

    def next_pass(self) -> Pass | None:
        """Return the pass wanted next, the same for all exact heads, or None at the end."""
        return READING if self._wanted else None

    def consume(self, batch: RowBatch, shared: Shared) -> None:
        """Add one batch to the sums of this pass."""
        X, y = batch.X, batch.y
        require_meaning(self.members, X, shared)
        sums = list(self._wanted.values())
        n_rows = max(1, BLOCK_NUMBERS // self._n_features)
        for start in range(0, len(y), n_rows):
            rows = slice(start, start + n_rows)
            A = _design_matrix(X[rows])
            if self._sample is not None and not self._sample.complete:
                self._sample.add(A, y[rows])
            add_batch(sums, A, y[rows])

    def scores(self, X: Floats) -> Floats:
        """Return the logits (n_rows, n_members) of the current points."""
        points = np.stack([solver.theta for solver in self._solvers])
        logits: Floats = _design_matrix(X) @ points.T
        return logits

    def end_pass(self, validation: tuple[Floats, NDArray[np.intp]] | None) -> None:
        """Let the solvers use the sums."""
        for m in list(self._wanted):
            self._n_passes[m] += 1
            wanted = next(self._sums[m], None)
            if wanted is None or self._n_passes[m] == self.members[m].max_iter:
                del self._wanted[m]
            else:
                self._wanted[m] = wanted
        self._admit()

    def state(self) -> State | None:
        """Return None: an exact solver that was interrupted begins anew."""
        return None

    def restore(self, state: State) -> None:
        """Do nothing; there is no state."""

    def finish(self) -> None:
        """Write the learned attributes, and warn if they are not the solution."""
        for m, (head, solver) in enumerate(zip(self.members, self._solvers, strict=True)):
            theta, n_passes = solver.theta + 0.0, int(self._n_passes[m])  # no -0.0
            head.coef_, head.intercept_ = theta[None, :-1].copy(), theta[-1:].copy()
            head.classes_, head.n_features_in_ = self._classes, self._n_features
            head.objective_, head.kkt_residual_, head.duality_gap_ = solver.certificate
            head.n_iter_ = n_passes
            if not solver.converged:
                warnings.warn(
                    f"{head!r} stopped after {n_passes} passes with KKT residual "
                    f"{head.kkt_residual_:.2g} and duality gap {head.duality_gap_:.2g}; raise "
                    "'max_iter' or 'tol'.",
                    ConvergenceWarning,
                    stacklevel=2,
                )


def exact_trainers(heads: Sequence["StayPositiveProbe"], source: BatchSource) -> list[Trainer]:
    """Return what trains exact heads, be it with Hessians of all weights or with a row sample.

    Parameters
    ----------
    heads
        What is trained.
    source
        The rows to learn from.

    Returns
    -------
    list of Trainer
        One for all heads.
    """
    n_features, n_samples = source.n_features, source.n_samples
    n_abreast = source.workspace // (8 * (n_features + 1) ** 2) - SOLVING
    if n_features <= min(DENSE_FEATURES, n_samples) and n_abreast > 0:
        return [ExactTrainer(heads, source, None, n_abreast)]
    affordable = max(1, source.workspace // 2 // (8 * n_features))
    sample = ModelSample(n_samples, min(n_samples, SAMPLE_ROWS, affordable))
    return [ExactTrainer(heads, source, sample, len(heads))]


def most_free(n_heads: int, source: BatchSource) -> int:
    """Return of how many coordinates every head may have a Hessian beside a sample of the rows.

    Parameters
    ----------
    n_heads
        Heads that are trained at a time.
    source
        Its workspace is shared: half of it is for the sample.

    Returns
    -------
    int
        At most `DENSE_FEATURES`.
    """
    return min(DENSE_FEATURES, isqrt(source.workspace // 2 // (8 * (n_heads + SOLVING))))


def _design_matrix(X: Floats) -> Matrix:
    """Return the rows as float64, with a column of ones for the intercept."""
    A = np.ones((len(X), X.shape[1] + 1))
    A[:, :-1] = X
    return A
