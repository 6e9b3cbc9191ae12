"""FiSeR's two levels of contrast, learned by an adapter on frozen features."""

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import TransformerMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from heads.head import DTYPES, ROWS, Head
from heads.logistic.probe import LogisticProbe
from heads.loop.batch_source import BatchSource, Floats
from heads.loop.passes import Trainer
from heads.loop.sampling import Sampling
from heads.neighbours.knn import KNNHead
from heads.neighbours.prototype import PrototypeHead
from heads.svm.probe import FewShotSVM

COMPONENTS = 1024
"""The largest embedding that is made unless a size is asked for."""

FREE = ("scoring", "scoring_params")
"""Parameters in which heads that share an adapter may differ."""

SCORERS: dict[str, type[Head]] = {
    "knn": KNNHead,
    "prototype": PrototypeHead,
    "linear": LogisticProbe,
    "svm": FewShotSVM,
}
"""What can score embeddings."""


class HierarchicalContrastiveHead(TransformerMixin, Head):  # type: ignore[misc]
    """An adapter trained to separate real from fake, and fakes by generator; a scorer on top.

    The adapter ``z = f(x)`` learns from the sum of two contrastive terms, both on cosine
    similarities and in float32: *coarse*, every row against the rows of the other class, and
    *fine*, every synthetic row against those of other generators. A scorer is then trained on
    ``z / ||z||``. `transform` returns these embeddings; always compare the scorer on them with the
    same scorer on the features as they come.

    FiSeR itself fine-tunes the whole backbone (DINOv3 ViT-L/16) with this loss and has no adapter.
    Nothing is published for frozen features: do not expect its numbers from this head.

    Parameters
    ----------
    adapter
        ``"linear"``; ``"mlp"``, the linear one and a correction by one hidden layer; or
        ``"rine"``, RINE's encoder over layers of one width. The first two begin as the identity,
        or, if the embedding has another size than the features, as a random rotation.
    n_components
        Size of the embedding, at least 1; by default the number of features (of one layer for
        ``"rine"``), 1024 at most.
    adapter_params
        Options of the adapter: ``bias`` (True) of ``"linear"``; ``hidden`` (n_components) of
        ``"mlp"``; ``nproj`` (2), ``dropout`` (0.5), ``tie_init`` ("normal") and ``use_tie`` (True)
        of ``"rine"``.
    temperature
        By which similarities are divided, > 0.
    coarse_weight, fine_weight
        Weights >= 0 of the two terms.
    bank_size
        Rows are compared with all rows of their batch, and with this many embeddings of earlier
        batches of the epoch, >= 0, as they were then.
    scoring
        What is trained on the embeddings: ``"knn"`` (`KNNHead`), ``"prototype"``
        (`PrototypeHead`), ``"linear"`` (`LogisticProbe`) or ``"svm"`` (`FewShotSVM`). The first
        and the last hold the embeddings in memory, the last up to 10,000 rows by default.
    scoring_params
        Its hyper-parameters, where they differ from its defaults.
    learning_rate
        Highest step > 0 of AdamW, with moments (0.9, 0.99).
    warmup
        Part of all steps in which the rate rises to `learning_rate`, in [0, 1].
    final_rate
        Part of `learning_rate`, in [0, 1], to which it falls along a cosine.
    weight_decay
        Decoupled decay >= 0 of all weights.
    clip_norm
        Length > 0 to which longer gradients are shortened.
    batch_size
        Rows per step, at least 1: what a row is contrasted with. The last batch of an epoch may
        be smaller.
    max_iter
        Number of epochs, all of which are run.
    sampling
        ``"generator"``: as many real as fake rows, and as many of each generator, or just the
        former where generators are not known. ``"class"``, ``"rows"`` (every row once), ``"pair"``.
    selection
        ``"validation"`` keeps, if validation rows are given, the epoch with the highest average
        precision on them of FiSeR's prototype score, with the class means of the epoch's
        embeddings; ``"last"`` keeps the last.
    random_state
        Seed >= 0 of the initial weights, of dropout and of the order of the rows.
    warm_start
        Whether a head that has been trained goes on from its adapter instead of drawing a new one;
        the scorer is trained anew.
    device
        Where to train: ``"cpu"``, ``"cuda"``, ``"cuda:<n>"``, or ``"auto"`` for the GPU if there is
        one.

    Attributes
    ----------
    adapter_ : dict of str to ndarray
        Weights of the adapter, float32.
    scorer_ : Head
        The trained scorer, for rows as `transform` returns them.
    layers_ : list of int
        Number of features of each layer.
    history_ : ndarray (n_iter_, 4)
        Per epoch: loss, coarse and fine term, validation average precision (nan without validation
        rows). Means over the batches weighted by their rows, before each step.
    selected_epoch_ : int
        Epoch, from 1, whose adapter was kept.
    classes_, n_features_in_, n_iter_
        As in scikit-learn; ``classes_[0]`` is taken for natural, ``classes_[1]`` for synthetic, and
        ``n_iter_`` is the number of epochs run.

    Notes
    -----
    Generators are those of the store, or `groups` of `fit`; those of real rows do not matter. Where
    none are known each class is one generator, and the fine term is 0.

    Published were batches of 80 (limited by the backbone's memory) without balance, so that rare
    generators mostly had no positive; here a batch holds thousands of rows of all generators. A
    row that is repeated in a batch is not its own positive.

    Cost per batch of n rows with a bank of b: ``6 n`` times the number of weights of the adapter,
    and ``4 n (n + b) n_components`` operations. The scorer then reads the rows in stored order as
    often as it would read features. Heads that are trained together and differ in their scorers
    alone share one adapter.

    References
    ----------
    FiSeR's public code, heyongxin233/FiSeR (2026): loss, schedule, optimiser and scoring rules.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(200) % 2
    >>> X = rng.normal(size=(200, 10)) + 2 * y[:, None]
    >>> head = HierarchicalContrastiveHead(n_components=4, max_iter=3, scoring="linear")
    >>> head.fit(X, y, groups=rng.integers(3, size=200)).transform(X).shape
    (200, 4)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "adapter": [StrOptions({"linear", "mlp", "rine"})],
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "adapter_params": [dict, None],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "coarse_weight": [Interval(Real, 0, None, closed="left")],
        "fine_weight": [Interval(Real, 0, None, closed="left")],
        "bank_size": [Interval(Integral, 0, None, closed="left")],
        "scoring": [StrOptions(set(SCORERS))],
        "scoring_params": [dict, None],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "warmup": [Interval(Real, 0, 1, closed="both")],
        "final_rate": [Interval(Real, 0, 1, closed="both")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "clip_norm": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "sampling": [StrOptions({"rows", "class", "generator", "pair"})],
        "selection": [StrOptions({"validation", "last"})],
        "random_state": [Interval(Integral, 0, None, closed="left")],
        "warm_start": ["boolean"],
        "device": [str],
    }

    history_names: ClassVar[tuple[str, ...]] = ("loss", "coarse", "fine", "val_ap")
    """Names of the columns of ``history_``."""

    adapter_: dict[str, NDArray[np.float32]]
    scorer_: Head
    layers_: list[int]
    history_: Floats
    selected_epoch_: int
    n_iter_: int

    def __init__(  # noqa: PLR0913  hyper-parameters
        self,
        *,
        adapter: Literal["linear", "mlp", "rine"] = "linear",
        n_components: int | None = None,
        adapter_params: Mapping[str, Any] | None = None,
        temperature: float = 0.07,
        coarse_weight: float = 1.0,
        fine_weight: float = 1.0,
        bank_size: int = 0,
        scoring: Literal["knn", "prototype", "linear", "svm"] = "knn",
        scoring_params: Mapping[str, Any] | None = None,
        learning_rate: float = 1e-3,
        warmup: float = 0.05,
        final_rate: float = 1 / 6,
        weight_decay: float = 1e-4,
        clip_norm: float = 1.0,
        batch_size: int = 2048,
        max_iter: int = 20,
        sampling: Sampling = "generator",
        selection: Literal["validation", "last"] = "validation",
        random_state: int = 0,
        warm_start: bool = False,
        device: str = "auto",
    ) -> None:
        self.adapter = adapter
        self.n_components = n_components
        self.adapter_params = adapter_params
        self.temperature = temperature
        self.coarse_weight = coarse_weight
        self.fine_weight = fine_weight
        self.bank_size = bank_size
        self.scoring = scoring
        self.scoring_params = scoring_params
        self.learning_rate = learning_rate
        self.warmup = warmup
        self.final_rate = final_rate
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.sampling = sampling
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
        """Return trainers for the heads; those that differ in their scorers share one.

        Parameters
        ----------
        heads
            Heads with any parameters.
        source
            The rows to learn from.

        Returns
        -------
        list of Trainer
            One trainer per adapter to be trained.

        Raises
        ------
        ValueError
            If a parameter, or one of the adapter or the scorer, is not legal, the source does not
            have two classes, or the adapter to go on from is of other features.
        """
        from heads.contrastive.training import ContrastiveTrainer

        adapters: list[tuple[dict[str, Any], list[Self]]] = []
        for head in heads:
            head.check_trainable(source)
            wanted = {k: v for k, v in head.get_params().items() if k not in FREE}
            if head.warm_start and hasattr(head, "adapter_"):
                wanted["adapter_"] = id(head)  # it goes on from its own
            sharing = [own for settings, own in adapters if settings == wanted]
            if sharing:
                sharing[0].append(head)
            else:
                adapters.append((wanted, [head]))
        return [ContrastiveTrainer(own, source) for _, own in adapters]

    def make_scorer(self) -> Head:
        """Return what scores embeddings, not yet trained.

        Returns
        -------
        Head
            An instance of ``SCORERS[scoring]`` with `scoring_params`.

        Raises
        ------
        ValueError
            If it has no such hyper-parameter.
        """
        scorer: Head = SCORERS[self.scoring]().set_params(**(self.scoring_params or {}))
        return scorer

    def transform(self, X: ArrayLike) -> Floats:
        """Return the embeddings of samples, of unit length.

        Parameters
        ----------
        X
            Features (n_samples, n_features).

        Returns
        -------
        numpy.ndarray
            Shape (n_samples, n_components), in the precision of `X`, at least float32. Dot
            products are cosine similarities. Rows are 0 where the adapter's output is.
        """
        check_is_fitted(self)
        features = validate_data(self, X, dtype=DTYPES, reset=False)
        starts = range(0, len(features), ROWS)
        return np.concatenate([self._embed(features[start : start + ROWS]) for start in starts])

    def _embed(self, X: Floats) -> Floats:
        """Return the embeddings of at most `ROWS` rows."""
        import torch
        from torch.nn.functional import normalize

        x = torch.tensor(X, dtype=torch.float64 if X.dtype == np.float64 else torch.float32)
        with torch.inference_mode():
            z: Floats = normalize(self._module().to(x.dtype)(x)).numpy()
        return z

    def n_components_of(self, layers: Sequence[int]) -> int:
        """Return the size of the embedding of features of these widths.

        Parameters
        ----------
        layers
            Number of features of each layer.

        Returns
        -------
        int
            `n_components` if given.
        """
        own = layers[0] if self.adapter == "rine" else sum(layers)
        return self.n_components or min(own, COMPONENTS)

    def _module(self) -> Any:
        """Return the adapter with the learned weights."""
        from heads.contrastive.adapters import load_adapter

        size = self.n_components_of(self.layers_)
        return load_adapter(self.adapter, self.layers_, size, self.adapter_params, self.adapter_)

    def _decide(self, X: Floats) -> Floats:
        return self.scorer_._decide(self._embed(X))

    def check_learned(self) -> None:
        """Check that the learned attributes fit together; a loaded head is checked by it.

        Raises
        ------
        ValueError
            If an attribute is missing, has the wrong shape or type, or is not finite, or if the
            adapter or the scorer are of other features than they should be.
        """
        super().check_learned()
        layers = getattr(self, "layers_", None)
        are_widths = isinstance(layers, list) and all(type(n) is int and n > 0 for n in layers)
        if not are_widths or sum(self.layers_) != self.n_features_in_:
            raise ValueError(
                f"'layers_' must be widths whose sum is {self.n_features_in_}, got {layers!r}."
            )
        self._check_scorer(getattr(self, "scorer_", None))
        self._check_adapter(getattr(self, "adapter_", None))

    def _check_adapter(self, weights: Any) -> None:
        """Check the weights of the adapter."""
        arrays: list[Any] = [*weights.values()] if isinstance(weights, dict) else [None]
        for array in arrays:
            is_float = isinstance(array, np.ndarray) and array.dtype == np.float32
            if not (is_float and np.isfinite(array).all()):
                raise ValueError(f"'adapter_' must hold finite float32 arrays, got {weights!r}.")
        try:
            self._module()
        except (RuntimeError, TypeError) as err:  # torch, of sizes that no tensor can have
            raise ValueError(
                f"'adapter_' must be of a size that can be, got adapter={self.adapter!r} of "
                f"{self.n_features_in_} features with {self.adapter_params!r}."
            ) from err

    def _check_scorer(self, scorer: Any) -> None:
        """Check that the scorer is the one asked for, of these classes and embeddings."""
        kind, size = SCORERS[self.scoring], self.n_components_of(self.layers_)
        if type(scorer) is not kind:
            raise ValueError(f"'scorer_' must be a {kind.__name__}, got {scorer!r}.")
        scorer.check_learned()
        found = scorer.n_features_in_, scorer.classes_.tolist()
        if found != (wanted := (size, self.classes_.tolist())):
            raise ValueError(f"'scorer_' must have features and classes {wanted}, got {found}.")
