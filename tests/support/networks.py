"""Reference readings of networks: a library's own forward pass, hooks, tensors kept whole."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from featstore.backbones.torch_backbone import Network, TorchBackbone

ROUNDING = 1e-5
"""Relative; float32 sums in another order differ by less than 1e-6, a tanh GELU by 1e-4."""


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Give every parameter and running statistic a value of its own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if not value.is_floating_point():
                continue
            noise = torch.randn(value.shape, generator=generator)
            scale = 0.5 if value.ndim < 2 else 1.5 * value[0].numel() ** -0.5
            value.copy_(1 + 0.2 * noise.abs() if "running_var" in name else scale * noise)


def random_pixels(n_images: int, size: int, seed: int = 0) -> NDArray[np.uint8]:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (n_images, size, size, 3), dtype=np.uint8)


def normalised(pixels: NDArray[np.uint8], network: Network) -> Tensor:
    """Normalise as torchvision's ToTensor and Normalize do."""
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(255)
    mean, std = torch.tensor(network.mean), torch.tensor(network.std)
    return images.sub(mean[:, None, None]).div(std[:, None, None])


def read_stock(
    network: Network, modules: Iterable[nn.Module], pixels: NDArray[np.uint8]
) -> tuple[list[Tensor], Any]:
    """Return whole outputs of modules, and of the network, in its own forward pass."""
    outputs: list[Tensor] = []
    hooks = [
        module.register_forward_hook(
            lambda _module, _inputs, output: outputs.append(output.clone())
        )
        for module in modules
    ]
    network.module.eval()
    dtype = next(network.module.parameters()).dtype
    with torch.no_grad():
        final = network.module(normalised(pixels, network).to(dtype))
    for hook in hooks:
        hook.remove()
    return outputs, final


def run(
    network: Network, pixels: NDArray[np.uint8], taps: tuple[str, ...] = (), precision: str = "fp32"
) -> dict[str, NDArray[Any]]:
    backbone = TorchBackbone(network, taps=taps, precision=precision, device="cpu")
    return dict(backbone.submit(pixels)())


def relative_error(found: Any, expected: Any) -> float:
    """Return the largest norm of a row's difference over the norm of the row."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    norms = np.linalg.norm(found - expected, axis=-1) / np.linalg.norm(expected, axis=-1)
    return float(norms.max())
