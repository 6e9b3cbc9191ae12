"""Training of closed-form heads: one pass collects the moments, a `Study` makes heads of them.

All heads of one class that see the same rows with the same weights share the moments, and what
their studies compute from them (an eigendecomposition).
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heads.class_weights import class_weights
from heads.closed_form.gram import require_room
from heads.closed_form.moments import ROWS, Moments
from heads.loop.batch_source import BatchSource, Floats, Pass, RowBatch, Shared
from heads.loop.passes import State

if TYPE_CHECKING:
    from heads.closed_form.moment_head import MomentHead

Validation = tuple[Floats, NDArray[np.intp]]


class Study:
    """What one head makes of the moments of its rows; a subclass says it.

    Attributes
    ----------
    wants_rows : bool
        Whether the rows have to be read once more.
    n_scores : int
        Scores of each validation row that decide something; 0 for none.
    """

    wants_rows: bool = False
    n_scores: int = 0

    def add(self, X: Floats, y: NDArray[np.intp], shared: Shared) -> None:
        """Take rows of the second reading; ``shared`` is the cache of the batch."""

    def scores(self, X: Floats) -> Floats:
        """Return the scores (n_rows, n_scores) of validation rows."""
        raise NotImplementedError

    def close(self, validation: Validation | None) -> None:
        """Take the scores of all validation rows and their labels, or None."""

    def write(self) -> None:
        """Write what was learned onto the head."""
        raise NotImplementedError


class MomentTrainer:
    """Heads that share the moments of their rows.

    Parameters
    ----------
    heads
        What is trained; they lift rows alike and weigh classes alike.
    source
        The rows to learn from; only its sizes and classes are read here.
    workspace
        Bytes that the Gram matrix may take.

    Raises
    ------
    ValueError
        If the Gram matrix does not fit into the workspace, or a class has no rows.
    """

    def __init__(self, heads: Sequence["MomentHead"], source: BatchSource, workspace: int) -> None:
        self.members = heads
        leader = heads[0]
        for head in heads:
            head.prepare(source.n_features, leader)
        self._lift: Callable[[Floats], Floats] = leader.lift
        self._n_features, width = source.n_features, leader.width(source.n_features)
        require_room(width, workspace)
        counts = source.counts()
        if missing := np.asarray(source.classes)[counts == 0].tolist():
            raise ValueError(f"every class must have rows, got none for {missing}; add some.")
        weights = class_weights(leader.class_weight, source.classes, counts)
        self._moments = Moments(source.classes, width, weights)
        self._studies: list[Study] = []
        self._n_passes = 0

    @property
    def validates(self) -> bool:
        """Whether a head is to be chosen by validation rows after the first pass."""
        return self._n_passes == 0 and any(head.selects_on_validation for head in self.members)

    def next_pass(self) -> Pass | None:
        """Return one pass in stored order, and another if a study wants it."""
        wanted = self._n_passes == 0 or (
            self._n_passes == 1 and any(study.wants_rows for study in self._studies)
        )
        return Pass(ROWS) if wanted else None

    def consume(self, batch: RowBatch, shared: Shared) -> None:
        """Add one batch to the moments, or to what a study sums up."""
        lifted = self._lift(batch.X)
        if self._n_passes == 0:
            self._moments.add(lifted, batch.y)
            return
        for study in self._studies:
            if study.wants_rows:
                study.add(lifted, batch.y, shared)

    def scores(self, X: Floats) -> Floats:
        """Return the scores of all studies that want some, side by side."""
        lifted = self._lift(X)
        return np.hstack([study.scores(lifted) for study in self._opened() if study.n_scores])

    def end_pass(self, validation: Validation | None) -> None:
        """Close the pass; after the first, studies are shown the validation rows."""
        first = 0
        for study in self._opened() if self._n_passes == 0 else ():
            columns = slice(first, first := first + study.n_scores)
            study.close(validation and (validation[0][:, columns], validation[1]))
        self._n_passes += 1

    def state(self) -> State | None:
        """Return None: one pass is quickly begun anew."""
        return None

    def restore(self, state: State) -> None:
        """Do nothing; there is no state."""

    def finish(self) -> None:
        """Write the learned attributes."""
        moments = self._moments
        kept = moments.to_arrays() if any(head.keep_moments for head in self.members) else {}
        for head, study in zip(self.members, self._studies, strict=True):
            study.write()
            own = kept if head.keep_moments else {}
            head.describe(moments.classes, self._n_features, own)

    def _opened(self) -> list[Study]:
        """Return the studies of all heads, made when the moments are complete."""
        if not self._studies:
            self._moments.require_finite()
            memo: dict[Any, Any] = {}
            self._studies = [head.study(self._moments, memo) for head in self.members]
        return self._studies


def collect(source: BatchSource, weights: ArrayLike | None = None) -> Moments:
    """Return the moments of all rows of a source, in one pass.

    Parameters
    ----------
    source
        Arrays (`heads.loop.batch_source.ArrayBatches`) or a store (`heads.fitting.StoreBatches`).
    weights
        Weight of the rows of each class (n_classes,); 1 if None.

    Returns
    -------
    Moments
        Of all features, layers one behind the other.

    Raises
    ------
    ValueError
        If the Gram matrix does not fit into the workspace of the source.
    """
    require_room(source.n_features, source.workspace)
    moments = Moments(source.classes, source.n_features, weights)
    for batch in source.batches(Pass(ROWS)):
        moments.add(batch.X, batch.y)
    return moments
