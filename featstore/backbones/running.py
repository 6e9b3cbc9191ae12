"""Running a network on batches of pixels: stock forward passes with hooks, devices, transfers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from featstore.backbones.normalise import normalisation_table
from featstore.backbones.protocol import Features
from featstore.backbones.taps import Point
from featstore.backbones.vit_blocks import allocate
from featstore.errors import ConfigError

CHUNK = {"cpu": 8, "cuda": 64}
"""Images per forward pass, whatever the size of a batch: the last pass is filled up with zeros.

Libraries choose the order of a matrix product's sums by its shape and their number of threads, so
a row would differ in its last bits with the size of its batch. With one shape it depends on its
image alone. On a CPU, 4 to 32 images per pass differ in speed by less than a tenth."""

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Forward(Protocol):
    """A forward pass; `kind` says whose it is, for the fingerprint."""

    kind: str

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Return the arrays of normalised images (n_images, 3, size, size)."""


class HookedForward:
    """A library's own forward pass with hooks that keep one row per image.

    Parameters
    ----------
    module
        The network, on the device where it will run.
    points
        What to keep.
    dtype
        Half precision runs under autocast, which casts the weights at every call and, in some
        networks, the residual stream: less exact and slower than `OwnForward`.
    """

    kind = "hooks"

    def __init__(self, module: nn.Module, points: Sequence[Point], dtype: torch.dtype) -> None:
        self._module = module
        self._points = points
        self._dtype = dtype

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Return the arrays of normalised images (n_images, 3, size, size)."""
        layers = [point.layer for point in self._points]
        arrays, slots = allocate(layers, len(images), images.device)
        filled: list[str] = []
        hooks = [
            point.module.register_forward_hook(_keeper(point, slots[point.layer.name], filled))
            for point in self._points
        ]
        half = self._dtype != torch.float32
        try:
            with torch.autocast(images.device.type, self._dtype) if half else nullcontext():
                self._module(images)
        finally:
            for hook in hooks:
                hook.remove()
        if sorted(filled) != sorted(slots):
            raise ConfigError(
                f"every layer must be computed once per forward pass, but {sorted(filled)} were "
                f"of {sorted(slots)}: this architecture is not supported."
            )
        return arrays


def _keeper(
    point: Point, slot: Tensor, filled: list[str]
) -> Callable[[nn.Module, Any, Tensor], None]:
    def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
        rows = point.reduce(output)
        if rows.shape != slot.shape:
            raise ConfigError(
                f"layer {point.layer.name!r} must give rows of shape {tuple(slot.shape)}, got "
                f"{tuple(rows.shape)}: this architecture is not supported."
            )
        slot.copy_(rows)
        filled.append(point.layer.name)

    return keep


class Runner:
    """Batches of pixels in, features out.

    Parameters
    ----------
    forward
        The forward pass, on `device`.
    mean, std
        Normalisation of pixels in [0, 1], per channel.
    device
        Where it runs.
    """

    def __init__(
        self, forward: Forward, mean: Sequence[float], std: Sequence[float], device: torch.device
    ) -> None:
        self._forward = forward
        self._device = device
        table = torch.from_numpy(normalisation_table(mean, std))
        self._table = table.t().flatten().to(device)
        offsets = torch.arange(0, table.numel(), len(table), dtype=torch.int32)
        self._offsets = offsets[:, None, None].to(device)

    def submit(self, pixels: NDArray[np.uint8]) -> Callable[[], Features]:
        """Start the forward pass of a batch.

        Parameters
        ----------
        pixels
            Shape (n_images, size, size, 3); free to be overwritten when this returns.

        Returns
        -------
        callable
            Waits for the features. A network that overflows gives rows that are not finite.
        """
        n_images, chunk = len(pixels), CHUNK[self._device.type]
        on_gpu = self._device.type == "cuda"
        shape = (-(-n_images // chunk) * chunk, *pixels.shape[1:])
        batch = torch.zeros(shape, dtype=torch.uint8, pin_memory=on_gpu)
        batch.numpy()[:n_images] = pixels
        with torch.inference_mode(), _exact_convolutions() if on_gpu else nullcontext():
            images = batch.to(self._device, non_blocking=True)
            parts = [
                self._forward(self.normalise(images[start : start + chunk]))
                for start in range(0, len(images), chunk)
            ]
            rows = {
                name: _to_host(torch.cat([part[name] for part in parts])[:n_images])
                for name in parts[0]
            }
        done = torch.cuda.current_stream(self._device).record_event() if on_gpu else None

        def wait() -> Features:
            if done is not None:
                done.synchronize()
            return {name: array.numpy() for name, array in rows.items()}

        return wait

    def normalise(self, pixels: Tensor) -> Tensor:
        """Look up pixels uint8 (n, size, size, 3) as float32 (n, 3, size, size)."""
        index = pixels.permute(0, 3, 1, 2).int() + self._offsets
        return self._table.index_select(0, index.flatten()).view(index.shape)


def usable_device(name: str) -> torch.device:
    """Return a device that exists.

    Parameters
    ----------
    name
        ``"cpu"``, ``"cuda"`` or ``"cuda:<number>"``.

    Returns
    -------
    torch.device
        That device.

    Raises
    ------
    ConfigError
        If it is not one of these, or not on this machine.
    """
    usable = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if f"{name}:0" not in usable and name not in usable:
        raise ConfigError(f"'device' must be one of {usable} on this machine, got {name!r}.")
    return torch.device(name)


@contextmanager
def _exact_convolutions() -> Iterator[None]:
    """Keep cuDNN from rounding float32 convolutions to TF32 and from choosing by timing."""
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    ):
        yield


def _to_host(array: Tensor) -> Tensor:
    if array.device.type == "cpu":
        return array
    host = torch.empty(array.shape, dtype=array.dtype, pin_memory=True)
    return host.copy_(array, non_blocking=True)
