"""Training of an adapter on a contrastive loss, and then of scorers on what it embeds.

`ContrastiveTrainer` takes gradient steps epoch by epoch, and when they are over hands the embedded
rows on to the trainers of other heads, which ask for the passes they need. The estimator is
`heads.contrastive.head.HierarchicalContrastiveHead`. This module imports torch.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from heads.contrastive.adapters import build_adapter
from heads.loop.batch_source import BatchSource, Floats, Pass, RowBatch, Shared
from heads.loop.gradient import GradientTrainer, Losses
from heads.loop.passes import State, Trainer
from heads.losses.hierarchical import Embeddings, cosine_schedule, hierarchical_contrastive

SCORING = "scoring/"
"""Prefix of the scorers' states among the arrays of a checkpoint."""


class ContrastiveTrainer(GradientTrainer):
    """AdamW on the hierarchical contrastive loss, then the passes of the scorers.

    Parameters
    ----------
    members
        Heads of the class `HierarchicalContrastiveHead` that differ in their scorers at most: they
        share the adapter.
    source
        The rows to learn from.

    Notes
    -----
    Memory, besides weights: ``4 · batch_size · (batch_size + bank_size)`` bytes a few times over,
    and the bank, ``4 · bank_size · n_components`` bytes.
    """

    takes_lessons = False  # decisions are the scorers', who take no steps

    def __init__(self, members: Sequence[Any], source: BatchSource) -> None:
        head = members[0]
        self.n_components = head.n_components_of(source.layers)
        super().__init__(head, source)
        known = source.targets.get("generator")
        self._sources = np.zeros(source.n_samples, np.int8) if known is None else known.codes
        self.sampling = head.sampling
        if known is None and self.sampling == "generator":
            self.sampling = "class"
        # An epoch of pairs has each fake once, with a real image.
        n_rows = 2 * source.counts()[1] if self.sampling == "pair" else source.n_samples
        self._steps_per_epoch = -(-int(n_rows) // head.batch_size)
        self._bank: Embeddings | None = None
        self._centres = self._no_centres()
        self.gradient_norm = torch.zeros(())
        self.members = members
        self.scorers = [member.make_scorer() for member in members]
        self._scoring = self._trainers_of_scorers()

    def build(self) -> nn.Module:
        """Return the adapter with its initial weights."""
        head = self.head
        return build_adapter(
            head.adapter, self.source.layers, self.n_components, head.adapter_params
        )

    def learned(self) -> Mapping[str, NDArray[Any]]:
        """Return the head's adapter, if it has one."""
        adapter: Mapping[str, NDArray[Any]] = getattr(self.head, "adapter_", {})
        return adapter

    def make_optimiser(self) -> torch.optim.Optimizer:
        """Return AdamW with FiSeR's moments; every step is preceded by clipping."""
        head = self.head
        optimiser = torch.optim.AdamW(
            self.module.parameters(),
            lr=head.learning_rate,
            betas=(0.9, 0.99),
            eps=1e-6,
            weight_decay=head.weight_decay,
        )
        optimiser.register_step_pre_hook(self._clip)
        return optimiser

    def _clip(self, *_: Any) -> None:
        """Shorten the gradient to `clip_norm`, and note how long it was."""
        self.gradient_norm = nn.utils.clip_grad_norm_(self.module.parameters(), self.head.clip_norm)

    def rate(self, epoch: int, step: int) -> float:
        """Return the factor of the learning rate: linear warm-up, then a cosine over all steps."""
        total = self._steps_per_epoch * self.head.max_iter
        return cosine_schedule(
            epoch * self._steps_per_epoch + step,
            warmup=round(self.head.warmup * total),
            total=total,
            base=1.0,
            final=self.head.final_rate,
        )

    def loss(self, x: Tensor, y: Tensor, batch: RowBatch) -> Losses:
        """Return the loss of a batch among itself and the rows before it in the epoch."""
        head = self.head
        source = torch.from_numpy(self._sources[batch.index].astype(np.int64)).to(self.device)
        row = torch.from_numpy(batch.index).to(self.device)
        anchors = Embeddings(self.module(x), y, source, row)
        seen = anchors.detached()
        bank = seen if self._bank is None else seen.followed_by(self._bank)
        losses = hierarchical_contrastive(
            anchors,
            bank,
            temperature=head.temperature,
            coarse_weight=head.coarse_weight,
            fine_weight=head.fine_weight,
        )
        self._bank = bank.first(head.bank_size) if head.bank_size else None
        self._centres.index_add_(0, y, normalize(seen.z))
        return {"loss": losses.total, "coarse": losses.coarse, "fine": losses.fine}

    def logits(self, x: Tensor) -> Tensor:
        """Return how much nearer rows are to the class mean of this epoch's synthetic rows."""
        natural, synthetic = normalize(self._centres)
        values: Tensor = normalize(self.module(x)) @ (synthetic - natural)
        return values

    def embed(self, X: Floats) -> Floats:
        """Return rows as the trained adapter embeds them; see `transform` of the head."""
        dtype = np.float64 if X.dtype == np.float64 else np.float32
        x = torch.from_numpy(np.require(X, dtype, ["C", "W", "E"])).to(self.device)
        self.module.eval().to(x.dtype)  # no more steps are taken
        with torch.inference_mode():
            z: Floats = normalize(self.module(x)).numpy(force=True)
        return z

    @property
    def adapted(self) -> bool:
        """Whether the adapter is trained, and scorers are."""
        return bool(self.epoch == self.head.max_iter)

    @property
    def validates(self) -> bool:
        """Whether epochs are selected on validation rows; scorers select nothing."""
        return super().validates and not self.adapted

    def next_pass(self) -> Pass | None:
        """Return one shuffled pass per epoch, then those of the scorers."""
        if not self.adapted:
            return Pass(self.head.batch_size, self.head.random_state, self.epoch, self.sampling)
        wanted = [trainer.next_pass() for trainer in self._scoring]
        return next((reading for reading in wanted if reading is not None), None)

    def _fed(self) -> list[Trainer]:
        """Return the trainers of scorers that want the pass that is being read."""
        reading = self.next_pass()
        return [trainer for trainer in self._scoring if trainer.next_pass() == reading]

    def consume(self, batch: RowBatch, shared: Shared) -> None:
        """Take one step, or hand the embedded batch to the scorers."""
        if not self.adapted:
            super().consume(batch, shared)
            return
        embedded = batch._replace(X=self.embed(batch.X))
        own: Shared = {}  # what others share is of the features, not of these embeddings
        for trainer in self._fed():
            trainer.consume(embedded, own)

    def end_pass(self, validation: tuple[Floats, NDArray[np.intp]] | None) -> None:
        """Close an epoch, or a pass of the scorers."""
        if self.adapted:
            for trainer in self._fed():
                trainer.end_pass(None)
            return
        super().end_pass(validation)
        self._bank, self._centres = None, self._no_centres()
        if self.adapted:
            self.require_finite()
            self.module.load_state_dict(self._kept)

    def _trainers_of_scorers(self) -> list[Trainer]:
        """Return what trains the scorers on embedded rows, scorers of one kind together."""
        rows = EmbeddedRows(self, self.source)
        kinds = dict.fromkeys(type(scorer) for scorer in self.scorers)
        return [
            trainer
            for kind in kinds
            for trainer in kind.trainers([s for s in self.scorers if type(s) is kind], rows)
        ]

    def _no_centres(self) -> Tensor:
        """Return the sums of no embeddings, (2, n_components)."""
        return torch.zeros(2, self.n_components, dtype=torch.float32, device=self.device)

    def state(self) -> State | None:
        """Return the state of the adapter's training, and of the scorers' if that has begun."""
        state = dict(super().state() or {})
        for number, trainer in enumerate(self._scoring if self.adapted else []):
            own = trainer.state() or {}
            state |= {f"{SCORING}{number}/{name}": value for name, value in own.items()}
        return state

    def restore(self, state: State) -> None:
        """Go on after the pass at which the state was taken; scorers without a state begin."""
        super().restore({k: v for k, v in state.items() if not k.startswith(SCORING)})
        for number, trainer in enumerate(self._scoring):
            prefix = f"{SCORING}{number}/"
            own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            if own:
                trainer.restore(own)

    def finish(self) -> None:
        """Write the learned attributes onto all members."""
        for trainer in self._scoring:
            trainer.finish()
        for head, scorer in zip(self.members, self.scorers, strict=True):
            self.head, head.scorer_ = head, scorer
            super().finish()

    def write(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Write the adapter onto the head, a copy for each member."""
        self.head.adapter_ = {name: values.copy() for name, values in weights.items()}
        self.head.layers_ = list(self.source.layers)


class EmbeddedRows:
    """The rows of a source as an adapter embeds them.

    Parameters
    ----------
    trainer
        What embeds them.
    source
        The rows.
    """

    def __init__(self, trainer: ContrastiveTrainer, source: BatchSource) -> None:
        self._trainer, self._source = trainer, source
        self.n_samples, self.n_features = source.n_samples, trainer.n_components
        self.layers: tuple[int, ...] = (self.n_features,)
        self.layer_names: tuple[str, ...] | None = None
        self.classes, self.targets = source.classes, source.targets
        self.workspace = source.workspace

    def counts(self) -> NDArray[np.intp]:
        """Return how many rows each class has."""
        return self._source.counts()

    def batches(self, reading: Pass) -> Iterator[RowBatch]:
        """Yield the batches of a pass, embedded by the current weights."""
        for batch in self._source.batches(reading):
            yield batch._replace(X=self._trainer.embed(batch.X))
