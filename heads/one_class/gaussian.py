"""One Gaussian for real images: squared Mahalanobis distance, out of core."""

from collections.abc import Sequence
from numbers import Real
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from sklearn.utils._param_validation import Interval, StrOptions

from heads.closed_form.gram import Matrix
from heads.closed_form.streaming_lda import shrunk
from heads.loop.batch_source import BatchSource, Floats
from heads.loop.passes import Trainer
from heads.one_class.decision_rule import Direction
from heads.one_class.rows import OneClassHead
from heads.one_class.training import AnomalyTrainer, ClassStatistics

SINGULAR = 1e-13
"""Share of a feature's variance below which what others do not explain of it is rounding."""


class Gaussian(NamedTuple):
    """A Gaussian: its mean, the W with ``W Wᵀ`` the inverse covariance, and the shrinkage."""

    location: Floats
    whitening: Matrix
    shrinkage: float

    def scores(self, X: Floats) -> Floats:
        """Return squared Mahalanobis distances (n,) of rows (n, n_features)."""
        Z = (X - self.location) @ self.whitening
        distances: Floats = np.einsum("ij,ij->i", Z, Z)
        return distances


class GaussianOneClass(OneClassHead):
    """Gaussian fitted on real images; images far from it are called fake.

    The anomaly score is the squared Mahalanobis distance ``(x - μ)ᵀ Σ⁻¹ (x - μ)`` with mean and
    covariance of the real training rows (those of ``classes_[0]``), the covariance shrunk towards a
    multiple of the identity, ``(1 - α) S + α (tr S / p) I``. An image is called fake when its score
    is above the one exceeded by a share `fpr` of real images.

    Parameters
    ----------
    shrinkage
        α in [0, 1], or ``"ledoit_wolf"`` for the estimated optimum. 0 is the plain covariance,
        which must then be invertible.
    fpr
        Share in [0, 1) of the real rows that set the threshold, of which so many may be called
        fake. With fewer than ``1 / fpr`` rows none is.
    selection
        Rows that set the threshold: ``"validation"`` for the real validation rows, if validation
        rows are given, and the training rows otherwise; ``"training"`` for the training rows in any
        case. The Gaussian is closer to the rows it was fitted on than to others, so a threshold
        from training rows calls more than `fpr` of new real images fake, many more when rows are
        not much more numerous than features.
    direction
        Which scores are unusual: ``"high"``, ``"low"``, ``"two_sided"`` (far from the median), or
        ``"validation"`` for high or low, whichever ranks validation rows of both classes better;
        the head is then no longer trained on real images alone.

    Attributes
    ----------
    location_ : ndarray (n_features,), float64
        Mean of the real rows.
    whitening_ : ndarray (n_features, n_features), float64
        Upper triangular W with ``W Wᵀ`` the inverse of the shrunk covariance.
    shrinkage_ : float
        The α used.
    threshold_, spread_, direction_, center_, rate_, n_threshold_rows_
        The decision rule, see `OneClassHead`.
    classes_, n_features_in_
        As in scikit-learn.

    Notes
    -----
    Training takes one pass of ``n p²`` operations for p features, one of ``n p`` for Ledoit and
    Wolf's α, one of ``n p²`` for a threshold from training rows, and ``2 p³ / 3`` to solve; memory
    is a few matrices of ``8 p²`` bytes, whatever the number of rows. Heads that are trained
    together share the passes.

    On features of a frozen backbone fakes often lie where real images do, or nearer to their mean:
    expect a ranking not far from chance, in either direction, and report it beside heads that see
    fakes.

    Rows may hold real images only. Rows of both classes give the same head, for fakes are skipped;
    leave them out of the selection, as reading them takes time.

    ``predict_proba`` is the logistic function of the decision value: it ranks images as the
    distance does, is above one half for images called fake, and is *not* a calibrated probability,
    which real images alone cannot give.

    References
    ----------
    Ledoit, Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", Journal
    of Multivariate Analysis 88, 2004. Mahalanobis, "On the generalised distance in statistics",
    1936.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> real, fake = rng.normal(size=(200, 3)), rng.normal(size=(50, 3)) + 5
    >>> head = GaussianOneClass(fpr=0.05).fit(real, np.zeros(200))
    >>> head.predict(real).mean(), head.predict(fake).mean()
    (np.float64(0.05), np.float64(1.0))
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "shrinkage": [StrOptions({"ledoit_wolf"}), Interval(Real, 0, 1, closed="both")],
        **OneClassHead.common_constraints,
    }
    model = Gaussian

    location_: Floats
    whitening_: Matrix
    shrinkage_: float

    def __init__(
        self,
        *,
        shrinkage: float | Literal["ledoit_wolf"] = "ledoit_wolf",
        fpr: float = 0.05,
        selection: Literal["validation", "training"] = "validation",
        direction: Direction | Literal["validation"] = "high",
    ) -> None:
        self.shrinkage = shrinkage
        self.fpr = fpr
        self.selection = selection
        self.direction = direction

    @classmethod
    def trainers(cls, heads: Sequence[Self], source: BatchSource) -> list[Trainer]:
        """Return one trainer for all heads: they differ in what they make of the same moments.

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
            If a parameter is out of its range, the source has more than two classes, or the
            covariance does not fit in memory.
        """
        for head in heads:
            head.check_trainable(source)
        estimated = any(head.shrinkage == "ledoit_wolf" for head in heads)
        return [AnomalyTrainer(heads, source, n_known=1, fourth_powers=estimated)]

    def solve(self, statistics: ClassStatistics) -> Gaussian:
        """Return the Gaussian of the real rows.

        Parameters
        ----------
        statistics
            Of the real rows.

        Returns
        -------
        Gaussian
            With the covariance shrunk.

        Raises
        ------
        ValueError
            If there are fewer than two rows, a feature is not finite, or the covariance is
            singular.
        """
        covariance, share = statistics.covariance(), self.shrinkage
        if isinstance(share, str):
            share = statistics.ledoit_wolf(covariance)
        whitening = inverse_root(shrunk(covariance, share))
        return Gaussian(statistics.moments.means[0], whitening, float(share))

    def check_learned(self) -> None:
        """Check that the learned attributes fit together; a loaded head is checked by it.

        Raises
        ------
        ValueError
            If an attribute is missing, has the wrong shape or type, or is out of range.
        """
        super().check_learned()
        self._check_array("location_", (self.n_features_in_,))
        self._check_array("whitening_", (self.n_features_in_,) * 2)


def inverse_root(covariance: Matrix) -> Matrix:
    """Return the triangular W with ``W Wᵀ`` the inverse of a covariance.

    Parameters
    ----------
    covariance
        Matrix (n_features, n_features), symmetric; it is overwritten.

    Returns
    -------
    numpy.ndarray
        Upper triangular.

    Raises
    ------
    ValueError
        If the covariance is singular.

    Examples
    --------
    >>> inverse_root(np.diag([4.0, 0.25]))
    array([[0.5, 0. ],
           [0. , 2. ]])
    """
    size, variances = len(covariance), np.diag(covariance).copy()
    singular = ValueError(
        f"the covariance of the rows ({size} features) must be invertible, but is not, as some "
        f"features are constant or follow from others, or there are too few rows; choose "
        f"shrinkage > 0, or other rows if all are equal."
    )
    try:
        root = cholesky(covariance, overwrite_a=True)
    except np.linalg.LinAlgError as err:
        raise singular from err
    if (np.diag(root) ** 2 <= SINGULAR * variances).any():
        raise singular
    inverse: Matrix = solve_triangular(root, np.eye(size), overwrite_b=True)
    return inverse
