"""RINE: representations of all encoder blocks, weighted by learned importance."""

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import TransformerMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from heads.head import DTYPES, ROWS, Head
from heads.loop.batch_source import BatchSource, Floats
from heads.loop.passes import Trainer
from heads.loop.sampling import Sampling
from heads.rine.weights import RINEShape, blocks_of

if TYPE_CHECKING:
    from heads.rine.network import RINENetwork

BACKBONES = {(24, 1024): "ViT-L-14-quickgelu", (12, 768): "ViT-B-32-quickgelu"}
"""Backbones of published heads, by number and width of their blocks, as open_clip names them."""


class RINEHead(TransformerMixin, Head):  # type: ignore[misc]
    """Projections of all blocks, added up by learned importance, under two losses.

    With the features x_l of block l (its class token), and d = `proj_dim` ::

        g_l = Q1(x_l),    v = Σ_l softmax_l(A)_l ⊙ g_l,    z = Q2(v),    logit = head(z)
        loss = Σ_batch BCE(logit, y) + xi · SupCon(z / ‖z‖, y)

    where Q1 and Q2 are `nproj` layers each, the head three, with ReLU and dropout between, and A
    (n_layers, d), the trainable importance estimator (TIE), weighs blocks feature by feature. The
    paper's features are those *in front of* each block's MLP, the taps ``ln_2`` of CLIP.

    Parameters
    ----------
    n_layers
        Blocks n >= 1 whose features lie one behind the other, all of one width. None is every layer
        of a selection of the store, and a single block for an array.
    proj_dim
        Width d >= 1 of every layer.
    nproj
        Layers q of Q1, and of Q2, 1 to 64.
    xi
        Weight >= 0 of the contrastive loss, which is a mean over the batch beside a *sum*.
    temperature
        Temperature > 0 of the contrastive loss.
    dropout
        Probability in [0, 1) with which training sets an activation, or an input, to zero.
    tie_init
        Initial A: independent normal numbers as published (``"normal"``) or ``"zeros"``, the mean.
    use_tie
        Whether A is learned; if not, blocks are averaged.
    use_intermediate
        Whether all blocks are used; if not, only the last.
    use_contrastive
        Whether there is a contrastive loss.
    learning_rate
        Step > 0 of Adam in the first five epochs; a tenth of it in the next five, then a hundredth.
    batch_size
        Rows per step, at least 1. As one loss is a sum, it changes the balance of the two, too.
    max_iter
        Number of epochs, all of which are run.
    selection
        ``"validation"`` keeps, if validation rows are given, the epoch with the highest average
        precision on them (the later of equal ones), and the last epoch otherwise. ``"last"``
        keeps the last.
    sampling
        Which rows an epoch holds: ``"rows"`` all of them, or a balance; see `heads.loop.sampling`.
    random_state
        Seed >= 0 of the initial weights, of dropout and of the order of the rows.
    warm_start
        Whether a head that has been trained goes on from its weights instead of drawing new ones.
    device
        Where to compute: ``"cpu"``, ``"cuda"``, ``"cuda:<n>"``, or ``"auto"`` for the GPU if there
        is one.

    Attributes
    ----------
    tie_logits_ : ndarray (n_layers_, proj_dim)
        A; a single row without `use_intermediate`, zeros without `use_tie`.
    q1_weight_0_, q1_bias_0_, … : ndarray (proj_dim, width or proj_dim) and (proj_dim,)
        The layers of Q1; likewise ``q2_weight_0_`` … and ``head_weight_0_`` to ``head_bias_2_``.
        All weights are float32.
    n_layers_ : int
        Number of blocks.
    history_ : ndarray (n_iter_, 4)
        Per epoch: loss, BCE (summed over a batch), SupCon, validation average precision (nan
        without validation rows). Means over the batches weighted by their rows, before each step.
    n_iter_, selected_epoch_ : int
        Number of epochs run, and the epoch, from 1, whose weights were kept.
    classes_, n_features_in_
        As in scikit-learn.

    Notes
    -----
    The defaults are the published settings, except that each of the four published heads has
    (`xi`, `nproj`, `proj_dim`, epochs) of its own: (.1, 4, 1024, 1) for one ProGAN class, (.2, 4,
    128, 1) for two, (.2, 2, 1024, 1) for four, (.4, 4, 1024, 5) for latent diffusion. They were
    chosen on the test sets. Validation rows of the training generator were separated perfectly in
    every published run, so that average precision selects little there.

    A training holds 20 bytes per weight (10.5 million with the defaults and ViT-L/14). Cost of a
    step of n rows: ``2 n · n_layers · proj_dim · (2 width + 3 (nproj - 1) proj_dim)`` operations,
    and less than half of that for scoring. Heads trained together share the reading.

    References
    ----------
    Koutlis, Papadopoulos, "Leveraging representations from intermediate encoder-blocks for
    synthetic image detection", ECCV 2024; public code mever-team/rine.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(200) % 2
    >>> X = rng.normal(size=(200, 3 * 8)) + y[:, None]
    >>> head = RINEHead(n_layers=3, proj_dim=64, nproj=1, learning_rate=0.01, max_iter=20)
    >>> head.fit(X, y).score(X, y) > 0.95, head.importance().shape
    (True, (3,))
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_layers": [Interval(Integral, 1, None, closed="left"), None],
        "proj_dim": [Interval(Integral, 1, None, closed="left")],
        "nproj": [Interval(Integral, 1, 64, closed="both")],
        "xi": [Interval(Real, 0, None, closed="left")],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "tie_init": [StrOptions({"normal", "zeros"})],
        "use_tie": ["boolean"],
        "use_intermediate": ["boolean"],
        "use_contrastive": ["boolean"],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "selection": [StrOptions({"validation", "last"})],
        "sampling": [StrOptions(set(get_args(Sampling)))],
        "random_state": [Interval(Integral, 0, None, closed="left")],
        "warm_start": ["boolean"],
        "device": [str],
    }

    history_names: ClassVar[tuple[str, ...]] = ("loss", "bce", "supcon", "val_ap")
    """Names of the columns of ``history_``."""

    tie_logits_: NDArray[np.float32]
    origin_: dict[str, Any]
    history_: Floats
    n_layers_: int
    n_iter_: int
    selected_epoch_: int

    def __init__(  # noqa: PLR0913  hyper-parameters
        self,
        *,
        n_layers: int | None = None,
        proj_dim: int = 1024,
        nproj: int = 4,
        xi: float = 0.2,
        temperature: float = 0.07,
        dropout: float = 0.5,
        tie_init: Literal["normal", "zeros"] = "normal",
        use_tie: bool = True,
        use_intermediate: bool = True,
        use_contrastive: bool = True,
        learning_rate: float = 1e-3,
        batch_size: int = 128,
        max_iter: int = 1,
        selection: Literal["validation", "last"] = "validation",
        sampling: Sampling = "rows",
        random_state: int = 0,
        warm_start: bool = False,
        device: str = "auto",
    ) -> None:
        self.n_layers = n_layers
        self.proj_dim = proj_dim
        self.nproj = nproj
        self.xi = xi
        self.temperature = temperature
        self.dropout = dropout
        self.tie_init = tie_init
        self.use_tie = use_tie
        self.use_intermediate = use_intermediate
        self.use_contrastive = use_contrastive
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.selection = selection
        self.sampling = sampling
        self.random_state = random_state
        self.warm_start = warm_start
        self.device = device

    @classmethod
    def from_checkpoint(cls, path: str | PathLike[str], *, device: str = "auto") -> Self:
        """Load a head published with the paper, or any other of its architecture.

        Parameters
        ----------
        path
            A ``.pth`` file of mever-team/rine. Nothing in it is executed.
        device
            Where to compute.

        Returns
        -------
        estimator
            A fitted head for labels 0 (real) and 1 (generated). It refuses layers of a store other
            than ``ln_2.0`` …; which network those are of cannot be checked.

        Raises
        ------
        HeadFileError
            If the file is missing, damaged, or holds something else; the message says what.
        """
        from heads.rine.checkpoint import read_checkpoint

        shape, weights = read_checkpoint(path)
        n, width = shape.n_layers, shape.width
        head = cls(n_layers=n, proj_dim=shape.proj_dim, nproj=shape.nproj, device=device)
        head.set_weights(shape, weights)
        head.classes_, head.n_features_in_ = np.array([0, 1]), n * width
        backbone = BACKBONES.get((n, width), "<its CLIP>")
        head.origin_ = {
            "layers": [f"ln_2.{number}" for number in range(n)],
            "remedy": f"extract them with 'featstore extract --backbone open_clip:{backbone}/openai"
            " --taps ln_2 --crop native' and select layer 'ln_2.*'",
        }
        return head

    @property
    def selects_on_validation(self) -> bool:
        """Whether training scores validation rows, which then need both classes."""
        return self.selection == "validation"

    @classmethod
    def trainers(cls, heads: Sequence[Self], source: BatchSource) -> list[Trainer]:
        """Return a trainer for each head.

        Parameters
        ----------
        heads
            Heads with any parameters.
        source
            The rows to learn from.

        Returns
        -------
        list of Trainer
            One trainer per head.

        Raises
        ------
        ValueError
            If a parameter is out of its range, the classes or the layers do not fit, or the
            weights to go on from are of other features.
        """
        from heads.rine.training import RINETrainer

        for head in heads:
            head.check_trainable(source)
            head.shape_for(source)
        return [RINETrainer(head, source) for head in heads]

    def shape_for(self, source: BatchSource) -> RINEShape:
        """Return the shape of the network for rows of a source.

        Parameters
        ----------
        source
            Its layers are the blocks; an array is cut into `n_layers`.

        Returns
        -------
        RINEShape
            Sizes and switches.

        Raises
        ------
        ValueError
            If the layers are not as many as `n_layers`, or not of one width.
        """
        return self._shape(*blocks_of(source, self.n_layers))

    def _shape(self, n_layers: int, width: int) -> RINEShape:
        switches = {"use_tie": self.use_tie, "use_intermediate": self.use_intermediate}
        return RINEShape(n_layers, width, self.proj_dim, self.nproj, **switches)

    def set_weights(self, shape: RINEShape, weights: Mapping[str, NDArray[Any]]) -> None:
        """Write the weights, and forget those of an earlier training.

        Parameters
        ----------
        shape, weights
            Of the network; all of ``shape.weights()`` by their ``attribute``.
        """
        for name in [name for name in vars(self) if name.startswith(("q1_", "q2_"))]:
            delattr(self, name)
        self.n_layers_ = shape.n_layers
        for name, values in weights.items():
            setattr(self, name, values)

    def importance(self, *, per_feature: bool = False) -> Floats:
        """Return how much each block weighs in the embedding: the softmax of TIE over blocks.

        Parameters
        ----------
        per_feature
            Whether to return the weights of every projected feature, and not their mean.

        Returns
        -------
        numpy.ndarray
            Float64 (n_layers_,), or (n_layers_, proj_dim); sums over the blocks are 1.

        Notes
        -----
        With ``tie_init="normal"`` and few steps these are mostly the seed, as a step of Adam moves
        a logit by about 0.001: those of the published head for two ProGAN classes cannot be told
        from their random initialisation (Kolmogorov-Smirnov p = .82). Train with
        ``tie_init="zeros"``, and several seeds, before reading anything into them.
        """
        check_is_fitted(self)
        learned = softmax(self.tie_logits_.astype(np.float64), axis=0)
        weights = np.zeros((self.n_layers_, learned.shape[1]))
        weights[-len(learned) :] = learned
        return weights if per_feature else weights.mean(1)

    def transform(self, X: ArrayLike) -> Floats:
        """Return the embeddings z of samples.

        Parameters
        ----------
        X
            Features (n_samples, n_features).

        Returns
        -------
        numpy.ndarray
            z >= 0 (n_samples, proj_dim), float32, not normalised.
        """
        from heads.rine.network import evaluate

        check_is_fitted(self)
        features = validate_data(self, X, dtype=DTYPES, reset=False)
        network = self._network()
        blocks = [features[start : start + ROWS] for start in range(0, len(features), ROWS)]
        return np.concatenate([evaluate(network, block)[1] for block in blocks])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def check_learned(self) -> None:
        """Check that the learned attributes fit together; a loaded head is checked by it.

        Raises
        ------
        ValueError
            If an attribute is missing, has the wrong shape or type, or is not finite, or the
            number of blocks does not fit.
        """
        super().check_learned()
        n = getattr(self, "n_layers_", None)
        if (
            not isinstance(n, int)
            or n < 1
            or self.n_features_in_ % n
            or self.n_layers not in (n, None)
        ):
            raise ValueError(
                f"'n_layers_' must be {self.n_layers or 'positive'} and divide the "
                f"{self.n_features_in_} features, got {n!r}."
            )
        for weight in self._shape(n, self.n_features_in_ // n).weights():
            self._check_array(weight.attribute, weight.shape)
            if (found := getattr(self, weight.attribute).dtype) != np.float32:
                raise ValueError(f"'{weight.attribute}' must be float32, got {found}.")

    def _network(self) -> "RINENetwork":
        """Return the learned network."""
        from heads.loop.devices import torch_device
        from heads.rine.network import network_of

        shape = self._shape(self.n_layers_, self.n_features_in_ // self.n_layers_)
        weights = {w.parameter: getattr(self, w.attribute) for w in shape.weights()}
        return network_of(shape, weights, torch_device(self.device))

    def _decide(self, X: Floats) -> Floats:
        from heads.rine.network import evaluate

        return evaluate(self._network(), X)[0]
