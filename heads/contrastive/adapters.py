"""Networks that turn features into embeddings for a contrastive loss. This module imports torch."""

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any

import torch
from sklearn.utils._param_validation import Interval, StrOptions, validate_parameter_constraints
from torch import Tensor, nn
from torch.nn.functional import relu

from heads.rine.network import RINEEncoder
from heads.rine.weights import RINEShape

OPTIONS: dict[str, dict[str, list[Any]]] = {
    "linear": {"bias": ["boolean"]},
    "mlp": {"hidden": [Interval(Integral, 1, None, closed="left")]},
    "rine": {
        "nproj": [Interval(Integral, 1, 64, closed="both")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "tie_init": [StrOptions({"normal", "zeros"})],
        "use_tie": ["boolean"],
    },
}
"""The options of every adapter, and what their values may be."""


def linear_adapter(layers: Sequence[int], n_components: int, *, bias: bool = True) -> nn.Linear:
    """Return a linear map that begins as the identity, or as a rotation or projection.

    Parameters
    ----------
    layers
        Number of features of each layer.
    n_components
        Size of the embedding. Other than the number of features, it makes the map begin with
        random orthonormal rows (or columns, whichever are fewer).
    bias
        Whether a constant, at first 0, is added.

    Returns
    -------
    nn.Linear
        The map.
    """
    linear = nn.Linear(sum(layers), n_components, bias=bias)
    start = nn.init.eye_ if linear.in_features == n_components else nn.init.orthogonal_
    start(linear.weight)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear


class MLPAdapter(nn.Module):
    """A linear adapter, and a correction by a network with one hidden layer that is 0 at first.

    Parameters
    ----------
    layers, n_components
        As for `linear_adapter`.
    hidden
        Number of rectified hidden units; as many as components if None.
    """

    def __init__(
        self, layers: Sequence[int], n_components: int, *, hidden: int | None = None
    ) -> None:
        super().__init__()
        self.skip = linear_adapter(layers, n_components)
        self.inner = nn.Linear(sum(layers), hidden or n_components)
        self.outer = nn.Linear(self.inner.out_features, n_components, bias=False)
        nn.init.zeros_(self.outer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the embeddings (n, n_components) of rows (n, n_features)."""
        z: Tensor = self.skip(x) + self.outer(relu(self.inner(x)))
        return z


def rine_adapter(
    layers: Sequence[int], n_components: int, *, nproj: int = 2, use_tie: bool = True, **start: Any
) -> RINEEncoder:
    """Return RINE's encoder over layers; it begins with random weights.

    Parameters
    ----------
    layers
        Number of features of each layer, all the same.
    n_components
        Size of the embedding, ``proj_dim`` of RINE.
    nproj, use_tie
        Depth of both projections, and whether the importance of layers is learned.
    **start
        ``dropout`` and ``tie_init`` of `heads.rine.network.RINEEncoder`.

    Returns
    -------
    RINEEncoder
        The encoder.

    Raises
    ------
    ValueError
        If layers are not of one width.
    """
    if len(set(layers)) > 1:
        raise ValueError(
            f"adapter='rine' needs layers of one width, got {tuple(layers)}; select layers of one "
            f"kind."
        )
    shape = RINEShape(len(layers), layers[0], n_components, nproj, use_tie)
    return RINEEncoder(shape, **start)


ADAPTERS: dict[str, Callable[..., nn.Module]] = {
    "linear": linear_adapter,
    "mlp": MLPAdapter,
    "rine": rine_adapter,
}
"""Every adapter by name."""


def build_adapter(
    kind: str, layers: Sequence[int], n_components: int, options: Mapping[str, Any] | None = None
) -> nn.Module:
    """Return an adapter with its initial weights, drawn from torch's generator.

    Parameters
    ----------
    kind
        A key of `ADAPTERS`.
    layers
        Number of features of each layer.
    n_components
        Size of the embedding.
    options
        What differs from the adapter's defaults.

    Returns
    -------
    nn.Module
        From float rows (n, n_features) to embeddings (n, n_components).

    Raises
    ------
    ValueError
        If the adapter has no such option, an option is out of range, or the layers do not fit.

    Examples
    --------
    >>> x = torch.randn(2, 3)
    >>> bool((build_adapter("mlp", [3], 3)(x) == x).all())
    True
    """
    given, known = dict(options or {}), OPTIONS[kind]
    for name in given:
        if name not in known:
            close = get_close_matches(str(name), known, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise ValueError(
                f"'adapter_params' of adapter={kind!r} must be among {sorted(known)}, got "
                f"{name!r}{hint}."
            )
    validate_parameter_constraints(known, given, caller_name=f"adapter={kind!r}")
    return ADAPTERS[kind](layers, n_components, **given)


def load_adapter(
    kind: str,
    layers: Sequence[int],
    n_components: int,
    options: Mapping[str, Any] | None,
    weights: Mapping[str, Any],
) -> nn.Module:
    """Return an adapter with learned weights, ready to embed.

    Parameters
    ----------
    kind, layers, n_components, options
        As for `build_adapter`.
    weights
        Its arrays by name; copied.

    Returns
    -------
    nn.Module
        In evaluation mode.

    Raises
    ------
    ValueError
        If the arrays are not those of such an adapter, by name and shape.
    """
    with torch.device("meta"):  # nothing is drawn, nothing is filled
        module = build_adapter(kind, layers, n_components, options)
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    if (found := {name: tuple(value.shape) for name, value in weights.items()}) != wanted:
        raise ValueError(f"weights of adapter={kind!r} must have the shapes {wanted}, got {found}.")
    module.load_state_dict({k: torch.tensor(v) for k, v in weights.items()}, assign=True)
    return module.eval()
