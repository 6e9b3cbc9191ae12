"""Small convolutional autoencoders that differ in how they upsample: the demo's "generators".

Upsampling is where convolutional generators leave traces: nearest-neighbour interpolation weakens
high frequencies, transposed convolutions and pixel shuffles add patterns of the period of their
stride (Odena et al., "Deconvolution and checkerboard artifacts", Distill 2016; Durall et al.,
"Watch your up-convolution", CVPR 2020). Runs on the CPU.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Crops = NDArray[np.uint8]

UPSAMPLINGS: dict[str, Callable[[int, int], tuple[nn.Module, ...]]] = {
    "nearest": lambda n_in, n_out: (
        nn.Upsample(scale_factor=2, mode="nearest"),
        nn.Conv2d(n_in, n_out, 3, padding=1),
    ),
    "transposed": lambda n_in, n_out: (nn.ConvTranspose2d(n_in, n_out, 4, 2, 1),),
    "pixelshuffle": lambda n_in, n_out: (
        nn.Conv2d(n_in, 4 * n_out, 3, padding=1),
        nn.PixelShuffle(2),
    ),
}
"""Name to layers that double the sides, given the numbers of channels."""

WIDTH, LATENT = 24, 8
BATCH, PATCH = 16, 48
LEARNING_RATE = 0.01


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep PyTorch on one core, so that rounding does not depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@_one_thread()
def train_autoencoder(
    crops: Crops,
    upsampling: str,
    *,
    seed: int,
    n_steps: int,
    on_step: Callable[[], None] = lambda: None,
) -> nn.Sequential:
    """Train an autoencoder with a bottleneck of 8 channels at half the resolution.

    Parameters
    ----------
    crops
        Images, shape (n_images, side, side, 3), RGB; sides of at least 48 pixels.
    upsampling
        A name in `UPSAMPLINGS`.
    seed
        Of the initial weights and of the patches; PyTorch's own random state is left as it was.
    n_steps
        Steps of AdamW on the squared error of 16 patches of 48 x 48 pixels, at least 2; 250 reach
        about 34 dB.
    on_step
        Called after every step.

    Returns
    -------
    torch.nn.Sequential
        Maps (n, 3, height, width) in [-1, 1] to the same shape; even sides.

    Notes
    -----
    About 8 s for 250 steps; one thread. Equal seeds give equal weights with one build of PyTorch on
    one kind of processor; elsewhere rounding differs.
    """
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = _autoencoder(upsampling)
    optimiser = torch.optim.AdamW(network.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=n_steps)
    images = _to_network(crops)
    for _ in range(n_steps):
        batch = _random_patches(images, rng)
        loss = (network(batch) - batch).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        on_step()
    return network


@_one_thread()
def reconstruct(network: nn.Module, crops: Crops) -> Crops:
    """Pass images through an autoencoder and round to eight bits.

    Parameters
    ----------
    network
        What `train_autoencoder` returned.
    crops
        Images, shape (n_images, height, width, 3), RGB; even sides.

    Returns
    -------
    ndarray
        Reconstructions, same shape and dtype. Pixels are grey where the original image is grey
        throughout, so that colour does not tell the two apart.
    """
    result = np.empty_like(crops)
    with torch.inference_mode():
        for out, crop in zip(result, crops, strict=True):
            image = network(_to_network(crop[None]))[0].permute(1, 2, 0)
            if (crop == crop[..., :1]).all():
                image = image.mean(2, keepdim=True).expand_as(image)
            out[:] = image.add(1).mul(127.5).round().clamp(0, 255).byte().numpy()
    return result


def _autoencoder(upsampling: str) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, LATENT, 2, stride=2),
        nn.Conv2d(LATENT, WIDTH, 3, padding=1),
        *UPSAMPLINGS[upsampling](WIDTH, WIDTH),
        nn.LeakyReLU(0.2),
        nn.Conv2d(WIDTH, 3, 3, padding=1),
    )


def _to_network(crops: Crops) -> Tensor:
    return torch.from_numpy(crops.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1)


def _random_patches(images: Tensor, rng: np.random.Generator) -> Tensor:
    chosen = rng.integers(len(images), size=BATCH)
    tops, lefts = rng.integers(images.shape[2] - PATCH + 1, size=(2, BATCH))
    corners = zip(chosen, tops, lefts, strict=True)
    return torch.stack([images[i, :, y : y + PATCH, x : x + PATCH] for i, y, x in corners])
