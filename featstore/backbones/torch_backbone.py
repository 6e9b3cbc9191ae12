"""What the backbones in torch share: a loaded network, and the backbone that runs it.

torch is imported when a backbone is made, not with this module.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.protocol import Features
from featstore.backbones.taps import Points, choose_points
from featstore.backbones.weights import weights_sha256
from featstore.errors import ConfigError
from featstore.images.preprocess import Preprocess
from featstore.layers import Layer

if TYPE_CHECKING:
    import torch
    from torch import nn

    from featstore.backbones.running import Forward
    from featstore.backbones.taps import Point
    from featstore.backbones.vit_blocks import ViT


@dataclass(frozen=True, eq=False)
class Network:
    """A network as a library loaded it.

    Parameters
    ----------
    family, model, weights
        Its name, in three parts.
    module
        In float32, on the CPU; takes images (n_images, 3, size, size).
    points
        Where it can be read.
    vit
        Its parts if it is a plain vision transformer, which our own forward pass can run.
    size
        Side of its input in pixels.
    mean, std
        Normalisation of pixels in [0, 1], per channel.
    preprocess
        From image file to pixels, as it was trained.
    activation
        Activation of its MLPs, empty if it has none.
    versions
        Library to its version.
    """

    family: str
    model: str
    weights: str
    module: "nn.Module"
    points: Points
    vit: "ViT | None"
    size: int
    mean: Sequence[float]
    std: Sequence[float]
    preprocess: Preprocess
    activation: str
    versions: Mapping[str, str]


class TorchBackbone:
    """A network with chosen taps, ready to run.

    Parameters
    ----------
    network
        Taken over: moved to `device`, frozen.
    taps
        What is read: out of ``block``, ``ln_2``, ``ln_post`` and ``proj``; if empty, all but
        ``ln_2``, as far as the network has them.
    precision
        ``"fp32"``, or ``"bf16"`` or ``"fp16"`` for half-precision matrix products.
    device
        ``"cpu"``, ``"cuda"`` or ``"cuda:<number>"``.

    Raises
    ------
    ConfigError
        If a tap, the precision or the device does not exist, or the preprocessing does not give
        the network's input size.
    """

    def __init__(
        self, network: Network, *, taps: Sequence[str], precision: str, device: str
    ) -> None:
        from featstore.backbones.running import PRECISIONS, Runner, usable_device

        if precision not in PRECISIONS:
            raise ConfigError(f"'precision' must be one of {[*PRECISIONS]}, got {precision!r}.")
        if network.preprocess.crop != network.size:
            raise ConfigError(
                f"the crop of 'preprocess' must be {network.size}, the input size of "
                f"{network.model!r}, got {network.preprocess.crop}."
            )
        points = choose_points(network.points, taps)
        where = usable_device(device)
        self.name = f"{network.family}:{network.model}/{network.weights}"
        self.layers: Sequence[Layer] = [point.layer for point in points]
        self.preprocess = network.preprocess
        self._description = _describe(network) | {
            "precision": precision,
            "taps": list(dict.fromkeys(layer.tap for layer in self.layers)),
        }
        network.module.eval().requires_grad_(False).to(where)
        forward = _forward(network, points, PRECISIONS[precision])
        self._description["forward"] = forward.kind
        self._runner = Runner(forward, network.mean, network.std, where)

    def describe(self) -> dict[str, Any]:
        """Return everything that determines the numbers, as JSON types, for the fingerprint."""
        return dict(self._description)

    def submit(self, pixels: NDArray[np.uint8]) -> Callable[[], Features]:
        """Start the forward pass of a batch.

        Parameters
        ----------
        pixels
            Shape (n_images, size, size, 3), RGB, at least one image; free to be overwritten when
            this returns.

        Returns
        -------
        callable
            Waits, then returns array name to float32 (n_images, n_layers of that array, width). On
            the CPU the work is done before this is returned; on CUDA it is only queued.

        Raises
        ------
        ValueError
            If `pixels` has another shape or dtype.
        """
        expected = (self.preprocess.crop, self.preprocess.crop, 3)
        if pixels.dtype != np.uint8 or pixels.shape[1:] != expected or not len(pixels):
            raise ValueError(
                f"'pixels' must be uint8 of shape (n_images, {', '.join(map(str, expected))}), "
                f"got {pixels.dtype} of shape {pixels.shape}."
            )
        return self._runner.submit(pixels)


def _forward(network: Network, points: "Sequence[Point]", dtype: "torch.dtype") -> "Forward":
    from featstore.backbones.running import HookedForward
    from featstore.backbones.vit_blocks import OwnForward

    if network.vit is None:
        return HookedForward(network.module, points, dtype)
    return OwnForward(network.vit, [point.layer for point in points], dtype)


def _describe(network: Network) -> dict[str, Any]:
    import torch

    return {
        "family": network.family,
        "model": network.model,
        "weights": network.weights,
        "weights_sha256": weights_sha256(network.module),
        "normalisation": {"mean": list(network.mean), "std": list(network.std)},
        "activation": network.activation,
        "image_size": network.size,
        "versions": {"torch": str(torch.__version__), **network.versions},
    }
