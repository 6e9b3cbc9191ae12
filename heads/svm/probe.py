"""A support vector machine on a few rows."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions

from heads.head import Head
from heads.loop.batch_source import BatchSource, Floats
from heads.loop.passes import Trainer
from heads.svm.training import SVMTrainer


class FewShotSVM(Head):
    """Support vector machine on rows held in memory, as FiSeR uses it after a few shots.

    Trained by `sklearn.svm.SVC` on the features as they come, without standardisation; the decision
    value of x, with support vectors s, is ::

        Σ dual_coef_ · K(x, s) + intercept_,    K = exp(-gamma_ ‖x - s‖²)  or  ⟨x, s⟩

    Parameters
    ----------
    C
        Inverse strength > 0 of the penalty.
    kernel
        ``"rbf"`` or ``"linear"``.
    gamma
        Width of the RBF kernel: a number > 0, ``"scale"`` for ``1 / (n_features · variance of all
        features)`` (1 if that is 0), or ``"auto"`` for ``1 / n_features``.
    tol
        Tolerance > 0 of the solver.
    max_rows
        Most rows to learn from: time grows at least with their square, memory with their number.

    Attributes
    ----------
    support_vectors_ : ndarray (n_support, n_features), float64
        The rows that matter.
    dual_coef_ : ndarray (n_support,), float64
        Their weights, negative for ``classes_[0]``.
    intercept_ : ndarray (1,), float64
        Decision value far from all support vectors of an RBF kernel.
    gamma_ : float
        Width of the RBF kernel; for a linear one it has no meaning.
    classes_, n_features_in_
        As in scikit-learn.

    Notes
    -----
    Probabilities are the logistic function of the decision value. They rank as it does, and are not
    calibrated: a margin of 1 is no logit. Calibrate on validation rows where it matters.

    References
    ----------
    FiSeR, 2026, public code (RBF, C = 1, gamma = "scale"). Chang, Lin, "LIBSVM: a library for
    support vector machines", 2011.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(40) % 2
    >>> X = rng.normal(size=(40, 10)) + 2 * y[:, None]
    >>> head = FewShotSVM().fit(X[:20], y[:20])
    >>> float(head.score(X[20:], y[20:])), len(head.support_vectors_)
    (1.0, 16)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "C": [Interval(Real, 0, None, closed="neither")],
        "kernel": [StrOptions({"rbf", "linear"})],
        "gamma": [StrOptions({"scale", "auto"}), Interval(Real, 0, None, closed="neither")],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_rows": [Interval(Integral, 2, None, closed="left")],
    }

    support_vectors_: NDArray[np.float64]
    dual_coef_: NDArray[np.float64]
    intercept_: NDArray[np.float64]
    gamma_: float

    def __init__(
        self,
        *,
        C: float = 1.0,
        kernel: Literal["rbf", "linear"] = "rbf",
        gamma: float | Literal["scale", "auto"] = "scale",
        tol: float = 1e-3,
        max_rows: int = 10_000,
    ) -> None:
        self.C = C
        self.kernel = kernel
        self.gamma = gamma
        self.tol = tol
        self.max_rows = max_rows

    @classmethod
    def trainers(cls, heads: Sequence[Self], source: BatchSource) -> list[Trainer]:
        """Return one trainer for all heads; they share the rows.

        Parameters
        ----------
        heads
            Heads with any parameters.
        source
            The rows to learn from.

        Returns
        -------
        list of Trainer
            One trainer.

        Raises
        ------
        ValueError
            If a parameter is out of its range, the source does not have two classes, or there are
            more rows than `max_rows`.
        """
        for head in heads:
            head.check_trainable(source)
        return [SVMTrainer(heads, source)]

    def check_learned(self) -> None:
        """Check that the learned attributes fit together; a loaded head is checked by it.

        Raises
        ------
        ValueError
            If an attribute is missing, has the wrong shape or type, or is not finite, or the
            classes are not sorted.
        """
        super().check_learned()
        n_support = len(np.atleast_1d(getattr(self, "dual_coef_", ())))
        self._check_array("dual_coef_", (n_support,))
        self._check_array("support_vectors_", (n_support, self.n_features_in_))
        self._check_array("intercept_", (1,))
        gamma = getattr(self, "gamma_", None)
        if not isinstance(gamma, float) or not 0 < gamma < np.inf:
            raise ValueError(f"'gamma_' must be a float > 0, got {gamma!r}.")

    def _decide(self, X: Floats) -> Floats:
        rows, support = X.astype(np.float64), self.support_vectors_
        values: Floats
        if self.kernel == "linear":
            values = rows @ (self.dual_coef_ @ support) + self.intercept_
            return values
        centre = support.mean(axis=0)  # distances do not change, and large offsets do not cancel
        rows, support = rows - centre, support - centre
        exponents = rows @ (2 * support.T)
        exponents -= np.vecdot(rows, rows)[:, None] + np.vecdot(support, support)
        np.minimum(exponents, 0, out=exponents)
        exponents *= self.gamma_
        values = np.exp(exponents, out=exponents) @ self.dual_coef_ + self.intercept_
        return values
