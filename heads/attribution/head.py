"""Attribution of images to known generators, with a threshold beyond which none is named."""

from collections.abc import Sequence
from numbers import Real
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import Interval, StrOptions

from heads.closed_form.gram import Matrix
from heads.closed_form.streaming_lda import shrunk
from heads.loop.batch_source import BatchSource, Floats
from heads.loop.passes import Trainer
from heads.one_class.anomaly_head import AnomalyHead, Scored
from heads.one_class.decision_rule import DecisionRule, rule_at
from heads.one_class.gaussian import inverse_root
from heads.one_class.training import AnomalyTrainer, ClassStatistics

UNKNOWN = "unknown"
"""What a rejected image is attributed to."""


class Generators(NamedTuple):
    """Normal distributions with one covariance.

    ``location`` is the mean of the class means, ``whitening`` the W with ``W Wᵀ`` the inverse
    covariance, ``centers`` (n_classes, n_features) the class means minus the location, times W.
    """

    location: Floats
    whitening: Matrix
    centers: Floats
    shrinkage: float

    def distances(self, X: Floats) -> Floats:
        """Return squared Mahalanobis distances (n, n_classes) of rows to all class means."""
        Z = (X - self.location) @ self.whitening
        lengths, own = (
            np.einsum("ij,ij->i", Z, Z),
            np.einsum("kj,kj->k", self.centers, self.centers),
        )
        distances: Floats = np.maximum(lengths[:, None] - 2 * Z @ self.centers.T + own, 0)
        return distances

    def scores(self, X: Floats) -> Floats:
        """Return squared Mahalanobis distances (n,) of rows to the nearest class mean."""
        nearest: Floats = self.distances(X).min(1)
        return nearest


class GeneratorAttribution(AnomalyHead):
    """Names the generator whose images are nearest, or none if even these are too far.

    Classes are normal distributions with one covariance Σ, shrunk towards a multiple of the
    identity, and equally frequent: linear discriminant analysis with uniform priors. The class
    named is the one with the smallest squared Mahalanobis distance ``(x - μ)ᵀ Σ⁻¹ (x - μ)``, and
    that distance is the anomaly score, above whose threshold an image is rejected: no generator
    known made it.

    Train it with ``heads.fit(head, ds, val, target="generator")``.

    Parameters
    ----------
    shrinkage
        Share in [0, 1] of the identity, or ``"ledoit_wolf"`` for the estimated optimum. 0 is the
        plain covariance, which must then be invertible.
    rejection_rate
        Share in [0, 1) of the rows that set the threshold, all of known generators, that may be
        rejected.
    selection
        Rows that set the threshold: ``"validation"`` for validation rows of known generators, if
        there are any, and the training rows otherwise; ``"training"`` for those in any case, which
        rejects more than `rejection_rate` of new images of known generators.

    Attributes
    ----------
    location_ : ndarray (n_features,)
        Mean of the class means.
    whitening_ : ndarray (n_features, n_features)
        Upper triangular W with ``W Wᵀ`` the inverse of the shrunk covariance.
    centers_ : ndarray (n_classes, n_features)
        Class means minus the location, times W.
    shrinkage_ : float
        The shrinkage used.
    threshold_, spread_, direction_, center_, rate_, n_threshold_rows_
        The rule of rejection, see `AnomalyHead`.
    classes_, n_features_in_
        As in scikit-learn.

    Notes
    -----
    ``predict``, ``predict_proba`` and ``decision_function`` are closed-set: they always name a
    known generator, and probabilities suppose that one of them made the image. ``predict_open``
    may reject.

    Statistics add up over batches in any order. One pass costs ``n p²`` operations for p features;
    Ledoit and Wolf's shrinkage takes another of ``n p``, a threshold from training rows one of
    ``n p²``, and solving ``2 p³ / 3``.

    References
    ----------
    Lee, Lee, Lee, Shin, "A simple unified framework for detecting out-of-distribution samples and
    adversarial attacks", NeurIPS 2018, for the distance to the nearest class with one covariance.
    Ledoit, Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", Journal
    of Multivariate Analysis 88, 2004.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(300) % 3
    >>> X = rng.normal(size=(300, 4)) + 6 * np.eye(3, 4)[y]
    >>> head = GeneratorAttribution().fit(X, np.array(["biggan", "glide", "ldm"])[y])
    >>> head.predict_open([[6.0, 0, 0, 0], [0, 0, 0, 30]]).tolist()
    ['biggan', 'unknown']
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "shrinkage": [StrOptions({"ledoit_wolf"}), Interval(Real, 0, 1, closed="both")],
        "rejection_rate": [Interval(Real, 0, 1, closed="left")],
        "selection": [StrOptions({"validation", "training"})],
    }
    multiclass: ClassVar[bool] = True
    model = Generators

    location_: Floats
    whitening_: Matrix
    centers_: Floats
    shrinkage_: float

    def __init__(
        self,
        *,
        shrinkage: float | Literal["ledoit_wolf"] = "ledoit_wolf",
        rejection_rate: float = 0.05,
        selection: Literal["validation", "training"] = "validation",
    ) -> None:
        self.shrinkage = shrinkage
        self.rejection_rate = rejection_rate
        self.selection = selection

    @classmethod
    def trainers(cls, heads: Sequence[Self], source: BatchSource) -> list[Trainer]:
        """Return one trainer for all heads: they differ in what they make of the same statistics.

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
            If a parameter is out of its range, there is one class only, or the covariance does not
            fit in memory.
        """
        for head in heads:
            head.check_trainable(source)
        estimated = any(head.shrinkage == "ledoit_wolf" for head in heads)
        n_known = len(source.classes)
        return [AnomalyTrainer(heads, source, n_known=n_known, fourth_powers=estimated)]

    def solve(self, statistics: ClassStatistics) -> Generators:
        """Return the normal distributions of the generators.

        Parameters
        ----------
        statistics
            Of all generators.

        Returns
        -------
        Generators
            With one covariance, shrunk.

        Raises
        ------
        ValueError
            If a generator has no rows, a feature is not finite, or the covariance is singular.
        """
        covariance, share = statistics.covariance(), self.shrinkage
        if isinstance(share, str):
            share = statistics.ledoit_wolf(covariance)
        whitening = inverse_root(shrunk(covariance, share))
        offsets = statistics.moments.offsets
        middle = offsets.mean(0)
        location = statistics.moments.origin + middle
        return Generators(location, whitening, (offsets - middle) @ whitening, float(share))

    def decision_rule(self, training: Floats | None, validation: Scored | None) -> DecisionRule:
        """Return the rule of rejection that the scores of known rows give.

        Parameters
        ----------
        training
            Scores (n,) of the training rows; None if `validation` decides.
        validation
            Scores and classes of validation rows, if there are any.

        Returns
        -------
        DecisionRule
            Threshold and spread.
        """
        on_validation = validation is not None and self.selection == "validation"
        scores = validation[0] if on_validation and validation is not None else training
        assert scores is not None
        return rule_at(scores, self.rejection_rate, "high")

    def rejects(self, X: ArrayLike) -> NDArray[np.bool_]:
        """Return which images no known generator made.

        Parameters
        ----------
        X
            Features (n_samples, n_features).

        Returns
        -------
        numpy.ndarray
            Booleans (n_samples,).
        """
        rejected: NDArray[np.bool_] = self.anomaly_scores(X) > self.threshold_
        return rejected

    def predict_open(self, X: ArrayLike, unknown: Any = UNKNOWN) -> NDArray[Any]:
        """Return the generator of each image, or that it is not known.

        Parameters
        ----------
        X
            Features (n_samples, n_features).
        unknown
            What to return for rejected images.

        Returns
        -------
        numpy.ndarray
            Labels (n_samples,), of type object.
        """
        labels = self.predict(X).astype(object)
        labels[self.rejects(X)] = unknown
        return labels

    def _decide(self, X: Floats) -> Floats:
        values: Floats = -0.5 * self.learned().distances(X)
        return values[:, 1] - values[:, 0] if len(self.classes_) == 2 else values

    def check_learned(self) -> None:
        """Check that the learned attributes fit together; a loaded head is checked by it.

        Raises
        ------
        ValueError
            If an attribute is missing, has the wrong shape or type, or is out of range.
        """
        super().check_learned()
        p = self.n_features_in_
        self._check_array("location_", (p,))
        self._check_array("whitening_", (p, p))
        self._check_array("centers_", (len(self.classes_), p))
