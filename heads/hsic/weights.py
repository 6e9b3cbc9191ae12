"""Weights and steps of a stack of HSIC probes. This module imports torch."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Kept(NamedTuple):
    """The weights of one member after one epoch, for inputs as the trainer scales them."""

    epoch: int
    W: NDArray[np.float32]  # (n_components, n_features)
    b: NDArray[np.float32]  # (n_components,)
    w: NDArray[np.float32]  # (n_components,)
    c: NDArray[np.float32]  # ()


class Slopes(NamedTuple):
    """A part of a batch, and the steps of k heads for it."""

    x: Tensor  # (n, n_features)
    Z: Tensor  # (k, n_components, n)
    along_logits: Tensor  # (k, n)
    along_Z: Tensor  # (k, n_components, n)


def linear_init(n_in: int, n_out: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return weight (n_out, n_in) and bias (n_out,) as `torch.nn.Linear` draws them."""
    bound = n_in**-0.5
    weight, bias = (torch.empty(shape, dtype=torch.float32) for shape in ((n_out, n_in), n_out))
    weight.uniform_(-bound, bound, generator=generator)
    return weight, bias.uniform_(-bound, bound, generator=generator)
