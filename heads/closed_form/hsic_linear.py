"""The HSIC bottleneck with linear kernels, in closed form."""

from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh
from sklearn.base import TransformerMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from heads.closed_form.gram import Matrix
from heads.closed_form.moment_head import LinearMomentHead
from heads.closed_form.moments import Moments
from heads.closed_form.spectrum import EPSILON
from heads.closed_form.streaming_lda import discriminants, shrunk
from heads.closed_form.training import Study
from heads.head import DTYPES
from heads.loop.batch_source import Floats


class HSICLinear(TransformerMixin, LinearMomentHead):  # type: ignore[misc]
    """The HSIC bottleneck with linear kernels: an eigenproblem instead of a training.

    The representation ``z = W x`` is as dependent on the label, and as little on the input, as is
    possible ::

        maximise  lambda_y · HSIC(z, y) - lambda_x · HSIC(x, z)   over W of n_components rows

    with linear kernels on x and z and the delta kernel on y. Classes are then told apart by a
    linear discriminant on z, which folds with W to one vector, as in `heads.HSICProbe`.

    **Closed form.** With centred rows X (n, d), centred one-hot labels Y and the covariances
    ``Cxx = XᵀX / (n-1)``, ``Cxy = XᵀY / (n-1)``, the Gram matrices are ``K̄ = X Xᵀ`` for x,
    ``X WᵀW Xᵀ`` for z, and ``Y Yᵀ`` for y. HSIC of two of them is tr(K̄ L̄) / (n-1)², so that ::

        HSIC(z, y) = tr(X WᵀW Xᵀ Y Yᵀ) / (n-1)² = tr(W Cxy Cxyᵀ Wᵀ)
        HSIC(x, z) = tr(X Xᵀ X WᵀW Xᵀ) / (n-1)² = tr(W Cxx² Wᵀ)

    and the objective is ``tr(W M Wᵀ)`` with ``M = lambda_y Cxy Cxyᵀ - lambda_x Cxx²``. Both terms
    grow with W, hence a constraint. With ``W Wᵀ = I`` the maximum is the sum of the largest
    eigenvalues of M, reached by their eigenvectors (Ky Fan); with ``W Cxx Wᵀ = I`` those of the
    generalised problem ``M w = μ Cxx w``. As the first term has rank n_classes - 1 and the second
    only subtracts, at most that many eigenvalues are positive: more components lower the objective.

    **Two classes.** Cxy Cxyᵀ is 2 c cᵀ, with c the covariance of x and the 0/1 label, and the one
    eigenvector is proportional to ``(lambda_x Cxx² + μ I)⁻¹ c``: ridge regression, but with the
    square of the covariance, and with the strength μ set by the eigenvalue. Directions of large
    variance are given up before those of small variance.

    **Partial least squares.** With lambda_x = 0 the rows of W are the left singular vectors of
    Cxy, which are the weights of PLS-SVD of X and one-hot labels, and the first is the first weight
    vector of PLS regression; for two classes it is the difference of the class means. With the
    variance constraint they span what Fisher's discriminant directions span, and are these for two
    classes or equally many rows of each.

    Parameters
    ----------
    lambda_x, lambda_y
        Weights >= 0 of HSIC(x, z) and > 0 of HSIC(z, y); only their ratio matters for W. HSIC(x, z)
        grows with the fourth power of the scale of the features and HSIC(z, y) with the second, so
        the same ratio means something else for other features, unless they are standardised.
    n_components
        Rows of W, at least 1 and at most n_features; None for as many as there are positive
        eigenvalues, but one at least.
    constraint
        ``"orthonormal"``: W Wᵀ = I. ``"unit_variance"``: W Cxx Wᵀ = I, with Cxx shrunk, among
        directions that have variance.
    shrinkage
        Shrinkage from 0 to 1 of Cxx towards its mean variance, for
        ``constraint="unit_variance"``.
    standardize
        Whether x is the features divided by their standard deviations; W and `coef_` are for
        features as they come.
    keep_moments
        Whether the moments, 8 · n_features² bytes, are kept and saved with the head, so that it
        can learn from more rows later; `partial_fit` keeps them in any case.

    Attributes
    ----------
    encoder_weight_, encoder_bias_ : ndarray (n_components, n_features) and (n_components,)
        W, and what makes z zero at the mean row.
    eigenvalues_ : ndarray (n_components,)
        In descending order; their sum is the value of the objective. If none is positive, W = 0
        would be better: HSIC(x, z) weighs too much.
    hsic_x_, hsic_y_ : float
        HSIC(x, z) and HSIC(z, y) of the training rows.
    coef_, intercept_ : ndarray (n_outputs, n_features) and (n_outputs,), float64
        The folded head; log odds of the second of two classes.
    classes_, n_features_in_
        As in scikit-learn.

    Notes
    -----
    Cost: n_features² operations per row, in one pass, then some 6 · n_features³ once. Memory:
    8 · n_features² bytes while rows are read, eight times that while solving.

    References
    ----------
    Ma, Lewis, Kleijn, "The HSIC bottleneck: deep learning without back-propagation", AAAI 2020.
    Song, Smola, Gretton, Bedo, Borgwardt, "Feature selection via dependence maximization", JMLR 13
    (2012). Fan, "On a theorem of Weyl concerning eigenvalues of linear transformations", PNAS 35
    (1949). Rosipal, Krämer, "Overview and recent advances in partial least squares", 2006.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(200) % 2
    >>> X = rng.normal(size=(200, 10)) + 2 * y[:, None]
    >>> head = HSICLinear().fit(X, y)
    >>> head.encoder_weight_.shape, head.score(X, y) > 0.95
    ((1, 10), True)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "lambda_x": [Interval(Real, 0, None, closed="left")],
        "lambda_y": [Interval(Real, 0, None, closed="neither")],
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "constraint": [StrOptions({"orthonormal", "unit_variance"})],
        "shrinkage": [Interval(Real, 0, 1, closed="both")],
        "standardize": ["boolean"],
        "keep_moments": ["boolean"],
    }

    encoder_weight_: NDArray[np.float64]
    encoder_bias_: NDArray[np.float64]
    eigenvalues_: NDArray[np.float64]
    hsic_x_: float
    hsic_y_: float

    def __init__(  # noqa: PLR0913  hyper-parameters
        self,
        *,
        lambda_x: float = 0.01,
        lambda_y: float = 1.0,
        n_components: int | None = None,
        constraint: Literal["orthonormal", "unit_variance"] = "orthonormal",
        shrinkage: float = 1e-4,
        standardize: bool = False,
        keep_moments: bool = False,
    ) -> None:
        self.lambda_x = lambda_x
        self.lambda_y = lambda_y
        self.n_components = n_components
        self.constraint = constraint
        self.shrinkage = shrinkage
        self.standardize = standardize
        self.keep_moments = keep_moments

    def study(self, moments: Moments, memo: dict[Any, Any]) -> Study:
        """Return what makes this head of moments; equally standardised heads share covariances."""
        if self.standardize not in memo:
            memo[self.standardize] = Covariances(moments, self.standardize)
        return HSICStudy(self, memo[self.standardize])

    def transform(self, X: ArrayLike) -> Floats:
        """Return the representations z of samples.

        Parameters
        ----------
        X
            Features (n_samples, n_features).

        Returns
        -------
        numpy.ndarray
            ``z`` (n_samples, n_components), float64.
        """
        check_is_fitted(self)
        features = validate_data(self, X, dtype=DTYPES, reset=False)
        Z: Floats = features @ self.encoder_weight_.T + self.encoder_bias_
        return Z

    def check_learned(self) -> None:
        """Check that the learned attributes fit together; a loaded head is checked by it.

        Raises
        ------
        ValueError
            If an attribute is missing, has the wrong shape or type, or is not finite, or the
            classes are not sorted.
        """
        super().check_learned()
        n_components = np.shape(getattr(self, "eigenvalues_", ()))
        self._check_array("eigenvalues_", n_components or (1,))
        self._check_array("encoder_weight_", (*n_components, self.n_features_in_))
        self._check_array("encoder_bias_", n_components)


class Covariances:
    """The covariances that HSIC with linear kernels consists of.

    Parameters
    ----------
    moments
        Of all rows.
    standardize
        Whether features are divided by their standard deviations.

    Attributes
    ----------
    input : ndarray (n_features, n_features)
        Cxx.
    label : ndarray (n_features, n_classes)
        Cxy.
    squared : ndarray (n_features, n_features)
        Cxx².
    """

    def __init__(self, moments: Moments, standardize: bool) -> None:
        self.moments = moments
        self.scale = moments.spreads if standardize else np.ones(moments.n_features)
        freedom = moments.counts.sum() - 1
        self.input: Matrix = moments.scatter / self.scale / (self.scale[:, None] * freedom)
        sums = moments.counts[:, None] * moments.deviations / self.scale
        self.label: Matrix = sums.T / freedom
        self.squared: Matrix = self.input @ self.input


class HSICStudy(Study):
    """Solves the eigenproblem of one head.

    Parameters
    ----------
    head
        What is trained.
    covariances
        Of all rows; heads with the same rows share them.
    """

    def __init__(self, head: HSICLinear, covariances: Covariances) -> None:
        self._head, self._covariances = head, covariances

    def write(self) -> None:
        """Write the representation and the discriminant on it."""
        head, C = self._head, self._covariances
        head.eigenvalues_, W = self._leading()
        head.hsic_y_ = float(np.sum((W @ C.label) ** 2))
        head.hsic_x_ = float(np.sum((W @ C.input) ** 2))
        moments = C.moments
        head.encoder_weight_ = W / C.scale
        head.encoder_bias_ = -head.encoder_weight_ @ moments.mean
        priors = moments.counts / moments.counts.sum()
        within = head.encoder_weight_ @ moments.within @ head.encoder_weight_.T
        deviations = moments.deviations @ head.encoder_weight_.T
        outputs, constants = discriminants(deviations, within / moments.counts.sum(), priors)
        head.coef_ = outputs @ head.encoder_weight_
        head.intercept_ = constants - head.coef_ @ moments.mean

    def _leading(self) -> tuple[Matrix, Matrix]:
        """Return the leading eigenvalues, and the eigenvectors in rows, in descending order."""
        head, C = self._head, self._covariances
        objective = head.lambda_y * (C.label @ C.label.T) - head.lambda_x * C.squared
        basis = None
        if head.constraint == "unit_variance":
            basis = whitening(shrunk(C.input, head.shrinkage))
            objective = basis @ objective @ basis.T
        n_directions = len(objective)
        if not n_directions:
            raise ValueError(
                "features must vary with constraint='unit_variance', got constant ones only; "
                "choose constraint='orthonormal'."
            )
        wanted = head.n_components or min(C.label.shape[1] - 1, n_directions)
        if wanted > n_directions:
            raise ValueError(
                f"'n_components' must be at most the number of linearly independent features, "
                f"{n_directions}, got {wanted}."
            )
        leading = (n_directions - wanted, n_directions - 1)
        values, vectors = eigh(objective, subset_by_index=leading)
        values, W = values[::-1], vectors.T[::-1] if basis is None else vectors.T[::-1] @ basis
        if head.n_components is None:
            n_kept = max(1, np.count_nonzero(values > 0))
            values, W = values[:n_kept], W[:n_kept]
        largest = np.take_along_axis(W, np.abs(W).argmax(axis=1)[:, None], axis=1)
        return values, W * np.sign(largest)


def whitening(covariance: Matrix) -> Matrix:
    """Return directions in which a covariance is the identity, all that have variance.

    Parameters
    ----------
    covariance
        Positive semi-definite (n_features, n_features).

    Returns
    -------
    numpy.ndarray
        Directions (rank, n_features) in rows.

    Examples
    --------
    >>> whitening(np.diag([4.0, 0.0]))
    array([[0.5, 0. ]])
    """
    values, vectors = np.linalg.eigh(covariance)
    varied = values > len(values) * EPSILON * values[-1]
    directions: Matrix = vectors[:, varied].T / np.sqrt(values[varied])[:, None]
    return directions
