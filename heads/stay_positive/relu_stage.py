"""`StayPositiveProbe` in two stages: a free network of one ReLU layer, then weights >= 0 behind it.

This module imports torch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from heads.loop.batch_source import BatchSource, Floats, Pass, RowBatch, Shared
from heads.loop.gradient import GradientTrainer, Losses
from heads.loop.passes import State, Trainer
from heads.loop.sampling import Sampling
from heads.stay_positive.adam_clamp import tensor_costs, weighted_cross_entropy
from heads.stay_positive.relu_layer import HiddenBatches, ReluLayer

if TYPE_CHECKING:
    from heads.stay_positive.probe import StayPositiveProbe

Refit = Callable[[Sequence["StayPositiveProbe"], BatchSource], list[Trainer]]


@dataclass(frozen=True)
class StageParameters:
    """What the first stage of a head depends on; heads with equal ones share it."""

    hidden: int
    learning_rate: float
    max_iter: int
    batch_size: int
    selection: str
    sampling: Sampling
    class_weight: Any
    random_state: int
    device: str

    @classmethod
    def of(cls, head: "StayPositiveProbe") -> Self:
        """Return the parameters of a head's first stage."""
        own = {"learning_rate": "hidden_learning_rate", "max_iter": "hidden_epochs"}
        names = [field.name for field in fields(cls)]
        return cls(**{name: getattr(head, own.get(name, name)) for name in names})


class ReluStage(GradientTrainer):
    """Adam on a network with one hidden ReLU layer, none of whose weights is bounded.

    Parameters
    ----------
    parameters
        Size and training of the network.
    source
        The rows to learn from; only what is known without reading them is used here.
    """

    head: StageParameters

    def __init__(self, parameters: StageParameters, source: BatchSource) -> None:
        super().__init__(parameters, source)
        self._costs = tensor_costs(parameters.class_weight, source, self.device)

    def build(self) -> nn.Module:
        """Return the network with its initial weights."""
        n_hidden = self.head.hidden
        return nn.Sequential(
            nn.Linear(self.source.n_features, n_hidden), nn.ReLU(), nn.Linear(n_hidden, 1)
        )

    def loss(self, x: Tensor, y: Tensor, batch: RowBatch) -> Losses:
        """Return the mean cross-entropy of a batch."""
        return {"loss": weighted_cross_entropy(self.logits(x), y, self._costs)}

    def logits(self, x: Tensor) -> Tensor:
        """Return the decision values (n,)."""
        logits: Tensor = self.module(x)
        return logits[:, 0]

    def layer(self) -> ReluLayer:
        """Return the hidden layer of the epoch that was kept.

        Raises
        ------
        ValueError
            If its weights are not finite.
        """
        kept = {name: value.numpy(force=True) for name, value in self._kept.items()}
        if not all(np.isfinite(value).all() for value in kept.values()):
            raise ValueError(
                f"the training of the hidden layer diverged at 'hidden_learning_rate' "
                f"{self.head.learning_rate!r}; lower it, or scale the features down."
            )
        return ReluLayer(kept["0.weight"], kept["0.bias"])


class TwoStageTrainer:
    """The first stage of several heads, then the second stage of each.

    Parameters
    ----------
    members
        Heads with equal `StageParameters` and the same solver.
    source
        The rows to learn from.
    refit
        Makes the trainers of the second stage, which want the same passes.
    """

    def __init__(
        self, members: Sequence["StayPositiveProbe"], source: BatchSource, refit: Refit
    ) -> None:
        self.members = members
        self._source, self._refit = source, refit
        self._stage = ReluStage(StageParameters.of(members[0]), source)
        self._hidden: HiddenBatches | None = None
        self._refits: list[Trainer] = []

    def _begin_refits(self) -> None:
        """Freeze the hidden layer and go on behind it."""
        self._layer = self._stage.layer()
        self._hidden = HiddenBatches(self._source, self._layer)
        self._refits = self._refit(self.members, self._hidden)

    def _active(self) -> list[Trainer]:
        """Return what is being trained."""
        if self._hidden is None:
            return [self._stage]
        return [trainer for trainer in self._refits if trainer.next_pass() is not None]

    def _seen(self, X: Floats) -> Floats:
        """Return rows as what is being trained sees them."""
        return X if self._hidden is None else self._layer(X)

    @property
    def takes_lessons(self) -> bool:
        """Whether both stages take gradient steps."""
        return self.members[0].solver == "adam_clamp"

    @property
    def validates(self) -> bool:
        """Whether what is being trained selects epochs."""
        return any(trainer.validates for trainer in self._active())

    def next_pass(self) -> Pass | None:
        """Return the pass wanted next; the first stage ends when it wants none."""
        if self._hidden is None and self._stage.next_pass() is None:
            self._begin_refits()
        return next((trainer.next_pass() for trainer in self._active()), None)

    def consume(self, batch: RowBatch, shared: Shared) -> None:
        """Hand the batch to what is being trained."""
        if self._hidden is not None:
            batch, shared = self._hidden.cut(batch), {}
        for trainer in self._active():
            trainer.consume(batch, shared)

    def scores(self, X: Floats) -> Floats:
        """Return the logits of what is being trained, a column for each of its members."""
        seen = self._seen(X)
        return np.concatenate([trainer.scores(seen) for trainer in self._active()], axis=1)

    def end_pass(self, validation: tuple[Floats, NDArray[np.intp]] | None) -> None:
        """Close the pass of what is being trained."""
        start = 0
        for trainer in self._active():
            stop = start + len(trainer.members)
            own = validation and (validation[0][:, start:stop], validation[1])
            trainer.end_pass(own)
            start = stop

    def state(self) -> State | None:
        """Return the state of the first stage, and of what follows it."""
        parts = {"stage": self._stage.state()}
        parts |= {f"refit{i}": trainer.state() for i, trainer in enumerate(self._refits)}
        return {f"{part}/{k}": v for part, own in parts.items() for k, v in (own or {}).items()}

    def restore(self, state: State) -> None:
        """Go on from either stage."""
        parts: dict[str, dict[str, NDArray[Any]]] = {}
        for name, value in state.items():
            part, _, key = name.partition("/")
            parts.setdefault(part, {})[key] = value
        self._stage.restore(parts.pop("stage"))
        if parts:
            self._begin_refits()
        for part, own in parts.items():
            self._refits[int(part.removeprefix("refit"))].restore(own)

    def finish(self) -> None:
        """Write the learned attributes of the second stage, and the hidden layer."""
        for trainer in self._refits:
            trainer.finish()
        for head in self.members:
            head.hidden_weight_, head.hidden_bias_ = self._layer.weight, self._layer.bias
            head.n_features_in_ = self._source.n_features


def two_stage_trainers(
    heads: Sequence["StayPositiveProbe"], source: BatchSource, refit: Refit
) -> list[Trainer]:
    """Return what trains heads with a hidden layer; those whose first stage is the same share it.

    Parameters
    ----------
    heads
        Heads with the same solver.
    source
        The rows to learn from.
    refit
        Makes the trainers of the second stage.

    Returns
    -------
    list of Trainer
        One for each first stage.
    """
    groups: dict[str, list[StayPositiveProbe]] = {}
    for head in heads:
        groups.setdefault(repr(StageParameters.of(head)), []).append(head)
    return [TwoStageTrainer(members, source, refit) for members in groups.values()]
