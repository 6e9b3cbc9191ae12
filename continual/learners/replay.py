"""Learning with rows kept of earlier domains."""

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from continual.domains import Step
from continual.learners.fine_tune import FineTune
from continual.learners.nearest_mean import Floats, NearestMean, represented
from continual.measuring import generators_of
from continual.replay import ReplayBatches
from continual.selection import LABELS_ONLY, choose
from featstore.batches import iter_batches
from heads.loop.batch_source import BatchSource

if TYPE_CHECKING:
    import xarray as xr

BATCH_SIZE = 4096


class Replay(FineTune):
    """Trains on the present rows and those kept of earlier steps.

    Heads trained by gradient steps add the loss of a batch of the memory to that of every batch of
    present rows; exact heads learn from both together.
    """

    name: ClassVar[str] = "replay"
    has_memory: ClassVar[bool] = True

    def learn(self, step: Step) -> Any:
        """Learn one step, then keep some of its rows; see `FineTune.learn`."""
        super().learn(step)
        self._remember(step)
        return self.decider()

    def decider(self) -> Any:
        """Return what decides after a step: the head."""
        return self.head

    def trained(self, step: Step) -> Any:
        """Return the head after training on a step and the memory."""
        if not len(self.memory):
            return super().trained(step)
        present, kept = self.domains.select(step.rows), self.kept()
        return self.fit_batches(self.next_head(), self.replayed(present, kept), present)

    def replayed(self, present: "xr.Dataset", kept: "xr.Dataset") -> BatchSource:
        """Return the batches of present rows and those kept."""
        size = self.config.memory_batch_size
        return ReplayBatches(self.batches(present), self.batches(kept), size)

    def kept(self) -> "xr.Dataset":
        """Return the rows in the memory."""
        return self.memory.select(self.store, self.config.layer)

    def _remember(self, step: Step) -> None:
        """Keep some rows of a step."""
        rows = self.domains.select(step.rows)
        selection, keep = str(self.run.selection), self.run.keep or 1
        options = self.config.selection_params.get(selection, {})
        blind = selection in LABELS_ONLY
        Z = None if blind else self.representations(rows)
        classes = self._classes(rows)
        choice = choose(selection, Z, classes, keep, self.rng, **options)
        how = {"selection": selection, "keep": keep, **options, "head": self.config.head.name}
        if not blind:
            how |= {"encoder": encoder_of(self.head), "classes": choice.notes}
        logits = self._logits(self.domains.select(step.rows[choice.rows]))
        self.memory.remember(rows, choice, step.name, how, logits, classes[choice.rows])
        if self.config.capacity is not None:
            self.memory.shrink(self.config.capacity)

    def _classes(self, rows: "xr.Dataset") -> NDArray[Any]:
        """Return what rows are to be told apart as."""
        if self.config.target == "generator":
            return generators_of(rows).astype(str)
        return np.asarray(rows["label"].values)

    def _logits(self, rows: "xr.Dataset") -> Floats:
        """Return the decision values of the head for rows; nan where there are many classes."""
        values = np.full(rows.sizes["sample"], np.nan)
        if len(self.head.classes_) == 2:
            for batch in iter_batches(rows, BATCH_SIZE, max_memory=self.config.max_memory):
                X = batch.X.reshape(len(batch.X), -1)
                values[batch.index] = self.head.decision_function(X)
        return values

    def representations(self, rows: "xr.Dataset") -> Floats:
        """Return the representations of rows, in their order."""
        Z = np.empty((rows.sizes["sample"], 0), np.float32)
        for index, values in self._represented(rows):
            if not Z.shape[1]:
                Z = np.empty((len(Z), values.shape[1]), np.float32)
            Z[index] = values
        return Z

    def _represented(self, rows: "xr.Dataset") -> Iterator[tuple[NDArray[np.int64], Floats]]:
        """Yield the positions and representations of rows, batch by batch."""
        for batch in iter_batches(rows, BATCH_SIZE, max_memory=self.config.max_memory):
            yield batch.index, represented(self.head, batch.X.reshape(len(batch.X), -1))


class NearestMeanReplay(Replay):
    """Trains with replay and decides by the nearest class mean of the rows kept.

    Rebuffi et al., "iCaRL: incremental classifier and representation learning", CVPR 2017, without
    its distillation.
    """

    name: ClassVar[str] = "nearest_mean"

    def decider(self) -> Any:
        """Return what decides after a step: the class means."""
        kept = self.kept()
        classes = self._classes(kept)
        parts = ((Z, classes[index]) for index, Z in self._represented(kept))
        return NearestMean.of(self.head, parts)


def encoder_of(head: Any) -> str:
    """Return a digest of all that a head has learned.

    Parameters
    ----------
    head
        A fitted head.

    Returns
    -------
    str
        16 hexadecimal digits, equal for equal arrays.
    """
    digest = hashlib.blake2b(type(head).__name__.encode(), digest_size=8)
    for name, value in sorted(vars(head).items()):
        if name.endswith("_") and isinstance(value, np.ndarray) and name != "history_":
            digest.update(name.encode() + np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()
