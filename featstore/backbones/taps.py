"""What is read of a network: named points, and the choice among them.

A *tap* is a kind of point. ``block`` is the residual stream after a block (or the output of a
stage of a convolutional network), ``ln_2`` the output of the normalisation in front of a block's
MLP, ``ln_post`` the end of the network before its projection, ``proj`` the projected embedding.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from featstore.errors import ConfigError, unknown_name
from featstore.layers import Layer

if TYPE_CHECKING:
    from torch import Tensor, nn

TAPS = ("block", "ln_2", "ln_post", "proj")
DEFAULT_TAPS = ("block", "ln_post", "proj")


@dataclass(frozen=True, eq=False)
class Point:
    """A place in a network.

    Parameters
    ----------
    layer
        What is stored of it.
    module
        The module whose output is read.
    reduce
        From that output to one vector per image, shape (n_images, width).
    """

    layer: Layer
    module: "nn.Module"
    reduce: "Callable[[Tensor], Tensor]"


Points = Mapping[str, Sequence[Point]]
"""Tap to its points, in the order of the network."""


def choose_points(points: Points, taps: Sequence[str] = ()) -> list[Point]:
    """Choose the points of some taps.

    Parameters
    ----------
    points
        All that the network has.
    taps
        Names out of `TAPS`, each at most once; if empty, those of `DEFAULT_TAPS` that the network
        has.

    Returns
    -------
    list of Point
        By tap in the order given. Their layers share the array ``cls`` if all have one width, and
        are in ``cls_<width>`` otherwise; the embedding is always in ``proj``.

    Raises
    ------
    ConfigError
        If a tap is unknown, repeated, or not in this network.
    """
    for tap in taps:
        if tap not in TAPS:
            raise ConfigError(unknown_name("tap", tap, TAPS))
        if tap not in points:
            raise ConfigError(f"the network must have the tap {tap!r}, but has {list(points)}.")
    if len(set(taps)) < len(taps):
        raise ConfigError(f"each of 'taps' must be named once, got {list(taps)}.")
    taken = taps or [tap for tap in DEFAULT_TAPS if tap in points]
    chosen = [point for tap in taken for point in points[tap]]
    widths = {point.layer.width for point in chosen if point.layer.array != "proj"}
    return chosen if len(widths) < 2 else [_by_width(point) for point in chosen]


def _by_width(point: Point) -> Point:
    layer = point.layer
    if layer.array == "proj":
        return point
    return replace(point, layer=layer._replace(array=f"cls_{layer.width}"))


def first_token(output: "Tensor") -> "Tensor":
    """Read token 0 of (n_images, n_tokens, width); what is pooled already passes."""
    return output[:, 0] if output.ndim == 3 else output


def token_mean(output: "Tensor", skip: int) -> "Tensor":
    """Average the tokens of (n_images, n_tokens, width) after the first `skip`, in float32."""
    return output[:, skip:].float().mean(1) if output.ndim == 3 else output


def map_mean(output: "Tensor", channels_last: bool) -> "Tensor":
    """Average a feature map over its positions, in float32."""
    if output.ndim != 4:
        raise ConfigError(
            f"a stage of the network must return maps (n_images, channels, height, width), "
            f"got shape {tuple(output.shape)}: this architecture is not supported."
        )
    return output.float().mean((1, 2) if channels_last else (2, 3))


def token_points(
    tap: str, modules: "Iterable[nn.Module]", width: int, skip: int | None = None
) -> list[Point]:
    """Return one point per transformer block.

    Parameters
    ----------
    tap
        Prefix of the layers' names.
    modules
        One per block, each returning tokens, shape (n_images, n_tokens, width).
    width
        Size of a token.
    skip
        None reads token 0, the CLS token. In a network without one, how many registers stand before
        the tokens that are averaged.

    Returns
    -------
    list of Point
        Layers ``<tap>.0``, ``<tap>.1``, … of tap `tap`, or ``<tap>_mean`` when tokens are averaged.
    """
    reads = f"{tap}_mean" if skip is not None else tap
    reduce = first_token if skip is None else partial(token_mean, skip=skip)
    return [
        Point(Layer(f"{tap}.{i}", reads, i, width), module, reduce)
        for i, module in enumerate(modules)
    ]


def stage_points(
    stages: "Iterable[tuple[nn.Module, int]]", channels_last: bool = False
) -> list[Point]:
    """Return one point per stage of a convolutional or hierarchical network.

    Parameters
    ----------
    stages
        Modules that return maps, each with its number of channels.
    channels_last
        Whether maps are (n_images, height, width, channels).

    Returns
    -------
    list of Point
        Layers ``stage.0``, ``stage.1``, … of tap ``stage_mean``: the mean over positions.
    """
    reduce = partial(map_mean, channels_last=channels_last)
    return [
        Point(Layer(f"stage.{i}", "stage_mean", i, width), module, reduce)
        for i, (module, width) in enumerate(stages)
    ]


def ending(name: str, module: "nn.Module", width: int, depth: int, pooled: bool = False) -> Point:
    """Return the point of a network's end.

    Parameters
    ----------
    name
        ``"ln_post"`` or ``"proj"``.
    module
        Returns tokens, of which the first is read, or one vector per image.
    width
        Size of the vector.
    depth
        Number of blocks before it.
    pooled
        Whether the vector is the network's own pooling of all tokens; the layer's tap says so.

    Returns
    -------
    Point
        In array ``proj`` if it is the embedding.
    """
    array = "proj" if name == "proj" else "cls"
    layer = Layer(name, "pooled" if pooled else name, depth, width, array)
    return Point(layer, module, first_token)
