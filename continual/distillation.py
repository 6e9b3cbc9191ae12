"""Rows of the present domain with the logits that an earlier head gives them: LwF."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heads.loop.batch_source import BatchSource, Lesson, Pass, RowBatch, Term


class TaughtBatches:
    """A source for training on a domain without forgetting: LwF.

    In shuffled passes the rows of every batch have the logits of a teacher, the head as it was
    before this domain, and their softened cross-entropy is added to the loss (`Lesson`). Passes
    in stored order are those of the source.

    Parameters
    ----------
    source
        Rows of the domain being learned. The terms of its batches, such as replayed rows, are
        kept and taught one by one, but for those that have a lesson.
    teacher
        A fitted head of two classes, or anything with ``decision_function`` and ``classes_``. It is
        copied, so that it may be trained on.
    weight
        Weight >= 0 of what is added; 1 as published.
    temperature
        T > 0 by which logits are divided; 2 as published.

    Attributes
    ----------
    n_samples, n_features, layers, layer_names, classes, targets, workspace
        Those of the source.

    Raises
    ------
    ValueError
        If the weight or the temperature is out of range, or the classes of the rows are not the
        teacher's two.

    Notes
    -----
    The teacher scores each batch as it comes: one scoring of all rows per epoch, no memory.

    References
    ----------
    Li, Hoiem, "Learning without forgetting", ECCV 2016.
    """

    teaches = True

    def __init__(
        self, source: BatchSource, teacher: Any, *, weight: float = 1.0, temperature: float = 2.0
    ) -> None:
        if weight < 0 or temperature <= 0:
            raise ValueError(
                f"'weight' must be >= 0 and 'temperature' > 0, got {weight!r} and {temperature!r}."
            )
        known = np.asarray(teacher.classes_).tolist()
        if len(known) != 2 or known != source.classes.tolist():
            raise ValueError(
                f"a teacher must know the two classes of the rows, {source.classes.tolist()}, got "
                f"{type(teacher).__name__} of {known}; teach heads that tell real from fake."
            )
        self._source, self._teacher = source, deepcopy(teacher)
        self._weight, self._temperature = weight, temperature
        self.n_samples, self.n_features = source.n_samples, source.n_features
        self.layers, self.layer_names = source.layers, source.layer_names
        self.classes, self.targets = source.classes, source.targets
        self.workspace = source.workspace

    def counts(self) -> NDArray[np.intp]:
        """Return how many rows each class has."""
        return self._source.counts()

    def batches(self, reading: Pass) -> Iterator[RowBatch]:
        """Yield the batches of one pass.

        Parameters
        ----------
        reading
            Batch size and order.

        Yields
        ------
        RowBatch
            Those of the source, with lessons if they are shuffled.
        """
        for batch in self._source.batches(reading):
            yield batch if reading.seed is None else self._taught(batch)

    def _taught(self, batch: RowBatch) -> RowBatch:
        """Return a batch with a lesson in each of its terms."""
        return batch._replace(terms=tuple(self._term(*part) for part in batch.parts()))

    def _term(self, rows: RowBatch, term: Term) -> Term:
        """Return a term with the teacher's lesson, if it has none."""
        if term.lesson is not None:
            return term
        logits = self._teacher.decision_function(rows.X)
        return term._replace(lesson=Lesson(logits, self._weight, self._temperature))
