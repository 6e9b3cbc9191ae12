"""Linear discriminant analysis that streams: class means and one covariance, updated exactly."""

from numbers import Real
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions

from heads.closed_form.gram import Matrix
from heads.closed_form.moment_head import LinearMomentHead
from heads.closed_form.moments import Moments
from heads.closed_form.spectrum import Spectrum
from heads.closed_form.training import Study
from heads.loop.batch_source import Floats, Shared

Shrinkage = float | Literal["oas", "ledoit_wolf"]


class StreamingLDA(LinearMomentHead):
    """Classes as normal distributions with one covariance, in one pass.

    The covariance is the mean one within classes, shrunk towards a multiple of the identity ::

        Σ = (1 - shrinkage) · S + shrinkage · tr(S) / n_features · I

    and the decision value of a class, minus a function of x that all classes share, its log
    posterior probability. The rows enter through class means and S alone: any order and batching,
    any number of machines, and any class that comes late give the same head.

    Parameters
    ----------
    shrinkage
        From 0 to 1; with 0 and a singular S the pseudo-inverse is used. ``"oas"`` chooses it from S
        as is optimal for normal rows. ``"ledoit_wolf"`` is optimal for rows of any distribution,
        but needs the fourth powers of distances to the means and so a second pass.
    priors
        ``"empirical"``: classes are as frequent as in training; ``"uniform"``: equally frequent.
    keep_moments
        Whether the moments, 8 · n_features² bytes, are kept and saved with the head, so that it
        can learn from more rows later; `partial_fit` keeps them in any case.

    Attributes
    ----------
    coef_, intercept_ : ndarray (n_outputs, n_features) and (n_outputs,), float64
        Decision values: the log odds of the second of two classes, or of each of more classes its
        log posterior up to what all share. They are counted from the mean of all rows.
    class_means_ : ndarray (n_classes, n_features)
        Mean row of each class.
    shrinkage_ : float
        The shrinkage, chosen or given.
    classes_, n_features_in_
        As in scikit-learn.

    Notes
    -----
    For equal shrinkage and empirical priors the probabilities are those of
    `sklearn.discriminant_analysis.LinearDiscriminantAnalysis(solver="lsqr")`. The chosen shrinkages
    are `sklearn.covariance.oas` and `ledoit_wolf` of the rows minus their class means;
    scikit-learn's ``shrinkage="auto"`` estimates one for each class and scaled features instead.

    Deep SLDA shrinks towards I instead of its mean variance and leaves priors out: its settings
    correspond to ``shrinkage=1e-4, priors="uniform"``.

    Cost: n_features² operations per row, then 10 · n_features³ once. Memory: 8 · n_features² bytes
    while rows are read, six times that while solving.

    References
    ----------
    Hayes, Kanan, "Lifelong machine learning with deep streaming linear discriminant analysis",
    CVPR workshops 2020. Chen, Wiesel, Eldar, Hero, "Shrinkage algorithms for MMSE covariance
    estimation", IEEE Trans. Signal Processing 58 (2010), for OAS. Ledoit, Wolf, "A
    well-conditioned estimator for large-dimensional covariance matrices", J. Multivariate Analysis
    88 (2004).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(300) % 3
    >>> X = rng.normal(size=(300, 5)) + 3 * np.eye(3, 5)[y]
    >>> head = StreamingLDA().partial_fit(X[y < 2], y[y < 2])
    >>> head.partial_fit(X[y == 2], y[y == 2]).score(X, y)
    0.9766666666666667
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "shrinkage": [Interval(Real, 0, 1, closed="both"), StrOptions({"oas", "ledoit_wolf"})],
        "priors": [StrOptions({"empirical", "uniform"})],
        "keep_moments": ["boolean"],
    }

    class_means_: NDArray[np.float64]
    shrinkage_: float

    def __init__(
        self,
        *,
        shrinkage: Shrinkage = 1e-4,
        priors: Literal["empirical", "uniform"] = "empirical",
        keep_moments: bool = False,
    ) -> None:
        self.shrinkage = shrinkage
        self.priors = priors
        self.keep_moments = keep_moments

    def study(self, moments: Moments, memo: dict[Any, Any]) -> Study:
        """Return what makes this head of moments."""
        return LDAStudy(self, moments)

    def check_learned(self) -> None:
        """Check that the learned attributes fit together; a loaded head is checked by it.

        Raises
        ------
        ValueError
            If an attribute is missing, has the wrong shape or type, or is not finite, or the
            classes are not sorted.
        """
        super().check_learned()
        self._check_array("class_means_", (len(self.classes_), self.n_features_in_))
        if not isinstance(s := getattr(self, "shrinkage_", None), float) or not 0 <= s <= 1:
            raise ValueError(f"'shrinkage_' must be a number from 0 to 1, got {s!r}.")


class LDAStudy(Study):
    """Shrinks the covariance of one head and solves for its weights.

    Parameters
    ----------
    head
        What is trained.
    moments
        Of all rows.
    """

    def __init__(self, head: StreamingLDA, moments: Moments) -> None:
        self._head, self._moments = head, moments
        self.wants_rows = head.shrinkage == "ledoit_wolf"
        self._fourth_powers = 0.0

    def add(self, X: Floats, y: NDArray[np.intp], shared: Shared) -> None:
        """Add the fourth powers of the distances of rows to their class means."""
        rows = X - self._moments.means[y]
        squares = np.einsum("ij,ij->i", rows, rows)
        self._fourth_powers += float(squares @ squares)

    def write(self) -> None:
        """Write the weights."""
        head, moments = self._head, self._moments
        n = int(moments.counts.sum())
        covariance = moments.within / n
        shrinkage = head.shrinkage
        if shrinkage == "oas":
            shrinkage = oas_shrinkage(covariance, n)
        elif shrinkage == "ledoit_wolf":
            shrinkage = ledoit_wolf_shrinkage(covariance, n, self._fourth_powers)
        head.shrinkage_, head.class_means_ = float(shrinkage), moments.means
        uniform = np.ones_like(moments.counts)
        priors = moments.counts if head.priors == "empirical" else uniform
        shrunken = shrunk(covariance, head.shrinkage_)
        head.coef_, constants = discriminants(moments.deviations, shrunken, priors / priors.sum())
        head.intercept_ = constants - head.coef_ @ moments.mean


def discriminants(
    deviations: Matrix, covariance: Matrix, priors: NDArray[np.float64]
) -> tuple[Matrix, Matrix]:
    """Return the linear functions that tell normal classes of equal covariance apart.

    Parameters
    ----------
    deviations
        Class means minus the mean of all rows (n_classes, n_features).
    covariance
        Positive semi-definite (n_features, n_features); if singular, its pseudo-inverse is used.
    priors
        Probabilities > 0 of the classes (n_classes,).

    Returns
    -------
    coefs : numpy.ndarray
        Shape (n_outputs, n_features), one output for two classes.
    constants : numpy.ndarray
        Values (n_outputs,) at the mean of all rows.

    Notes
    -----
    ``log p(k | x) = (x - m)ᵀ Σ⁻¹ d_k - ½ d_kᵀ Σ⁻¹ d_k + log prior_k`` up to a function of x, with m
    the mean of all rows and d_k that of the class minus m.
    """
    coefs = Spectrum(covariance).solve(deviations.T, np.zeros(1))[0].T
    halves = 0.5 * np.einsum("kd,kd->k", deviations, coefs)
    constants = np.log(priors) - halves
    if len(priors) == 2:
        coefs, constants = np.diff(coefs, axis=0), np.diff(constants)
    return coefs, constants


def shrunk(covariance: Matrix, shrinkage: float) -> Matrix:
    """Return a covariance shrunk towards the multiple of the identity with the same trace.

    Parameters
    ----------
    covariance
        Matrix (n_features, n_features).
    shrinkage
        From 0 to 1.

    Returns
    -------
    numpy.ndarray
        A new matrix.

    Examples
    --------
    >>> shrunk(np.diag([1.0, 3.0]), 0.5)
    array([[1.5, 0. ],
           [0. , 2.5]])
    """
    result: Matrix = (1 - shrinkage) * covariance
    result.flat[:: len(covariance) + 1] += shrinkage * np.trace(covariance) / len(covariance)
    return result


def oas_shrinkage(covariance: Matrix, n_rows: int) -> float:
    """Return the oracle approximating shrinkage, which is optimal for normal rows.

    Parameters
    ----------
    covariance
        Matrix (n_features, n_features) of the rows about their means, divided by `n_rows`.
    n_rows
        Number of rows.

    Returns
    -------
    float
        From 0 to 1.

    References
    ----------
    Chen, Wiesel, Eldar, Hero, 2010, equation 23, without the terms in 2 / n_features, as in
    scikit-learn.

    Examples
    --------
    >>> round(oas_shrinkage(np.diag([1.0, 3.0]), 100), 3)
    0.129
    """
    n_features = len(covariance)
    mean_square, mean_variance = np.mean(covariance**2), np.trace(covariance) / n_features
    excess = (n_rows + 1) * (mean_square - mean_variance**2 / n_features)
    if excess <= 0:
        return 1.0
    return float(min(1.0, (mean_square + mean_variance**2) / excess))


def ledoit_wolf_shrinkage(covariance: Matrix, n_rows: int, fourth_powers: float) -> float:
    """Return the shrinkage of Ledoit and Wolf, which is optimal for many rows of any distribution.

    Parameters
    ----------
    covariance
        Matrix (n_features, n_features) of the rows about their means, divided by `n_rows`.
    n_rows
        Number of rows.
    fourth_powers
        Sum over rows of the fourth power of the distance to their mean.

    Returns
    -------
    float
        From 0 to 1.

    References
    ----------
    Ledoit, Wolf, 2004.

    Examples
    --------
    >>> X = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
    >>> round(ledoit_wolf_shrinkage(X.T @ X / 4, 4, fourth_powers=1 + 1 + 16 + 16), 3)
    0.944
    """
    n_features = len(covariance)
    squares = float(np.sum(covariance**2))
    distance = squares - np.trace(covariance) ** 2 / n_features
    if distance <= 0:
        return 1.0
    error = (fourth_powers / n_rows - squares) / n_rows
    return float(min(1.0, max(0.0, error / distance)))
