"""Our own forward pass of a plain vision transformer, for one row per block.

Only the CLS token of each block is wanted, which allows what a library's forward pass cannot do.
The last block attends with the CLS token alone: its keys and values need all tokens, its query,
output projection and MLP do not. Rows go into one preallocated tensor, so no map of all tokens
outlives its block. In half precision the matrix products are half, with weights cast once, and the
residual stream stays float32, which is an order of magnitude more exact than a half-precision
stream at the same speed.

The network's own modules do everything else (embedding, normalisations, activation, layer scale),
so only the order of operations is written here: x + Attention(LN x), then + MLP(LN x); A.
Dosovitskiy et al., "An image is worth 16x16 words", ICLR 2021, equations 1 to 4.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from featstore.layers import Layer


class Linear(NamedTuple):
    """Weight (n_out, n_in) and bias (n_out,) of an affine map."""

    weight: Tensor
    bias: Tensor | None

    def cast(self, dtype: torch.dtype) -> "Linear":
        """Return it in another precision; itself if it has that precision."""
        bias = None if self.bias is None else self.bias.detach().to(dtype)
        return Linear(self.weight.detach().to(dtype), bias)

    def rows(self, start: int, stop: int) -> "Linear":
        """Return the map to outputs `start` to `stop`, without a copy."""
        return Linear(self.weight[start:stop], None if self.bias is None else self.bias[start:stop])


@dataclass(frozen=True, eq=False)
class Block:
    """The parts of a pre-norm transformer block.

    Parameters
    ----------
    attention_norm, mlp_norm
        Normalisations in front of attention and MLP.
    qkv
        Query, key and value projections, stacked in that order, each by head.
    heads
        Number of attention heads; scores are divided by the square root of a head's width.
    out
        Output projection of the attention.
    expand, activation, contract
        The MLP.
    attention_scale, mlp_scale
        What is applied to each branch before it is added; the identity if nothing.
    """

    attention_norm: nn.Module
    qkv: Linear
    heads: int
    out: Linear
    attention_scale: nn.Module
    mlp_norm: nn.Module
    expand: Linear
    activation: nn.Module
    contract: Linear
    mlp_scale: nn.Module

    def cast(self, dtype: torch.dtype) -> "Block":
        """Return the block with its matrices in another precision."""
        return replace(
            self,
            qkv=self.qkv.cast(dtype),
            out=self.out.cast(dtype),
            expand=self.expand.cast(dtype),
            contract=self.contract.cast(dtype),
        )


@dataclass(frozen=True, eq=False)
class ViT:
    """A plain vision transformer.

    Parameters
    ----------
    embed
        From images (n_images, 3, size, size) to tokens (n_images, n_tokens, width), CLS first.
    blocks
        In order.
    final_norm
        Normalisation of the CLS token after the last block.
    project
        From its result to the embedding; unused if there is none.
    """

    embed: Callable[[Tensor], Tensor]
    blocks: Sequence[Block]
    final_norm: nn.Module
    project: Callable[[Tensor], Tensor]


def allocate(
    layers: Sequence[Layer], n_images: int, device: torch.device
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Make room for the rows of a batch.

    Parameters
    ----------
    layers
        What will be stored.
    n_images
        Size of the batch.
    device
        Where.

    Returns
    -------
    arrays : dict of str to Tensor
        Array name to float32 (n_images, n_layers of that array, width), uninitialised.
    slots : dict of str to Tensor
        Layer name to its view (n_images, width) of an array.
    """
    members: dict[str, list[Layer]] = {}
    for layer in layers:
        members.setdefault(layer.array, []).append(layer)
    arrays = {
        name: torch.empty((n_images, len(group), group[0].width), device=device)
        for name, group in members.items()
    }
    slots = {
        layer.name: arrays[name][:, position]
        for name, group in members.items()
        for position, layer in enumerate(group)
    }
    return arrays, slots


class OwnForward:
    """The forward pass of a `ViT` that keeps the CLS token of each block.

    Parameters
    ----------
    vit
        On the device where it will run.
    layers
        What to keep, out of ``block.i``, ``ln_2.i``, ``ln_post`` and ``proj``.
    dtype
        Precision of the matrix products in the blocks.
    """

    kind = "own"

    def __init__(self, vit: ViT, layers: Sequence[Layer], dtype: torch.dtype) -> None:
        self._vit = replace(vit, blocks=[block.cast(dtype) for block in vit.blocks])
        self._layers = layers

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Return the arrays of normalised images (n_images, 3, size, size)."""
        arrays, slots = allocate(self._layers, len(images), images.device)

        def keep(name: str, rows: Tensor) -> None:
            if name in slots:
                slots[name].copy_(rows)

        x = self._vit.embed(images)
        for i, block in enumerate(self._vit.blocks):
            is_last = i + 1 == len(self._vit.blocks)
            x, inner = advance(block, x, 1 if is_last else x.shape[1])
            keep(f"block.{i}", x[:, 0])
            keep(f"ln_2.{i}", inner[:, 0])
        final = self._vit.final_norm(x[:, 0])
        keep("ln_post", final)
        if "proj" in slots:
            keep("proj", self._vit.project(final))
        return arrays


def advance(block: Block, x: Tensor, n_tokens: int) -> tuple[Tensor, Tensor]:
    """Apply a block.

    Parameters
    ----------
    block
        Its matrices set the precision of the products.
    x
        Residual stream, float32 (n_images, n_all_tokens, width).
    n_tokens
        How many leading tokens are wanted; all tokens are attended to.

    Returns
    -------
    stream : Tensor
        Residual stream of these tokens, float32 (n_images, n_tokens, width).
    inner : Tensor
        Their input to the MLP, the output of ``mlp_norm``, of the same shape.
    """
    dtype = block.qkv.weight.dtype
    attended = _attend(block, block.attention_norm(x).to(dtype), n_tokens)
    x = x[:, :n_tokens] + block.attention_scale(F.linear(attended, *block.out))
    inner = block.mlp_norm(x)
    hidden = block.activation(F.linear(inner.to(dtype), *block.expand))
    return x + block.mlp_scale(F.linear(hidden, *block.contract)), inner


def _attend(block: Block, x: Tensor, n_tokens: int) -> Tensor:
    if n_tokens == x.shape[1]:
        q, k, v = _by_head(F.linear(x, *block.qkv), 3, block.heads)
    else:
        inner = len(block.qkv.weight) // 3
        (q,) = _by_head(F.linear(x[:, :n_tokens], *block.qkv.rows(0, inner)), 1, block.heads)
        k, v = _by_head(F.linear(x, *block.qkv.rows(inner, 3 * inner)), 2, block.heads)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def _by_head(x: Tensor, n_parts: int, heads: int) -> tuple[Tensor, ...]:
    """Split (n, tokens, n_parts * heads * d) into n_parts tensors (n, heads, tokens, d)."""
    parts = x.view(*x.shape[:2], n_parts, heads, -1)
    return parts.permute(2, 0, 3, 1, 4).unbind(0)
