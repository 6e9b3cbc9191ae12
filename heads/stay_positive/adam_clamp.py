"""`StayPositiveProbe` as published: Adam, weights cut off at 0 after every step.

This module imports torch.
"""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from heads.class_weights import class_weights
from heads.loop.batch_source import BatchSource, Floats, Pass, RowBatch, Shared
from heads.loop.gradient import GradientTrainer, Losses
from heads.loop.passes import State
from heads.loop.validation import balanced_accuracy
from heads.stay_positive.early_stopping import EarlyStopping
from heads.stay_positive.training import require_meaning

if TYPE_CHECKING:
    from heads.stay_positive.probe import StayPositiveProbe

CHANCE = 0.5
"""Balanced accuracy of the head before its first step, which calls everything real."""


def weighted_cross_entropy(logits: Tensor, y: Tensor, costs: Tensor | None) -> Tensor:
    """Return the mean cross-entropy of rows, each weighted by its class.

    Parameters
    ----------
    logits
        Decision values (n,), float32.
    y
        Labels (n,), 0 or 1.
    costs
        Weight of one row of either class (2,), or None for 1.

    Returns
    -------
    torch.Tensor
        A scalar, float32.
    """
    weight = None if costs is None else costs[y]
    return binary_cross_entropy_with_logits(logits, y.float(), weight)


def tensor_costs(class_weight: Any, source: BatchSource, device: torch.device) -> Tensor | None:
    """Return the weight of one row of either class (2,) on the device, or None if all are 1.

    Parameters
    ----------
    class_weight
        None, ``"balanced"``, or a weight for each label.
    source
        Knows the labels, and how many rows have them.
    device
        Where it is wanted.

    Returns
    -------
    torch.Tensor or None
        Float32.
    """
    if class_weight is None:
        return None
    costs = class_weights(class_weight, source.classes, source.counts())
    return torch.tensor(costs, dtype=torch.float32, device=device)


class AdamClampTrainer(GradientTrainer):
    """Adam on the weights and the intercept, of which the weights are projected after each step.

    Parameters
    ----------
    head
        What is trained.
    source
        The rows to learn from; only what is known without reading them is used here.
    """

    head: "StayPositiveProbe"
    module: nn.Linear

    def __init__(self, head: "StayPositiveProbe", source: BatchSource) -> None:
        super().__init__(head, source)
        self._costs = tensor_costs(head.class_weight, source, self.device)
        self._stopping = EarlyStopping(CHANCE, head.learning_rate, head.patience)

    def build(self) -> nn.Module:
        """Return the last layer, all zero."""
        layer = nn.Linear(self.source.n_features, 1)
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        return layer

    def consume(self, batch: RowBatch, shared: Shared) -> None:
        """Take one step."""
        require_meaning(self.members, batch.X, shared)
        super().consume(batch, shared)

    def loss(self, x: Tensor, y: Tensor, batch: RowBatch) -> Losses:
        """Return the mean cross-entropy of rows."""
        entropy = weighted_cross_entropy(self.logits(x), y, self._costs)
        return {"loss": entropy, "bce": entropy}

    def penalty(self) -> Tensor:
        """Return the penalties of the weights."""
        weight = self.module.weight
        return 0.5 * self.head.ridge * weight.square().sum() + self.head.l1 * weight.sum()

    def logits(self, x: Tensor) -> Tensor:
        """Return the decision values (n,)."""
        logits: Tensor = self.module(x)
        return logits[:, 0]

    def after_step(self) -> None:
        """Cut the weights off at 0; the intercept is free."""
        with torch.no_grad():
            self.module.weight.clamp_(min=0)

    def rate(self, epoch: int, step: int) -> float:
        """Return the factor by which the learning rate was lowered so far."""
        return self._stopping.rate / self.head.learning_rate

    def next_pass(self) -> Pass | None:
        """Return one shuffled pass per epoch, until the rate is too low or epochs run out."""
        return None if self._stopping.stopped else super().next_pass()

    def quality(self, scores: Floats, y: NDArray[np.intp]) -> float:
        """Return the balanced accuracy at logit > 0."""
        return balanced_accuracy(scores[:, 0], y, self.source.classes)

    def improves(self, quality: float) -> bool:
        """Return whether the epoch is clearly better than all before."""
        return self._stopping.judge(quality).saved

    def restore(self, state: State) -> None:
        """Go on after the epoch at which the state was taken."""
        super().restore(state)
        for *_, quality in self._history:
            if np.isfinite(quality):
                self._stopping.judge(quality)

    def finish(self) -> None:
        """Write the learned attributes; if no epoch was better than chance, those of the last."""
        if not self._kept:
            warnings.warn(
                f"no epoch of {self.head!r} was better than chance on the validation rows, the "
                f"last is kept; raise 'learning_rate' or set solver='exact'.",
                ConvergenceWarning,
                stacklevel=2,
            )
            self._kept, self._kept_epoch = dict(self.module.state_dict()), self.epoch
        super().finish()

    def write(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Write weights and intercept, float32."""
        self.head.coef_, self.head.intercept_ = weights["weight"], weights["bias"]
