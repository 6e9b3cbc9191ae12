"""Training of `heads.rine.head.RINEHead`: its two losses and its schedule. Imports torch."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from heads.loop.batch_source import Floats, RowBatch
from heads.loop.gradient import GradientTrainer, Terms
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

    def loss(self, x: Tensor, y: Tensor, batch: RowBatch) -> Terms:
        """Return the loss of a batch, and its two parts."""
        logits, z = self.module(x)
        bce = binary_cross_entropy_with_logits(logits, y.to(logits.dtype), reduction="sum")
        if not self.head.use_contrastive:
            return {"loss": bce, "bce": bce, "supcon": bce.new_zeros(())}
        supcon = supervised_contrastive(z, y, temperature=self.head.temperature)
        return {"loss": bce + self.head.xi * supcon, "bce": bce, "supcon": supcon}

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
