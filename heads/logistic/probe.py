"""Exact logistic regression, out of core."""

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

from sklearn.utils._param_validation import Interval, StrOptions

from heads.linear import LinearHead
from heads.logistic.curvatures import Curvatures
from heads.logistic.row_sums import RowSample
from heads.logistic.training import LogisticTrainer
from heads.loop.batch_source import BatchSource
from heads.loop.passes import Trainer

DENSE_FEATURES = 4096
"""Up to here Hessians are accumulated, if there are more rows than features."""

FEWEST_MATRICES = 3
"""As many must fit into the workspace for that."""

LEAST_WORKSPACE = 2**25
"""What heads take in any case, in bytes: as much as the rows at hand."""

SAMPLE_ROWS = 4096
"""Most rows of a sample; its Gram matrix is factorised once per Newton step."""


class LogisticProbe(LinearHead):
    """Exact L2 logistic regression on any amount of data.

    Minimises, as `sklearn.linear_model.LogisticRegression` does ::

        ½ ‖w‖² + C · Σ_rows class_weight[y] · log(1 + exp(-± (w·x + b)))

    over w and b (the intercept is not penalised), by Newton's method in float64 on passes over
    the rows, until the gradient of this very objective has a Euclidean norm of at most `tol`. The
    gradient is taken with respect to w and m = w·x̄ + b, the decision value of the mean row x̄
    (weighted by class): ``(∂w - x̄ ∂b, ∂b)``. The objective is 1-strongly convex in w, so that a
    gradient norm g puts w within g of the minimum for that m, whatever the scale of the features.

    Parameters
    ----------
    C
        Inverse strength > 0 of the penalty.
    fit_intercept
        Whether there is a b.
    tol
        Gradient norm >= 0 at which training ends. It also ends when rounding allows no smaller
        norm, which is about 1e-16 times the sum of all ``C · |x|``; with a `ConvergenceWarning` if
        rounding has spoilt the step itself (features far from zero, more than rows, a huge `C`).
    max_iter
        Most passes over the rows, at least 1; if they do not suffice there is a
        `ConvergenceWarning`.
    standardize
        Whether w is penalised as if each feature had variance 1 over the training rows; `coef_`
        is for features as they come. Costs one more pass.
    class_weight
        None, a weight > 0 for each label, or ``"balanced"`` for
        ``n_samples / (2 · n_rows_of_class)``.

    Attributes
    ----------
    coef_, intercept_ : ndarray (1, n_features) and (1,), float64
        The weights w and b; positive decision values mean ``classes_[1]``.
    gradient_norm_ : float
        Norm of the gradient at the solution, as defined above.
    n_iter_ : int
        Number of passes made.
    classes_, n_features_in_
        As in scikit-learn.

    Notes
    -----
    The rows may come in any batches; the result changes by rounding alone.

    With at most 4096 features, and more rows than features, steps are those of limited-memory BFGS
    on top of a Hessian; with the head's own they are Newton's. A pass costs
    ``4 · n_samples · n_features`` operations per head, and there are 6 to 15. A Hessian costs
    ``n_samples · n_features²``, but is shared: that of the start serves all heads trained together,
    and a path of ten `C` needs 2 to 5 of them (with separable classes and a large `C`, about as
    many as passes). Memory: at most the workspace of the source (512 MiB; from the store an eighth
    of ``max_memory``, divided among the views of the heads), whatever the number of heads.

    Otherwise steps are found by conjugate gradients: ``4 · n_samples · n_features`` operations per
    pass, and the Hessian of a sample of at most 4096 rows that fits into the workspace, as
    preconditioner. If the sample is all rows this is again Newton's method, 20 to 30 passes, at
    the cost of ``n_samples² · n_features``. If not, count on a hundred passes, and several hundred
    when features are correlated and `C` is large.

    Heads that are trained together share every pass, the conversion to float64, the matrix products
    and the Hessians or the sample. Which Hessian a head steps with depends on its company; where it
    ends does not, as that is decided by its own gradient.

    References
    ----------
    Nocedal, Wright, "Numerical Optimization", 2nd ed., chapters 3 and 7. Liu, Nocedal, "On the
    limited memory BFGS method for large scale optimization", 1989. Ma, Takáč, "Distributed inexact
    damped Newton method: data partitioning and load-balancing", 2016, for the sampled
    preconditioner.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(200) % 2
    >>> X = rng.normal(size=(200, 10)) + y[:, None]
    >>> probe = LogisticProbe(C=0.1).fit(X, y)
    >>> probe.n_iter_, probe.gradient_norm_ <= 1e-8
    (10, True)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "C": [Interval(Real, 0, None, closed="neither")],
        "fit_intercept": ["boolean"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "standardize": ["boolean"],
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    gradient_norm_: float
    n_iter_: int

    def __init__(
        self,
        *,
        C: float = 1.0,
        fit_intercept: bool = True,
        tol: float = 1e-8,
        max_iter: int = 1000,
        standardize: bool = False,
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = None,
    ) -> None:
        self.C = C
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter
        self.standardize = standardize
        self.class_weight = class_weight

    @classmethod
    def trainers(cls, heads: Sequence[Self], source: BatchSource) -> list[Trainer]:
        """Return a trainer for each head; they share passes and, for wide features, a row sample.

        Parameters
        ----------
        heads
            Probes with any parameters.
        source
            The rows to learn from.

        Returns
        -------
        list of Trainer
            One trainer per head.

        Raises
        ------
        ValueError
            If a parameter is out of its range or the source does not have two classes.
        """
        kinds: dict[tuple[bool, bool], list[Self]] = {}
        for head in heads:
            head.check_trainable(source)
            kinds.setdefault((head.fit_intercept, head.standardize), []).append(head)
        workspace = source.workspace // len(kinds)
        return [
            LogisticTrainer(own, source, _memory(len(own), source, workspace))
            for own in kinds.values()
        ]


def _memory(n_heads: int, source: BatchSource, workspace: int) -> Curvatures | RowSample:
    """Return what the solvers of heads share: Hessians where they fit, or a sample of the rows."""
    n_features, workspace = source.n_features, max(workspace, LEAST_WORKSPACE)
    n_matrices = workspace // (8 * (n_features + 1) ** 2)
    if n_features <= min(DENSE_FEATURES, source.n_samples) and n_matrices >= FEWEST_MATRICES:
        return Curvatures(n_heads, n_matrices)
    n_rows = min(source.n_samples, SAMPLE_ROWS, max(1, workspace // (8 * n_features)))
    return RowSample(source.n_samples, n_rows)
