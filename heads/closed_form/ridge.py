"""Ridge regression of the label, with all penalties from one Gram matrix."""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions

from heads.closed_form.leave_one_out import LeaveOneOut
from heads.closed_form.moment_head import LinearMomentHead, MomentHead
from heads.closed_form.moments import Moments
from heads.closed_form.ridge_path import RidgePath
from heads.closed_form.training import Study, Validation
from heads.loop.batch_source import Floats, Shared

Selection = Literal["loo", "gcv", "validation"]

RIDGE_CONSTRAINTS: dict[str, list[Any]] = {
    "alpha": [Interval(Real, 0, None, closed="left"), list, tuple],
    "selection": [StrOptions({"loo", "gcv", "validation"})],
    "standardize": ["boolean"],
    "class_weight": [dict, StrOptions({"balanced"}), None],
    "keep_moments": ["boolean"],
}
"""Legal hyper-parameters of ridge heads."""


class RidgeStudy(Study):
    """Chooses the penalty of one head and solves for its weights.

    Parameters
    ----------
    head
        What is trained.
    path
        The regressions for all penalties; heads with the same rows share it.
    """

    def __init__(self, head: "RidgeHead", path: RidgePath) -> None:
        self._head, self._path, self._alphas = head, path, head.alphas()
        self._errors: NDArray[np.float64] | None = None
        self._left_out: LeaveOneOut | None = None
        if np.ndim(head.alpha) == 0:
            return
        if head.selection == "gcv":
            self._errors = path.generalised_errors(self._alphas)
        elif head.selection == "loo":
            self._left_out = LeaveOneOut(path, self._alphas)
            self.wants_rows = True
        else:
            coefs, self._intercepts = path.solve(self._alphas)
            self._coefs = coefs.reshape(-1, coefs.shape[2])
            self.n_scores = len(self._coefs)

    def add(self, X: Floats, y: NDArray[np.intp], shared: Shared) -> None:
        """Add rows to the leave-one-out errors."""
        assert self._left_out is not None
        self._left_out.add(X, y, shared)

    def scores(self, X: Floats) -> Floats:
        """Return the outputs (n_rows, n_alphas · n_outputs) for all penalties."""
        outputs: Floats = np.asarray(X @ self._coefs.T) + self._intercepts.ravel()
        return outputs

    def close(self, validation: Validation | None) -> None:
        """Take the errors of validation rows, if they choose the penalty."""
        if not self.n_scores:
            return
        if validation is None:
            raise ValueError(
                "'selection' must not be 'validation' without validation rows; pass some, or "
                "choose 'loo' or 'gcv'."
            )
        scores, y = validation
        targets = self._path.targets[y]
        errors = scores.reshape(len(y), *self._intercepts.shape) - targets[:, None, :]
        self._errors = (errors**2).mean(axis=(0, 2))

    def write(self) -> None:
        """Write the weights, the penalty and what it was chosen by."""
        head, errors = self._head, self._errors
        for name in ("loo", "gcv", "validation"):
            head.__dict__.pop(f"{name}_error_", None)
        if self._left_out is not None:
            errors = self._left_out.errors()
        best = 0 if errors is None else int(np.argmin(errors))
        if errors is not None:
            setattr(head, f"{head.selection}_error_", errors)
        coefs, intercepts = self._path.solve(self._alphas[[best]])
        head.coef_, head.intercept_ = coefs[0].copy(), intercepts[0]
        head.alpha_ = float(self._alphas[best])


class RidgeHead(MomentHead):
    """Base of heads that are ridge regressions."""

    alpha: float | Sequence[float]
    selection: Selection
    standardize: bool

    alpha_: float
    loo_error_: NDArray[np.float64]
    gcv_error_: NDArray[np.float64]
    validation_error_: NDArray[np.float64]

    @property
    def selects_on_validation(self) -> bool:
        """Whether training scores validation rows, which then need both classes."""
        return self.selection == "validation" and np.ndim(self.alpha) > 0

    def alphas(self) -> NDArray[np.float64]:
        """Return the penalties (n_alphas,).

        Returns
        -------
        numpy.ndarray
            One, if `alpha` is a number.

        Raises
        ------
        ValueError
            If they are not numbers >= 0, or there is none.
        """
        alphas = np.atleast_1d(np.asarray(self.alpha))
        legal = alphas.ndim == 1 and alphas.size and alphas.dtype.kind in "iuf"
        if not (legal and np.isfinite(alphas).all() and (alphas >= 0).all()):
            raise ValueError(
                f"'alpha' must be a number >= 0 or a list of such numbers, got {self.alpha!r}."
            )
        return alphas.astype(np.float64)

    def study(self, moments: Moments, memo: dict[Any, Any]) -> Study:
        """Return what makes this head of moments; equally standardised heads share the path."""
        if self.standardize not in memo:
            memo[self.standardize] = RidgePath(moments, self.standardize)
        return RidgeStudy(self, memo[self.standardize])

    def check_learned(self) -> None:
        """Check that the learned attributes fit together; a loaded head is checked by it.

        Raises
        ------
        ValueError
            If an attribute is missing, has the wrong shape or type, or is not finite, or the
            classes are not sorted.
        """
        super().check_learned()
        if not isinstance(alpha := getattr(self, "alpha_", None), float) or not alpha >= 0:
            raise ValueError(f"'alpha_' must be a number >= 0, got {alpha!r}.")

    def _validate_params(self) -> None:
        super()._validate_params()
        self.alphas()


class RidgeProbe(RidgeHead, LinearMomentHead):
    """Ridge regression of ±1 labels on any amount of data, in one pass.

    Minimises, as `sklearn.linear_model.RidgeClassifier` does ::

        Σ_rows class_weight[y] · ‖t(y) - W x - b‖² + alpha · ‖W‖²

    over W and b (the intercept is not penalised), where t is 1 for the second of two classes and
    -1 for the first, and for more classes 1 in the place of the row's class and -1 elsewhere.

    The solution depends on the rows through their moments alone (see
    `heads.closed_form.moments.Moments`): training is one pass, in any order and any batches, and
    can go on with `partial_fit`, or by merging what was learned elsewhere. All penalties are served
    by one eigendecomposition.

    Parameters
    ----------
    alpha
        Penalty >= 0, or a list of them of which the one with the smallest error is chosen. With 0
        the solution is the one of minimum norm.
    selection
        What the error of a listed penalty is. ``"loo"``: the exact leave-one-out error, which
        depends on each row and costs a second pass. ``"gcv"``: generalised cross-validation, which
        replaces the leverage of each row by the mean and costs nothing; good when there are many
        more rows than features. ``"validation"``: the error on validation rows, which has to be
        used if the rows to come are not like those of the training. All three are mean squared
        differences from the ±1 targets. To choose by how well rows are ranked, train one head for
        each penalty (a ``grid``), which costs no more passes.
    standardize
        Whether W is penalised as if each feature had variance 1 over the training rows; `coef_`
        is for features as they come.
    class_weight
        None, a weight > 0 for each label, or ``"balanced"`` for
        ``n_rows / (n_classes · n_rows_of_class)``.
    keep_moments
        Whether the moments, 8 · n_features² bytes, are kept and saved with the head, so that it
        can learn from more rows later; `partial_fit` keeps them in any case.

    Attributes
    ----------
    coef_, intercept_ : ndarray (n_outputs, n_features) and (n_outputs,), float64
        The weights W and b; one output for two classes.
    alpha_ : float
        The penalty chosen.
    loo_error_, gcv_error_, validation_error_ : ndarray (n_alphas,)
        The errors of listed penalties: that of these three which `selection` names. Infinite
        where a penalty is so small that a row is fitted up to rounding, so that it cannot be known.
    classes_, n_features_in_
        As in scikit-learn.

    Notes
    -----
    Weights agree with a solution by singular values to 1e-8 of the largest weight, usually to
    1e-12, and decision values to 1e-9: for features with scales from 1e-3 to 1e3, at offsets of
    1e4, linearly dependent or more than there are rows, for alpha >= 1e-3. A Gram matrix squares
    the condition number, so digits are lost as alpha nears 1e-14 of its largest eigenvalue; first
    those that say how dependent features share their weight, which decide nothing.

    Decision values are regressed labels, not logits: `predict_proba` orders rows rightly, but its
    numbers are not calibrated.

    Cost: n_features² operations per row; with ``selection="loo"`` in all three times that and
    2 · n_features · n_alphas; then 10 · n_features³ once. Memory: 8 · n_features² bytes while rows
    are read, six times that while solving. Heads that are trained together on the same rows and
    class weights share all of it.

    References
    ----------
    Hoerl, Kennard, "Ridge regression: biased estimation for nonorthogonal problems",
    Technometrics 12 (1970). Rifkin, Lippert, "Notes on regularized least squares",
    MIT-CSAIL-TR-2007-025.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(200) % 2
    >>> X = rng.normal(size=(200, 10)) + y[:, None]
    >>> probe = RidgeProbe(alpha=[1.0, 10.0, 100.0]).fit(X, y)
    >>> probe.alpha_, probe.loo_error_.round(3)
    (10.0, array([0.29 , 0.289, 0.295]))

    Two halves, as if trained on two machines:

    >>> first, second = (RidgeProbe(alpha=10.0, keep_moments=True) for _ in range(2))
    >>> merged = first.fit(X[:50], y[:50]).merge(second.fit(X[50:], y[50:]))
    >>> np.allclose(merged.coef_, probe.coef_, rtol=1e-12)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = RIDGE_CONSTRAINTS

    def __init__(
        self,
        *,
        alpha: float | list[float] = 1.0,
        selection: Selection = "loo",
        standardize: bool = False,
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = None,
        keep_moments: bool = False,
    ) -> None:
        self.alpha = alpha
        self.selection = selection
        self.standardize = standardize
        self.class_weight = class_weight
        self.keep_moments = keep_moments
