"""Closed-form heads with a threshold while they are trained: statistics, then the threshold."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heads.closed_form.gram import require_room
from heads.closed_form.moments import Moments
from heads.closed_form.streaming_lda import ledoit_wolf_shrinkage
from heads.loop.batch_source import BatchSource, Floats, Pass, RowBatch, Shared
from heads.loop.passes import State
from heads.one_class.anomaly_head import AnomalyHead, Model, Scored

BATCH_NUMBERS = 2**22
"""Features per batch, all rows together: 32 MiB as float64."""


@dataclass
class ClassStatistics:
    """What closed forms need to know of the rows of known classes.

    Parameters
    ----------
    moments
        Their numbers, means and scatter.
    fourth_powers
        Sum of ``‖x - class mean‖⁴``, from a second pass.
    """

    moments: Moments
    fourth_powers: float = 0.0

    def add_fourth_powers(self, X: Floats, y: NDArray[np.intp]) -> None:
        """Add rows (n, n_features) of the second pass, with their classes (n,)."""
        rows = X - self.moments.means[y]
        squares = np.einsum("ij,ij->i", rows, rows)
        self.fourth_powers += float(squares @ squares)

    def covariance(self) -> NDArray[np.float64]:
        """Return the covariance within classes, the number of rows its divisor.

        Returns
        -------
        numpy.ndarray
            Shape (n_features, n_features).

        Raises
        ------
        ValueError
            If a class has no rows or all together fewer than two, or a feature is not finite.
        """
        counts = self.moments.counts
        if counts.sum() < 2 or not counts.all():
            raise ValueError(
                f"a covariance needs at least two rows, and one of each known class, got "
                f"{counts.tolist()} rows of the classes {self.moments.classes.tolist()}; add rows."
            )
        self.moments.require_finite()
        covariance: NDArray[np.float64] = self.moments.within / counts.sum()
        return covariance

    def ledoit_wolf(self, covariance: NDArray[np.float64]) -> float:
        """Return the estimated optimal shrinkage of the covariance, in [0, 1]."""
        n_rows = int(self.moments.counts.sum())
        return ledoit_wolf_shrinkage(covariance, n_rows, self.fourth_powers)


class AnomalyTrainer:
    """Heads that are solved from the statistics of known classes.

    Parameters
    ----------
    members
        Heads that see the same rows.
    source
        The rows to learn from.
    n_known
        How many of its first classes are known; rows of others are left alone.
    fourth_powers
        Whether these are needed.

    Notes
    -----
    One pass for the moments, one for the fourth powers, and one for heads whose threshold comes
    from the training rows themselves, which holds 8 bytes per known row and member.

    Raises
    ------
    ValueError
        If a covariance needs more memory than there is.
    """

    def __init__(
        self,
        members: Sequence[AnomalyHead],
        source: BatchSource,
        *,
        n_known: int,
        fourth_powers: bool = False,
    ) -> None:
        self.members = members
        self._classes, self._n_known = source.classes, n_known
        self._n_features = source.n_features
        require_room(source.n_features, source.workspace)
        self._pass = Pass(max(1, BATCH_NUMBERS // source.n_features))
        self._stages = ["moments", *["fourth powers"] * fourth_powers, "training scores"]
        self._statistics = ClassStatistics(Moments(source.classes[:n_known], source.n_features))
        self._models: list[Model] = []
        self._training: list[Floats] = []
        self._validation: Scored | None = None

    @property
    def validates(self) -> bool:
        """Whether validation rows are to be scored: once, with the last statistics."""
        return len(self._stages) == 2 and any(head.uses_validation for head in self.members)

    def next_pass(self) -> Pass | None:
        """Return the same pass, in stored order, for each stage."""
        return self._pass if self._stages else None

    def consume(self, batch: RowBatch, shared: Shared) -> None:
        """Add the known rows of a batch to the statistics, or keep their scores."""
        X, y = known_rows(batch, self._n_known, shared)
        with np.errstate(over="ignore", invalid="ignore"):  # the moments are checked
            match self._stages[0]:
                case "moments":
                    self._statistics.moments.add(X, y)
                case "fourth powers":
                    self._statistics.add_fourth_powers(X, y)
                case _:
                    self._training.append(self.scores(X))

    def scores(self, X: Floats) -> Floats:
        """Return the anomaly scores (n_rows, n_members)."""
        if not self._models:
            self._models = [head.solve(self._statistics) for head in self.members]
        return np.column_stack([model.scores(X) for model in self._models])

    def end_pass(self, validation: Scored | None) -> None:
        """Go to the next stage; the last is left out if no head needs it."""
        del self._stages[0]
        if validation is not None:
            self._validation = validation
            if all(head.selection == "validation" for head in self.members):
                self._stages.clear()

    def state(self) -> State | None:
        """Return None: a closed form that was interrupted begins anew."""
        return None

    def restore(self, state: State) -> None:
        """Do nothing; there is no state."""

    def finish(self) -> None:
        """Write the learned attributes."""
        training = np.concatenate(self._training) if self._training else None
        for number, (head, model) in enumerate(zip(self.members, self._models, strict=True)):
            validation = None
            if self._validation is not None:
                validation = self._validation[0][:, number], self._validation[1]
            own = None if training is None else training[:, number]
            head.learn(model, head.decision_rule(own, validation))
            head.classes_, head.n_features_in_ = self._classes, self._n_features


def known_rows(batch: RowBatch, n_known: int, shared: Shared) -> tuple[Floats, NDArray[np.intp]]:
    """Return the rows of the first classes as float64, converted once for all heads.

    Parameters
    ----------
    batch
        Rows of all classes.
    n_known
        How many classes count.
    shared
        The cache of the batch.

    Returns
    -------
    tuple of numpy.ndarray
        Features (n_rows, n_features) and classes (n_rows,).
    """
    key = "known rows as float64", n_known
    if key not in shared:
        known = batch.y < n_known
        shared[key] = np.asarray(batch.X[known], np.float64), batch.y[known]
    rows: tuple[Floats, NDArray[np.intp]] = shared[key]
    return rows
