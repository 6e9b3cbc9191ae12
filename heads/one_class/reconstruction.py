"""Real images through a bottleneck: what it cannot reproduce is called fake."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from heads.loop.batch_source import BatchSource, Floats
from heads.loop.passes import Trainer
from heads.one_class.anomaly_head import Model
from heads.one_class.autoencoder import Autoencoder, projection
from heads.one_class.decision_rule import DecisionRule, Direction
from heads.one_class.rows import OneClassHead
from heads.one_class.training import AnomalyTrainer, ClassStatistics

Error = Literal["rec", "scl", "sum"]


class ReconstructionOneClass(OneClassHead):
    """Bottleneck fitted on real images; images that it reproduces unusually are called fake.

    A code of `n_components` numbers is made of the features r of an image, and from it their
    reconstruction r̂, by an encoder and a decoder that know the real training rows (those of
    ``classes_[0]``) only. There are two errors, ::

        rec = mean ((r - r̂) / scale)²          scl = ‖enc(r) - enc(r̂)‖²

    the second the disagreement of an image and its reconstruction in the eyes of the encoder.

    Parameters
    ----------
    method
        ``"pca"``: projection on the principal components, in closed form. ``"autoencoder"``: two
        layers, ``tanh`` of a linear code and a linear decoder, by Adam on the mean of ``rec``.
    n_components
        Numbers in the code, at least 1; fewer than features for ``"pca"``.
    error
        The anomaly score: ``"rec"``, ``"scl"``, or ``"sum"`` of both, each in units of its standard
        deviation over the real training rows (their means are left to the threshold). For ``"pca"``
        it must be ``"rec"``: a projection of a projection is itself, ``scl`` is zero.
    standardize
        ``"zscore"`` measures ``rec`` in standard deviations of each feature over the real rows, and
        for ``"pca"`` takes the components of the correlation matrix; ``"none"`` takes features as
        they come.
    fpr, selection, direction
        The decision rule, as in `GaussianOneClass`. Which direction is unusual is not known
        beforehand: smooth fakes may be reproduced *better* than real images.
    learning_rate, batch_size, max_iter, random_state, device
        Of the autoencoder: step > 0 of Adam, rows per step, epochs (the last is kept), seed >= 0,
        and ``"cpu"``, ``"cuda"``, ``"cuda:<n>"`` or ``"auto"``.
    warm_start
        Whether an autoencoder that has been trained goes on from its weights; scale and threshold
        are always those of the rows given.

    Attributes
    ----------
    encoder_weight_, encoder_bias_ : ndarray (n_components, n_features) and (n_components,)
        The encoder, float64, for features as they come.
    decoder_weight_, decoder_bias_ : ndarray (n_features, n_components) and (n_features,)
        The decoder, likewise.
    scale_ : ndarray (n_features,)
        Units of ``rec``.
    error_weights_ : ndarray (2,)
        Weights of ``rec`` and ``scl`` in the score.
    squash_ : int
        1 if codes go through tanh, else 0.
    history_, n_iter_, selected_epoch_
        Of the autoencoder: ``history_`` (n_iter_, 1) holds the mean ``rec`` of every epoch, before
        each step; the last epoch is the one kept. For ``"pca"`` empty, 1 and absent.
    threshold_, spread_, direction_, center_, rate_, n_threshold_rows_
        The decision rule, see `OneClassHead`.
    classes_, n_features_in_
        As in scikit-learn.

    Notes
    -----
    Expect little of it. Published one-class scores on smooth patches come from networks trained
    end to end; on features of images that were compressed before, simple reconstruction errors have
    been measured near chance (area under the ROC curve between 0.40 and 0.54, that is, in either
    direction). Report it beside heads that see fakes, and ``direction="validation"`` beside
    ``"two_sided"``.

    ``"pca"`` costs what `GaussianOneClass` costs, without the pass for the shrinkage.
    ``"autoencoder"`` reads the rows once for the scale, once per epoch and once for the threshold.
    ``predict_proba`` is the logistic function of the decision value, *not* a calibrated
    probability.

    References
    ----------
    "Secrets Lie in Smooth Patches", code of the repository 807839919/SLSP, for both errors.
    Jolliffe, "Principal component analysis", 2nd ed., 2002, section 10.1, for ``rec``.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> real = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 6)) + 0.1 * rng.normal(size=(200, 6))
    >>> head = ReconstructionOneClass(n_components=2).fit(real, np.zeros(200))
    >>> head.predict(real).mean(), head.predict(rng.normal(size=(50, 6))).mean() > 0.9
    (np.float64(0.05), np.True_)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "method": [StrOptions({"pca", "autoencoder"})],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "error": [StrOptions({"rec", "scl", "sum"})],
        "standardize": [StrOptions({"none", "zscore"})],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "random_state": [Interval(Integral, 0, None, closed="left")],
        "warm_start": ["boolean"],
        "device": [str],
        **OneClassHead.common_constraints,
    }
    history_names: ClassVar[tuple[str, ...]] = ("loss",)
    model = Autoencoder

    encoder_weight_: Floats
    scale_: Floats
    history_: Floats
    n_iter_: int
    selected_epoch_: int

    def __init__(  # noqa: PLR0913  hyper-parameters
        self,
        *,
        method: Literal["pca", "autoencoder"] = "pca",
        n_components: int = 24,
        error: Error = "rec",
        standardize: Literal["none", "zscore"] = "zscore",
        fpr: float = 0.05,
        selection: Literal["validation", "training"] = "validation",
        direction: Direction | Literal["validation"] = "high",
        learning_rate: float = 1e-3,
        batch_size: int = 256,
        max_iter: int = 50,
        random_state: int = 0,
        warm_start: bool = False,
        device: str = "auto",
    ) -> None:
        self.method = method
        self.n_components = n_components
        self.error = error
        self.standardize = standardize
        self.fpr = fpr
        self.selection = selection
        self.direction = direction
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.random_state = random_state
        self.warm_start = warm_start
        self.device = device

    @classmethod
    def trainers(cls, heads: Sequence[Self], source: BatchSource) -> list[Trainer]:
        """Return one trainer for all projections, and one for each autoencoder.

        Parameters
        ----------
        heads
            Heads with any parameters.
        source
            The rows to learn from.

        Returns
        -------
        list of Trainer
            Trainers that have the heads as members.

        Raises
        ------
        ValueError
            If a parameter is out of its range, or the source has more than two classes.
        """
        for head in heads:
            head.check_trainable(source)
        closed = [head for head in heads if head.method == "pca"]
        trainers: list[Trainer] = []
        if closed:
            trainers.append(AnomalyTrainer(closed, source, n_known=1))
        if len(closed) < len(heads):
            from heads.one_class.reconstruction_training import AutoencoderTrainer

            gradual = [head for head in heads if head.method == "autoencoder"]
            trainers += [AutoencoderTrainer(head, source) for head in gradual]
        return trainers

    def check_trainable(self, source: BatchSource) -> None:
        """Check the hyper-parameters and the classes; to be called by ``trainers``.

        Parameters
        ----------
        source
            The rows to learn from.

        Raises
        ------
        ValueError
            If a hyper-parameter is out of range, or a projection could not differ from the rows.
        """
        super().check_trainable(source)
        if self.method != "pca":
            return
        if self.error != "rec":
            raise ValueError(
                f"'error' must be 'rec' with method='pca', as the code of a projection does not "
                f"change when it is projected again, got {self.error!r}; choose "
                f"method='autoencoder'."
            )
        if self.n_components >= source.n_features:
            raise ValueError(
                f"'n_components' must be below n_features={source.n_features} with method='pca', "
                f"as nothing is left otherwise, got {self.n_components}."
            )

    def solve(self, statistics: ClassStatistics) -> Autoencoder:
        """Return the projection on the principal components of the real rows.

        Parameters
        ----------
        statistics
            Of the real rows.

        Returns
        -------
        Autoencoder
            Without squashing.

        Raises
        ------
        ValueError
            If there are fewer than two rows, or a feature is not finite.
        """
        covariance, mean = statistics.covariance(), statistics.moments.means[0]
        scale = np.ones_like(mean)
        if self.standardize == "zscore":
            deviations = np.sqrt(np.diag(covariance))
            scale[deviations > 0] = deviations[deviations > 0]
        return projection(covariance, mean, scale, self.n_components)

    def learn(self, model: Model, rule: DecisionRule) -> None:
        """Write the learned attributes; those of the epochs say that there were none.

        Parameters
        ----------
        model
            What was learned of real rows.
        rule
            The decision rule.
        """
        super().learn(model, rule)
        self.history_, self.n_iter_ = np.empty((0, 1)), 1
        self.__dict__.pop("selected_epoch_", None)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score = True  # what is far from the real rows may lie on an axis
        return tags

    def check_learned(self) -> None:
        """Check that the learned attributes fit together; a loaded head is checked by it.

        Raises
        ------
        ValueError
            If an attribute is missing, has the wrong shape or type, or is out of range.
        """
        super().check_learned()
        p, k = self.n_features_in_, self.n_components
        shapes = {
            "encoder_weight_": (k, p),
            "encoder_bias_": (k,),
            "decoder_weight_": (p, k),
            "decoder_bias_": (p,),
            "scale_": (p,),
            "error_weights_": (2,),
        }
        for name, shape in shapes.items():
            self._check_array(name, shape)
        if (self.scale_ <= 0).any():
            raise ValueError("'scale_' must be > 0 everywhere; it is not.")
        if (squash := getattr(self, "squash_", None)) != int(self.method == "autoencoder"):
            raise ValueError(f"'squash_' must be 1 for an autoencoder, else 0, got {squash!r}.")
