"""RINE's network: features of all blocks to one embedding, and to one logit. Imports torch."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from heads.loop.batch_source import Floats
from heads.rine.dropout import Dropout
from heads.rine.weights import RINEShape

TieInit = Literal["normal", "zeros"]

CHUNK_BYTES = 2**26
"""Activations of one layer while rows are scored."""


class RINEEncoder(nn.Module):
    """Q1, the trainable importance estimator (TIE), and Q2.

    With the features x_l of block l, and p = `proj_dim` ::

        g_l = Q1(x_l),    v = Σ_l softmax_l(A)_l ⊙ g_l,    z = Q2(v)

    where Q1 (shared by the blocks) and Q2 are `nproj` times linear, ReLU, dropout, with a dropout
    in front, and A (n_layers, p) is learned.

    Parameters
    ----------
    shape
        Sizes and switches.
    dropout
        Probability in [0, 1) of setting an activation, or an input feature, to zero in training.
    tie_init
        Initial A: independent standard normal numbers as published, or zeros, that is the mean.

    References
    ----------
    Koutlis, Papadopoulos, "Leveraging representations from intermediate encoder-blocks for
    synthetic image detection", ECCV 2024, section 3.2.
    """

    tie_logits: Tensor

    def __init__(
        self, shape: RINEShape, *, dropout: float = 0.5, tie_init: TieInit = "normal"
    ) -> None:
        super().__init__()
        d = shape.proj_dim
        self.n_used, self.width = shape.n_used, shape.width
        if shape.use_tie:
            draw = torch.randn if tie_init == "normal" else torch.zeros
            self.tie_logits = nn.Parameter(draw(shape.n_used, d))
        else:
            self.register_buffer("tie_logits", torch.zeros(shape.n_used, d))
        self.q1 = _projection([shape.width] + [d] * shape.nproj, dropout)
        self.q2 = _projection([d] * (shape.nproj + 1), dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return the embeddings z >= 0 of rows.

        Parameters
        ----------
        x
            Float32 (n, n_layers · width), blocks one behind the other, shallow first.

        Returns
        -------
        torch.Tensor
            z (n, proj_dim), not normalised.
        """
        used = x[:, x.shape[1] - self.n_used * self.width :]
        g = self.q1(used.reshape(-1, self.width)).view(len(x), self.n_used, -1)
        z: Tensor = self.q2((g * self.tie_logits.softmax(0)).sum(1))
        return z


class RINENetwork(nn.Module):
    """The encoder and a head of three linear layers that gives the logit of "fake".

    Parameters
    ----------
    shape, dropout, tie_init
        As for `RINEEncoder`.
    """

    def __init__(
        self, shape: RINEShape, *, dropout: float = 0.5, tie_init: TieInit = "normal"
    ) -> None:
        super().__init__()
        d = shape.proj_dim
        self.encoder = RINEEncoder(shape, dropout=dropout, tie_init=tie_init)
        self.head = nn.Sequential(*_linear(d, d, dropout), *_linear(d, d, dropout), nn.Linear(d, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and embeddings.

        Parameters
        ----------
        x
            Float32 (n, n_layers · width), blocks one behind the other, shallow first.

        Returns
        -------
        tuple of torch.Tensor
            Logits (n,), and z (n, proj_dim) of the encoder.
        """
        z = self.encoder(x)
        return self.head(z)[:, 0], z


def _linear(n_in: int, n_out: int, dropout: float) -> list[nn.Module]:
    """Return the three steps of one hidden layer."""
    return [nn.Linear(n_in, n_out), nn.ReLU(inplace=True), Dropout(dropout)]


def _projection(widths: list[int], dropout: float) -> nn.Sequential:
    """Return dropout and one hidden layer from each width to the next."""
    layers = [_linear(*pair, dropout) for pair in pairwise(widths)]
    return nn.Sequential(Dropout(dropout), *(step for layer in layers for step in layer))


def network_of(
    shape: RINEShape, weights: Mapping[str, NDArray[Any]], device: torch.device
) -> RINENetwork:
    """Return a network with given weights, for evaluation.

    Parameters
    ----------
    shape
        Sizes and switches.
    weights
        All of ``shape.weights()`` by their ``parameter``; float32 arrays are not copied on a CPU.
    device
        Where it is to compute.

    Returns
    -------
    RINENetwork
        In evaluation mode.
    """
    with torch.device("meta"):
        network = RINENetwork(shape)
    arrays = {k: np.require(v, np.float32, ["C", "W", "E"]) for k, v in weights.items()}
    tensors = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
    network.load_state_dict(tensors, assign=True)
    return network.eval()


def evaluate(network: RINENetwork, X: Floats) -> tuple[Floats, Floats]:
    """Return logits and embeddings of rows, in chunks of bounded memory.

    Parameters
    ----------
    network
        In evaluation mode, on any device.
    X
        Features (n, n_layers · width), n > 0, of any float type; may be read-only.

    Returns
    -------
    tuple of numpy.ndarray
        Logits (n,) and z (n, proj_dim), float32.

    Notes
    -----
    Each layer's activations take at most 64 MiB, or those of one row.
    """
    d, width = network.encoder.tie_logits.shape[1], X.shape[1]
    n_rows = max(1, CHUNK_BYTES // (4 * max(width, network.encoder.n_used * d)))
    device = network.encoder.tie_logits.device
    chunks = []
    with torch.inference_mode():
        for start in range(0, len(X), n_rows):
            rows = np.require(X[start : start + n_rows], np.float32, ["C", "W", "E"])
            found = network(torch.from_numpy(rows).to(device))
            chunks.append([part.numpy(force=True) for part in found])
    logits, z = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
    return logits, z
