"""The HSIC bottleneck: a linear probe regularised by kernel independence."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import TransformerMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from heads.head import DTYPES
from heads.hsic.statistics import Median
from heads.linear import LinearHead
from heads.loop.batch_source import BatchSource, Floats
from heads.loop.passes import Trainer

STACK_BYTES = 2**30
"""Memory of one stack of heads: their weights and a copy of each head's best epoch."""

FREE = ("lambda_x", "lambda_y", "learning_rate")
"""Parameters in which the heads of one stack may differ."""

FOLD = 1e-4
"""Tolerated float32 rounding between the layers and their product."""


class HSICProbe(TransformerMixin, LinearHead):  # type: ignore[misc]
    """Linear encoder and classifier trained on cross-entropy and an HSIC bottleneck.

    The representation ``z = f(x)`` (`n_components` numbers, no activation) is pulled away from
    the input and towards the label::

        loss = BCE(g(z), y) + lambda_x · HSIC(x, z) - lambda_y · HSIC(y, z)

    with the biased HSIC, Gaussian kernels on x and z whose bandwidths are medians, and the delta
    kernel on labels. HSIC trains the encoder f alone, BCE trains f and the classifier g. As both
    are linear, the trained probe is one vector, `coef_`.

    The defaults are the published settings for training on Stable Diffusion 1.4
    (``lambda_x=900, lambda_y=700``); for training on ProGAN use ``lambda_x=500, lambda_y=600``.
    What the paper leaves open (batch size, epochs, seed, which median, the gradient through σ) is
    as in the first author's later public code, jamesyoung0623/Syn3D-Bench.

    Parameters
    ----------
    n_components
        Size of the representation, at least 1.
    lambda_x, lambda_y
        Weights >= 0 of HSIC(x, z) and HSIC(y, z). With both zero this is a plain BCE probe.
    sigma_grad
        ``"attached"`` differentiates the bandwidth of z: the HSIC terms then do not change with
        the scale of z. ``"detached"`` treats it as a constant of the batch.
    median
        Squared distances whose (lower) median is σ²: all n² of the batch including the zero
        diagonal (``"with_diag"``) or those off the diagonal (``"offdiag"``).
    standardize
        ``"none"`` feeds raw features; ``"zscore"`` gives each feature mean 0 and
        variance 1 over the training rows, at the cost of one more pass over them. The scaling is
        folded into the learned weights.
    learning_rate
        Step > 0 of plain stochastic gradient descent (no momentum, no decay, no schedule).
    batch_size
        Rows per step, at least 1. The last batch of an epoch may be smaller; batches of fewer
        than four rows take a step on BCE alone.
    max_iter
        Number of epochs, all of which are run.
    selection
        ``"validation"`` keeps, if validation rows are given, the epoch with the highest average
        precision on them (the later of equal ones), and the last epoch otherwise. ``"last"``
        keeps the last.
    random_state
        Seed >= 0 of the initial weights and of the order of the rows.
    warm_start
        Whether a probe that has been trained goes on from its weights instead of drawing new ones.
    device
        Where to train: ``"cpu"``, ``"cuda"``, ``"cuda:<n>"``, or ``"auto"`` for the GPU if there is
        one.

    Attributes
    ----------
    coef_, intercept_ : ndarray (1, n_features) and (1,), float32
        The folded probe; positive decision values mean ``classes_[1]``.
    encoder_weight_, encoder_bias_ : ndarray (n_components, n_features) and (n_components,)
        The encoder f, float32, for features as they come (not standardised).
    classifier_weight_, classifier_bias_ : ndarray (1, n_components) and (1,)
        The classifier g, float32.
    history_ : ndarray (n_iter_, 5)
        Per epoch: loss, BCE, HSIC(x, z), HSIC(y, z), validation average precision (nan without
        validation rows). Means over the batches weighted by their rows, before each step.
    selected_epoch_ : int
        Epoch, from 1, whose weights were kept.
    classes_, n_features_in_, n_iter_
        As in scikit-learn; ``n_iter_`` is the number of epochs run.

    Notes
    -----
    Training is in float32; float64 input is rounded to it. The label kernel is the delta kernel
    by definition and not through a median of label distances, which would be zero and give the
    same. In batches of one class HSIC(y, z) is zero.

    With ``sigma_grad="attached"`` the loss is not smooth: the gradient of σ lands on the one pair
    of samples at the median. Rounding can change which pair that is, so runs that differ in the
    last digit (another device, another number of threads) drift apart slowly.

    Cost per batch of n rows: ``4 n · n_features · n_components`` operations for the weights and
    ``2 n² · n_features`` for the input kernel, the larger part when ``n > 2 n_components``. Heads
    trained together pay for reading and the input kernel once, and those that differ only in
    `lambda_x`, `lambda_y` and `learning_rate` are one matrix product.

    References
    ----------
    Yang, Chuang, Chen, Liu, "HSIC Bottleneck for Cross-Generator and Domain-Incremental Synthetic
    Image Detection", ICLR 2026, equation 6. Ma, Lewis, Kleijn, "The HSIC bottleneck: deep
    learning without back-propagation", AAAI 2020.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(200) % 2
    >>> X = rng.normal(size=(200, 10)) + 2 * y[:, None]
    >>> probe = HSICProbe(learning_rate=0.1, max_iter=20).fit(X, y)
    >>> probe.score(X, y) > 0.95
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "lambda_x": [Interval(Real, 0, None, closed="left")],
        "lambda_y": [Interval(Real, 0, None, closed="left")],
        "sigma_grad": [StrOptions({"attached", "detached"})],
        "median": [StrOptions({"with_diag", "offdiag"})],
        "standardize": [StrOptions({"none", "zscore"})],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "selection": [StrOptions({"validation", "last"})],
        "random_state": [Interval(Integral, 0, None, closed="left")],
        "warm_start": ["boolean"],
        "device": [str],
    }

    history_names: ClassVar[tuple[str, ...]] = ("loss", "bce", "hsic_x", "hsic_y", "val_ap")
    """Names of the columns of ``history_``."""

    encoder_weight_: NDArray[np.float32]
    encoder_bias_: NDArray[np.float32]
    classifier_weight_: NDArray[np.float32]
    classifier_bias_: NDArray[np.float32]
    history_: Floats
    selected_epoch_: int
    n_iter_: int

    def __init__(  # noqa: PLR0913  hyper-parameters
        self,
        *,
        n_components: int = 64,
        lambda_x: float = 900.0,
        lambda_y: float = 700.0,
        sigma_grad: Literal["attached", "detached"] = "attached",
        median: Median = "with_diag",
        standardize: Literal["none", "zscore"] = "none",
        learning_rate: float = 1e-4,
        batch_size: int = 128,
        max_iter: int = 100,
        selection: Literal["validation", "last"] = "validation",
        random_state: int = 99,
        warm_start: bool = False,
        device: str = "auto",
    ) -> None:
        self.n_components = n_components
        self.lambda_x = lambda_x
        self.lambda_y = lambda_y
        self.sigma_grad = sigma_grad
        self.median = median
        self.standardize = standardize
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.selection = selection
        self.random_state = random_state
        self.warm_start = warm_start
        self.device = device

    @property
    def selects_on_validation(self) -> bool:
        """Whether training scores validation rows, which then need both classes."""
        return self.selection == "validation"

    @classmethod
    def trainers(cls, heads: Sequence[Self], source: BatchSource) -> list[Trainer]:
        """Return trainers for the heads; those that can be one matrix product share a trainer.

        Parameters
        ----------
        heads
            Probes with any parameters.
        source
            The rows to learn from.

        Returns
        -------
        list of Trainer
            Heads that differ in `lambda_x`, `lambda_y` and `learning_rate` at most are stacked,
            up to 1 GiB of weights per stack.

        Raises
        ------
        ValueError
            If a parameter is out of its range, the source does not have two classes, or the
            weights to go on from are of other features.
        """
        from heads.hsic.training import HSICTrainer

        stacks: dict[tuple[Any, ...], list[Self]] = {}
        for head in heads:
            head.check_trainable(source)
            fixed = {k: v for k, v in head.get_params().items() if k not in FREE}
            stacks.setdefault(tuple(fixed.values()), []).append(head)
        trainers: list[Trainer] = []
        for stack in stacks.values():
            size = max(1, STACK_BYTES // (8 * stack[0].n_components * source.n_features))
            trainers += [
                HSICTrainer(stack[start : start + size], source)
                for start in range(0, len(stack), size)
            ]
        return trainers

    def transform(self, X: ArrayLike) -> Floats:
        """Return the representations z of samples.

        Parameters
        ----------
        X
            Features (n_samples, n_features).

        Returns
        -------
        numpy.ndarray
            ``z`` (n_samples, n_components), in the precision of `X`.
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
            If an attribute is missing, has the wrong shape or type, or is not finite, or if the
            encoder and the classifier do not fold to `coef_` and `intercept_`.
        """
        super().check_learned()
        h = self.n_components
        shapes = {
            "encoder_weight_": (h, self.n_features_in_),
            "encoder_bias_": (h,),
            "classifier_weight_": (1, h),
            "classifier_bias_": (1,),
        }
        for name, shape in shapes.items():
            self._check_array(name, shape)
        fold = self.classifier_weight_ @ self.encoder_weight_
        if not np.allclose(fold, self.coef_, rtol=FOLD, atol=FOLD * np.abs(self.coef_).max()):
            raise ValueError("'coef_' must be 'classifier_weight_' @ 'encoder_weight_'; it is not.")
        terms = np.append(self.classifier_weight_ * self.encoder_bias_, self.classifier_bias_)
        rounding = FOLD * np.abs(terms).sum()  # the terms may nearly cancel
        if not np.allclose(terms.sum(), self.intercept_, rtol=FOLD, atol=rounding):
            raise ValueError(
                "'intercept_' must be 'classifier_weight_' @ 'encoder_bias_' + 'classifier_bias_'; "
                "it is not."
            )
