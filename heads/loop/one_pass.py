"""What trainers have in common that read the rows once, in stored order, and select nothing."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heads.loop.batch_source import BatchSource, Floats, Pass, RowBatch, Shared
from heads.loop.passes import State

BATCH_NUMBERS = 2**22
"""Features per batch, all rows together: as for exact solvers, so that they share the pass."""


class OnePassTrainer:
    """A trainer to which `consume` and `finish` are added.

    Parameters
    ----------
    members
        Heads that see the same rows.
    source
        The rows to learn from; only its sizes and classes are read here.
    """

    validates = False

    def __init__(self, members: Sequence[Any], source: BatchSource) -> None:
        self.members = members
        self.classes, self.n_features = source.classes, source.n_features
        self._pass: Pass | None = Pass(max(1, BATCH_NUMBERS // source.n_features))

    def next_pass(self) -> Pass | None:
        """Return the one pass, then None."""
        return self._pass

    def consume(self, batch: RowBatch, shared: Shared) -> None:
        """Take one batch."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it does with a batch.")

    def scores(self, X: Floats) -> Floats:
        """Refuse: nothing is selected on validation rows, so nobody asks."""
        raise NotImplementedError(f"{type(self).__name__} has no scores before its end.")

    def end_pass(self, validation: tuple[Floats, NDArray[np.intp]] | None) -> None:
        """Note that all rows were seen."""
        self._pass = None

    def state(self) -> State | None:
        """Return None: a training of one pass that was interrupted begins anew."""
        return None

    def restore(self, state: State) -> None:
        """Do nothing; there is no state."""

    def finish(self) -> None:
        """Write what all heads have; subclasses write the rest."""
        for head in self.members:
            head.classes_, head.n_features_in_ = self.classes, self.n_features
