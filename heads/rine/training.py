"""Training of `heads.rine.head.RINEHead`: its two losses and its schedule. Imports torch."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from heads.loop.batch_source import Floats, RowBatch
from heads.loop.gradient import GradientTrainer, Losses
from heads.losses.supervised import supervised_contrastive
from heads.rine.network import RINENetwork, evaluate

DECAY_EVERY = 5
"""Epochs after which the learning rate falls to a tenth; it does so twice."""


class RINETrainer(GradientTrainer):
    """Adam on BCE (summed over the batch) + xi · SupCon (averaged over it)."""

    module: RINENetwork

    def build(self) -> RINENetwork:
        """Return the network with its initial weights."""
        shape = self.head.shape_for(self.source)
        return RINENetwork(shape, dropout=self.head.dropout, tie_init=self.head.tie_init)

    def loss(self, x: Tensor, y: Tensor, batch: RowBatch) -> Losses:
        """Return the loss of a batch, and its two parts."""
        logits, z = self.module(x)
        bce = binary_cross_entropy_with_logits(logits, y.to(logits.dtype), reduction="sum")
        if not self.head.use_contrastive:
            return {"loss": bce, "bce": bce, "supcon": bce.new_zeros(())}
        supcon = supervised_contrastive(z, y, temperature=self.head.temperature)
        return {"loss": bce + self.head.xi * supcon, "bce": bce, "supcon": supcon}

    def logits(self, x: Tensor) -> Tensor:
        """Return the logits (n,)."""
        logits: Tensor = self.module(x)[0]
        return logits

    def learned(self) -> Mapping[str, NDArray[Any]]:
        """Return the weights of the head by their names in the network."""
        head, shape = self.head, self.head.shape_for(self.source)
        if (n_layers := getattr(head, "n_layers_", shape.n_layers)) != shape.n_layers:
            raise ValueError(
                f"warm_start=True needs a head trained on {shape.n_layers} layers, got one trained "
                f"on {n_layers}; keep the layers, or set warm_start=False."
            )
        names = {weight.attribute: weight.parameter for weight in shape.weights()}
        return {
            names.get(name, name): value
            for name, value in vars(head).items()
            if name.startswith(("tie_logits_", "q1_", "q2_", "head_"))
        }

    def rate(self, epoch: int, step: int) -> float:
        """Return 1, from the sixth epoch on 1/10, from the eleventh on 1/100."""
        return float(0.1 ** min(epoch // DECAY_EVERY, 2))

    def scores(self, X: Floats) -> Floats:
        """Return the logits (n_rows, 1) of the current weights."""
        self.module.eval()
        return evaluate(self.module, X)[0][:, None]

    def write(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Write the weights onto the head."""
        shape = self.head.shape_for(self.source)
        named = {weight.attribute: weights[weight.parameter] for weight in shape.weights()}
        self.head.set_weights(shape, named)
