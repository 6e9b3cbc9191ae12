"""Ridge regression on random features: a fixed random layer, then everything in closed form."""

from collections.abc import Mapping
from numbers import Integral
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval

from heads.closed_form.ridge import RIDGE_CONSTRAINTS, RidgeHead, Selection
from heads.loop.batch_source import Floats


class RandomFeatureRidge(RidgeHead):
    """Ridge regression of ±1 labels on ``φ(x) = max(0, x P)`` with a fixed random P, in one pass.

    Random directions and a rectifier let interactions of features count; as P is never trained,
    everything said of `RidgeProbe` holds: exact, order-free, learning from more rows and merging
    without forgetting. It is also the way to train on more features than a Gram matrix may have.

    Parameters
    ----------
    n_components
        Number of random features, at least 1. The Gram matrix takes 8 · n_components² bytes.
    alpha, selection, standardize, class_weight, keep_moments
        As for `RidgeProbe`; ``standardize`` concerns the random features.
    random_state
        Seed >= 0 of P.

    Attributes
    ----------
    projection_ : ndarray (n_features, n_components), float32
        P: normal numbers with variance 1 / n_features.
    coef_, intercept_ : ndarray (n_outputs, n_components) and (n_outputs,), float64
        Weights of the random features; one output for two classes.
    alpha_ : float
        The penalty chosen.
    loo_error_, gcv_error_, validation_error_ : ndarray (n_alphas,)
        The errors of listed penalties: that of these three which `selection` names.
    classes_, n_features_in_
        As in scikit-learn.

    Notes
    -----
    RanPAC draws P with variance 1, which scales φ by √n_features, and regresses one-hot labels
    without an intercept; its choice of the penalty on a fifth of the rows is
    ``selection="validation"``.

    Cost per row: 2 · n_features · n_components operations for the projection, n_components² for
    the moments.

    References
    ----------
    McDonnell, Gong, Parveneh, Abbasnejad, van den Hengel, "RanPAC: random projections and
    pre-trained models for continual learning", NeurIPS 2023. Rahimi, Recht,
    "Weighted sums of random kitchen sinks", NeurIPS 2008.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(500, 2))
    >>> y = (X[:, 0] * X[:, 1] > 0).astype(int)
    >>> RandomFeatureRidge(n_components=200, random_state=0).fit(X, y).score(X, y) > 0.95
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "random_state": [Interval(Integral, 0, None, closed="left")],
        **RIDGE_CONSTRAINTS,
    }

    projection_: NDArray[np.float32]

    def __init__(  # noqa: PLR0913  hyper-parameters
        self,
        *,
        n_components: int = 2000,
        alpha: float | list[float] = 1.0,
        selection: Selection = "loo",
        standardize: bool = False,
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = None,
        keep_moments: bool = False,
        random_state: int = 0,
    ) -> None:
        self.n_components = n_components
        self.alpha = alpha
        self.selection = selection
        self.standardize = standardize
        self.class_weight = class_weight
        self.keep_moments = keep_moments
        self.random_state = random_state

    def width(self, n_features: int) -> int:
        """Return the number of random features."""
        return self.n_components

    def lifting(self) -> tuple[Any, ...]:
        """Return the hyper-parameters that determine `lift`."""
        return self.n_components, self.random_state

    def prepare(self, n_features: int, leader: Self) -> None:
        """Draw the projection, or take that of a head that draws the same."""
        if leader is not self:
            self.projection_ = leader.projection_
            return
        rng = np.random.default_rng(self.random_state)
        normal = rng.standard_normal((n_features, self.n_components), np.float32)
        self.projection_ = normal / np.float32(np.sqrt(n_features))

    def lift(self, X: Floats) -> Floats:
        """Return the random features (n, n_components) of rows (n, n_features), in float64."""
        lifted: Floats = np.asarray(X, np.float64) @ self.projection_
        return np.maximum(lifted, 0, out=lifted)

    def check_learned(self) -> None:
        """Check that the learned attributes fit together; a loaded head is checked by it.

        Raises
        ------
        ValueError
            If an attribute is missing, has the wrong shape or type, or is not finite, or the
            classes are not sorted.
        """
        super().check_learned()
        n_outputs = 1 if len(self.classes_) == 2 else len(self.classes_)
        self._check_array("projection_", (self.n_features_in_, self.n_components))
        self._check_array("coef_", (n_outputs, self.n_components))
        self._check_array("intercept_", (n_outputs,))

    def _decide(self, X: Floats) -> Floats:
        values: Floats = self.lift(X) @ self.coef_.T + self.intercept_
        return values[:, 0] if len(self.coef_) == 1 else values
