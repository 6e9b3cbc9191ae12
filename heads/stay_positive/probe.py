"""Stay-Positive: a linear probe that only ever sees evidence for the second class."""

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

from sklearn.utils._param_validation import Interval, StrOptions

from heads.linear import LinearHead
from heads.loop.batch_source import BatchSource, Floats
from heads.loop.passes import Trainer
from heads.loop.sampling import Sampling
from heads.stay_positive.relu_layer import ReluLayer
from heads.stay_positive.training import exact_trainers

DEFAULT_L2 = {"exact": 1e-4, "adam_clamp": 0.0}

OPTIONAL = (
    *("hidden_weight_", "hidden_bias_", "objective_", "kkt_residual_", "duality_gap_"),
    *("history_", "selected_epoch_"),
)
"""Learned attributes that only some heads have."""


class StayPositiveProbe(LinearHead):
    """Logistic regression whose weights may not be negative.

    Minimises, over w >= 0 and a free b ::

        1/n Σ class_weight[y] · log(1 + exp(-± (w·x + b))) + l2/2 ‖w‖² + l1 Σ w

    On features that say how much of something there is, and so are not negative, the probe then
    knows no evidence for ``classes_[0]`` (real): an image is real because nothing speaks against
    it. More of any feature never lowers the score; no score is below b.

    The method is made for features behind a ReLU. The output of CLIP or DINO is signed; then set
    `hidden`: a network with one hidden ReLU layer is trained freely on it, that layer frozen, and
    the output layer fitted anew with weights >= 0.

    Parameters
    ----------
    solver
        ``"exact"`` finds the optimum and proves it. ``"adam_clamp"`` is the published training:
        Adam from zero, negative weights set to 0 after every step. With its small learning rate
        that is far from the optimum for thousands of steps, a strong implicit shrinkage.
    l2
        Strength >= 0 of the quadratic penalty. None is 1e-4 with ``"exact"``, with which the
        optimum always exists, and 0 with ``"adam_clamp"``, as published.
    l1
        Strength >= 0 of the linear penalty, which leaves few weights above 0.
    class_weight
        None, a weight > 0 for each label, or ``"balanced"``: ``n_samples / (2 · n_rows_of_class)``.
    allow_signed
        Whether negative features are tolerated: evidence for the first class, if their weight is
        positive. What the probe can express then depends on the basis they come in.
    hidden
        Size of the hidden layer; None fits the weights to the features themselves.
    hidden_learning_rate, hidden_epochs
        Adam's step > 0 and number of epochs for the hidden layer.
    tol
        KKT residual and duality gap at which ``"exact"`` ends, if rounding allows them.
    max_iter
        Most passes over the rows (``"exact"``; if they do not suffice there is a
        `ConvergenceWarning`) or epochs (``"adam_clamp"``), at least 1.
    learning_rate
        Adam's first step > 0 (``"adam_clamp"``).
    batch_size
        Rows per step, at least 1, and even with ``sampling="pair"``.
    patience
        Epochs, at least 1, without a balanced accuracy on validation rows better by more than
        0.001, after which the learning rate is divided by 10; below 1e-6 the training ends.
        Without validation rows all epochs are run (``"adam_clamp"``).
    selection
        ``"validation"`` keeps, if validation rows are given, the best epoch (of the hidden layer:
        by average precision); ``"last"`` the last.
    sampling
        Rows of an epoch, see `heads.loop.sampling`; exact passes see every row once.
    random_state
        Seed >= 0 of the order of the rows and of the hidden layer.
    device
        Where torch computes: ``"cpu"``, ``"cuda"``, ``"cuda:<n>"``, or ``"auto"``.

    Attributes
    ----------
    coef_, intercept_ : ndarray (1, n_features or hidden) and (1,)
        The weights w >= 0 and b; positive decision values mean ``classes_[1]``.
    hidden_weight_, hidden_bias_ : ndarray (hidden, n_features) and (hidden,), float32
        The hidden layer, if there is one.
    objective_ : float
        What is minimised, at the solution (``"exact"``).
    kkt_residual_ : float
        ``max(‖w - max(0, w - ∂w)‖∞, |∂b|)``, 0 at the optimum only (``"exact"``).
    duality_gap_ : float
        No w >= 0 and b have an objective below ``objective_ - duality_gap_``; without any
        penalty, none with ``Σ w`` up to twice that of the solution (``"exact"``).
    history_ : ndarray (n_iter_, 3)
        Per epoch: loss and cross-entropy before each step, means over the rows, and balanced
        accuracy on validation rows, nan without (``"adam_clamp"``).
    selected_epoch_ : int
        Epoch, from 1, whose weights were kept (``"adam_clamp"``).
    n_iter_ : int
        Passes or epochs made, without those of the hidden layer.
    classes_, n_features_in_
        As in scikit-learn.

    Notes
    -----
    With at most 4096 features, and no fewer rows than features, ``"exact"`` accumulates the
    Hessian along with the gradient: ``n_samples · n_features²`` operations per pass and head, 6 to
    12 passes. Otherwise the rows, or a sample of at most 4096 rows and 256 MiB (from the store: a
    sixteenth of ``max_memory``), are held in memory to guess which weights end at 0, and the
    Hessian of the others is accumulated: 10 to 30 passes. If they are more than fit into as much
    again (3000 for one head), it takes some hundred passes of conjugate gradients instead, more
    than `max_iter` with few rows held and a small `l2`. Sums are float64; batches change the result
    by rounding alone.

    Without a penalty there is no optimum if weights >= 0 separate the classes, some of the rows at
    least. That is refused: a Newton step then still moves decision values when the gradient has
    vanished (which may be missed if only a sample of the rows could be held).

    Heads trained together share every pass, the conversion to float64, and the hidden layer if
    they differ in `l2`, `l1`, `tol`, `max_iter`, `learning_rate` and `patience` only.

    A probe always begins anew: the optimum has no beginning, ``"adam_clamp"`` begins at zero as
    published, and what was trained behind the hidden layer at first is not kept.

    The score is convex in what the hidden layer sees: it says that an image lies outside of the
    usual, never inside of something. What a frozen backbone or hidden layer has already turned
    into "absence of a real cue" is not undone by the sign of the last weights.

    References
    ----------
    Rajan, Lee, "Stay-Positive: a case for ignoring real image features in fake image detection",
    ICML 2025.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(200) % 2
    >>> X = rng.exponential(size=(200, 3)) + y[:, None] * [1, 0, -0.5]
    >>> probe = StayPositiveProbe(l2=1e-3).fit(np.maximum(X, 0), y)
    >>> probe.coef_.round(2)
    array([[1.27, 0.12, 0.  ]])
    >>> probe.kkt_residual_ <= 1e-8, probe.duality_gap_ <= 1e-8
    (True, True)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "solver": [StrOptions({"exact", "adam_clamp"})],
        "l2": [Interval(Real, 0, None, closed="left"), None],
        "l1": [Interval(Real, 0, None, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "allow_signed": ["boolean"],
        "hidden": [Interval(Integral, 1, None, closed="left"), None],
        "hidden_learning_rate": [Interval(Real, 0, None, closed="neither")],
        "hidden_epochs": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "patience": [Interval(Integral, 1, None, closed="left")],
        "selection": [StrOptions({"validation", "last"})],
        "sampling": [StrOptions({"rows", "class", "generator", "pair"})],
        "random_state": [Interval(Integral, 0, None, closed="left")],
        "device": [str],
    }

    history_names: ClassVar[tuple[str, ...]] = ("loss", "bce", "val_balanced_accuracy")

    hidden_weight_: Floats
    hidden_bias_: Floats
    objective_: float
    kkt_residual_: float
    duality_gap_: float
    n_iter_: int

    def __init__(  # noqa: PLR0913  keyword-only hyper-parameters
        self,
        *,
        solver: Literal["exact", "adam_clamp"] = "exact",
        l2: float | None = None,
        l1: float = 0.0,
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = None,
        allow_signed: bool = False,
        hidden: int | None = None,
        hidden_learning_rate: float = 1e-3,
        hidden_epochs: int = 20,
        tol: float = 1e-8,
        max_iter: int = 1000,
        learning_rate: float = 1e-4,
        batch_size: int = 512,
        patience: int = 5,
        selection: Literal["validation", "last"] = "validation",
        sampling: Sampling = "rows",
        random_state: int = 0,
        device: str = "auto",
    ) -> None:
        self.solver = solver
        self.l2 = l2
        self.l1 = l1
        self.class_weight = class_weight
        self.allow_signed = allow_signed
        self.hidden = hidden
        self.hidden_learning_rate = hidden_learning_rate
        self.hidden_epochs = hidden_epochs
        self.tol = tol
        self.max_iter = max_iter
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.patience = patience
        self.selection = selection
        self.sampling = sampling
        self.random_state = random_state
        self.device = device

    @property
    def ridge(self) -> float:
        """The strength of the quadratic penalty, be it given or not."""
        return DEFAULT_L2[self.solver] if self.l2 is None else self.l2

    @property
    def selects_on_validation(self) -> bool:
        """Whether training scores validation rows, which then need both classes."""
        has_epochs = self.solver == "adam_clamp" or self.hidden is not None
        return has_epochs and self.selection == "validation"

    @classmethod
    def trainers(cls, heads: Sequence[Self], source: BatchSource) -> list[Trainer]:
        """Return what trains the heads; exact ones share sums, hidden layers are shared, too.

        Parameters
        ----------
        heads
            Probes with any parameters.
        source
            The rows to learn from.

        Returns
        -------
        list of Trainer
            One for all exact heads, one for each other, one for each hidden layer.

        Raises
        ------
        ValueError
            If a parameter is out of its range or the source does not have two classes.
        """
        for head in heads:
            head.check_trainable(source)
            for name in OPTIONAL:
                head.__dict__.pop(name, None)
        made: list[Trainer] = []
        for solver, refit in (("exact", exact_trainers), ("adam_clamp", _adam_clamp)):
            own = [head for head in heads if head.solver == solver]
            if plain := [head for head in own if head.hidden is None]:
                made += refit(plain, source)
            if staged := [head for head in own if head.hidden is not None]:
                from heads.stay_positive.relu_stage import two_stage_trainers

                made += two_stage_trainers(staged, source, refit)
        return made

    def check_learned(self) -> None:
        """Check that the learned attributes fit together; a loaded head is checked by it.

        Raises
        ------
        ValueError
            If an attribute is missing, has the wrong shape or type, or is not finite, a weight is
            negative, or the classes are not sorted.
        """
        super(LinearHead, self).check_learned()
        width = self.n_features_in_
        if self.hidden is not None:
            self._check_array("hidden_weight_", (self.hidden, width))
            self._check_array("hidden_bias_", (self.hidden,))
            width = self.hidden
        self._check_array("coef_", (1, width))
        self._check_array("intercept_", (1,))
        if (least := self.coef_.min()) < 0:
            raise ValueError(f"'coef_' must be >= 0, got {least:.6g}.")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # Classes that differ by what is missing from one of them cannot be told apart without.
        tags.classifier_tags.poor_score = self.hidden is None
        return tags

    def _decide(self, X: Floats) -> Floats:
        if hasattr(self, "hidden_weight_"):
            X = ReluLayer(self.hidden_weight_, self.hidden_bias_)(X)
        return super()._decide(X)


def _adam_clamp(heads: Sequence[StayPositiveProbe], source: BatchSource) -> list[Trainer]:
    """Return a trainer for each head that is trained as published."""
    from heads.stay_positive.adam_clamp import AdamClampTrainer

    return [AdamClampTrainer(head, source) for head in heads]
