"""Training of heads that are a torch module: gradient steps, epoch by epoch, for one head.

`GradientTrainer` is everything but the network, its loss and what it leaves behind, which a
subclass says. This module imports torch.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from heads.loop.batch_source import BatchSource, Floats, Pass, RowBatch, Shared, Term
from heads.loop.devices import torch_device
from heads.loop.lessons import lesson_loss
from heads.loop.passes import State
from heads.loop.validation import average_precisions

Losses = Mapping[str, Tensor]
"""The parts of a loss by name; ``"loss"`` is what is minimised."""


class GradientTrainer:
    """Gradient descent on one head's module.

    Parameters
    ----------
    head
        What is trained. It has the hyper-parameters ``learning_rate``, ``batch_size``, ``max_iter``
        (epochs), ``selection`` (``"validation"`` or ``"last"``), ``sampling``, ``random_state`` and
        ``device``.
    source
        The rows to learn from; only what is known without reading them is used here.

    Notes
    -----
    Everything random (initial weights, dropout) is drawn from the head's seed, the epoch and the
    step, and torch's own generator is left as it was: a head becomes the same whether it is
    trained alone, with others, or in two parts.

    A head that has been trained, whose ``warm_start`` is true, goes on from its weights; the
    optimiser's moments begin anew. Lessons cost a second forward pass of their rows.
    """

    takes_lessons = True

    def __init__(self, head: Any, source: BatchSource) -> None:
        self.members: Sequence[Any] = [head]
        self.head, self.source = head, source
        self.device = torch_device(head.device)
        with seeded(self.device, head.random_state):
            self.module = self.build().to(self.device)
        self.warm_up()
        self.optimiser = self.make_optimiser()
        self._rates = [group["lr"] for group in self.optimiser.param_groups]
        self.epoch, self._step, self._n_rows = 0, 0, 0
        self._totals: dict[str, Tensor] = {}
        self._history: list[list[float]] = []
        self._best, self._kept_epoch = -np.inf, 0
        self._kept: dict[str, Tensor] = {}

    def build(self) -> nn.Module:
        """Return the network with its initial weights."""
        raise NotImplementedError

    def learned(self) -> Mapping[str, NDArray[Any]]:
        """Return the weights that the head has, the inverse of `write`; nothing if it has none."""
        return {}

    def warm_up(self) -> None:
        """Begin with the weights that the head has, if that is wanted and it has any."""
        weights = self.learned() if getattr(self.head, "warm_start", False) else {}
        if not weights:
            return
        wanted = {name: tuple(value.shape) for name, value in self.module.state_dict().items()}
        found = {name: value.shape for name, value in weights.items()}
        for name in {**wanted, **found}:
            if wanted.get(name) != found.get(name):
                raise ValueError(
                    f"warm_start=True needs weights {name!r} of shape {wanted.get(name)}, got a "
                    f"{type(self.head).__name__} trained with {found.get(name)}; keep features and "
                    f"sizes, or set warm_start=False."
                )
        self.module.load_state_dict({k: torch.tensor(v) for k, v in weights.items()})

    def make_optimiser(self) -> torch.optim.Optimizer:
        """Return the optimiser of the module's parameters; Adam with torch's defaults."""
        return torch.optim.Adam(self.module.parameters(), lr=self.head.learning_rate)

    def loss(self, x: Tensor, y: Tensor, batch: RowBatch) -> Losses:
        """Return the parts of the loss of rows: x float32 (n, n_features), y int64 (n,)."""
        raise NotImplementedError

    def penalty(self) -> Tensor | float:
        """Return what the loss of every step has besides that of its rows."""
        return 0.0

    def logits(self, x: Tensor) -> Tensor:
        """Return the decision values (n,) of rows, in training or in evaluation."""
        raise NotImplementedError

    def rate(self, epoch: int, step: int) -> float:
        """Return the factor of the learning rate at a step (from 0) of an epoch (from 0)."""
        return 1.0

    def after_step(self) -> None:
        """Do what has to follow every step, such as a projection."""

    def quality(self, scores: Floats, y: NDArray[np.intp]) -> float:
        """Return what epochs are selected by, of validation scores (n, 1); larger is better."""
        (precision,) = average_precisions(scores, y, self.source.classes)
        return float(precision)

    def improves(self, quality: float) -> bool:
        """Return whether an epoch is to be kept instead of the best one before.

        By default the later of two equal epochs is: average precision saturates before the loss.
        """
        return quality >= self._best

    def write(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Write the learned attributes onto the head; `weights` is the module's state."""
        raise NotImplementedError

    @property
    def validates(self) -> bool:
        """Whether epochs are selected on validation rows."""
        return bool(self.head.selection == "validation")

    def next_pass(self) -> Pass | None:
        """Return one shuffled pass per epoch."""
        head = self.head
        if self.epoch == head.max_iter:
            return None
        return Pass(head.batch_size, head.random_state, self.epoch, head.sampling)

    def consume(self, batch: RowBatch, shared: Shared) -> None:
        """Take one step."""
        key = (GradientTrainer, self.device)
        if key not in shared:
            shared[key] = self.load(batch.X), torch.from_numpy(batch.y).to(self.device)
        x, y = shared[key]
        self.module.train()
        for group, rate in zip(self.optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * self.rate(self.epoch, self._step)
        with seeded(self.device, self.head.random_state, self.epoch + 1, self._step):
            losses = self._sum_of_terms(x, y, batch)
        self.optimiser.zero_grad(set_to_none=True)
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.after_step()
        for name, loss in losses.items():
            self._totals[name] = self._totals.get(name, 0) + loss.detach().double() * len(y)
        self._step, self._n_rows = self._step + 1, self._n_rows + len(y)

    def _sum_of_terms(self, x: Tensor, y: Tensor, batch: RowBatch) -> Losses:
        """Return the loss of a batch and its parts: the sums of those of its terms."""
        parts = batch.parts()
        sizes = [term.n_rows for _, term in parts]
        total: dict[str, Tensor] = {}
        inputs = zip(torch.split(x, sizes), torch.split(y, sizes), strict=True)
        for (own_x, own_y), (rows, term) in zip(inputs, parts, strict=True):
            for name, loss in self._losses_of(own_x, own_y, rows, term).items():
                total[name] = total[name] + loss if name in total else loss
        total["loss"] = total["loss"] + self.penalty()
        return total

    def _losses_of(self, x: Tensor, y: Tensor, rows: RowBatch, term: Term) -> Losses:
        """Return the loss of one term and its parts."""
        losses: dict[str, Tensor] = {"loss": x.new_zeros(())}
        if term.weight:
            losses = {name: term.weight * loss for name, loss in self.loss(x, y, rows).items()}
        if term.lesson is not None:
            losses["loss"] = losses["loss"] + lesson_loss(term.lesson, self.logits(x))
        return losses

    def load(self, X: Floats) -> Tensor:
        """Return rows as float32 on the device."""
        return torch.from_numpy(np.require(X, np.float32, ["C", "W", "E"])).to(self.device)

    def scores(self, X: Floats) -> Floats:
        """Return the decision values (n_rows, 1) of the current weights."""
        self.module.eval()
        with torch.inference_mode():
            values: Floats = self.logits(self.load(X))[:, None].numpy(force=True)
        return values

    def end_pass(self, validation: tuple[Floats, NDArray[np.intp]] | None) -> None:
        """Record the epoch, and keep its weights if it is the best so far, or the last."""
        self.epoch, self._step = self.epoch + 1, 0
        quality = np.nan if validation is None else self.quality(*validation)
        means = [float(total) / self._n_rows for total in self._totals.values()]
        self._history.append([*means, quality])
        self._totals, self._n_rows = {}, 0
        last = self.epoch == self.head.max_iter
        if last if validation is None else self.improves(quality):
            self._best, self._kept_epoch = quality, self.epoch
            self._kept = {k: v.detach().clone() for k, v in self.module.state_dict().items()}

    def state(self) -> State | None:
        """Return the weights, the optimiser's moments, the history and the best weights."""
        arrays = {f"module/{k}": v for k, v in self.module.state_dict().items()}
        arrays |= {f"kept/{k}": v for k, v in self._kept.items()}
        moments = self.optimiser.state_dict()["state"]
        arrays |= {f"moment/{i}/{k}": v for i, own in moments.items() for k, v in own.items()}
        state = {name: value.numpy(force=True) for name, value in arrays.items()}
        state["history"] = np.array(self._history)
        state["best"] = np.array([self._best, self._kept_epoch])
        return state

    def restore(self, state: State) -> None:
        """Go on after the epoch at which the state was taken."""
        tensors = {name: torch.tensor(value) for name, value in state.items()}
        self.module.load_state_dict(_below(tensors, "module/"))
        self._kept = {k: v.to(self.device) for k, v in _below(tensors, "kept/").items()}
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _below(tensors, "moment/").items():
            number, _, key = name.partition("/")
            moments.setdefault(int(number), {})[key] = value
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})
        self._history = state["history"].tolist()
        self.epoch, self._best = len(self._history), float(state["best"][0])
        self._kept_epoch = int(state["best"][1])

    def require_finite(self) -> None:
        """Refuse to leave weights behind that are not numbers.

        Raises
        ------
        ValueError
            If the weights that were kept are not finite.
        """
        if not all(bool(value.isfinite().all()) for value in self._kept.values()):
            raise ValueError(
                f"learned weights must be finite, got others after epoch {self._kept_epoch} of "
                f"{self.head!r}; lower 'learning_rate', or scale the features down."
            )

    def finish(self) -> None:
        """Write the learned attributes."""
        self.require_finite()
        head = self.head
        self.write({name: value.numpy(force=True) for name, value in self._kept.items()})
        head.history_ = np.array(self._history)
        head.n_iter_, head.selected_epoch_ = self.epoch, self._kept_epoch
        head.classes_, head.n_features_in_ = self.source.classes, self.source.n_features


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin so, the beginning left out."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


@contextmanager
def seeded(device: torch.device, *seeds: int) -> Iterator[None]:
    """Let torch draw from a generator of its own.

    Parameters
    ----------
    device
        Where numbers are drawn, besides the CPU.
    seeds
        Numbers >= 0 that decide what is drawn.

    Yields
    ------
    None
        Afterwards the generators are as they were.
    """
    (seed,) = np.random.SeedSequence(seeds).generate_state(1, np.uint64)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        # Not torch.manual_seed, which seeds the generators of all GPUs, slowly.
        torch.default_generator.manual_seed(int(seed))
        if devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(int(seed))
        yield
