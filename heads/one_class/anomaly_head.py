"""Heads that have an anomaly score and a threshold for it, at a stated rate of false alarms."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted, validate_data

from heads.head import DTYPES, ROWS, Head
from heads.loop.batch_source import Floats
from heads.one_class.decision_rule import DecisionRule, Direction

if TYPE_CHECKING:
    from heads.one_class.training import ClassStatistics

Scored = tuple[Floats, NDArray[np.intp]]
"""Scores of rows, and their classes."""


class Model(Protocol):
    """What a head learned: a named tuple of its learned attributes."""

    def scores(self, X: Floats) -> Floats:
        """Return the anomaly scores (n,) of rows (n, n_features)."""

    def _asdict(self) -> dict[str, Any]:
        """Return the learned attributes by name, without the underscore at the end."""


class AnomalyHead(Head):
    """Base of heads that know what rows of some classes are like.

    Attributes
    ----------
    threshold_ : float
        Scores above it, turned by `direction_`, are unusual.
    spread_ : float
        Standard deviation > 0 of the scores of the rows that set the threshold, turned likewise.
    direction_ : str
        ``"high"``, ``"low"`` or ``"two_sided"``: which scores are unusual.
    center_ : float
        Median score of these rows for ``"two_sided"``, else 0.
    rate_ : float
        Share of these rows above the threshold: at most the one asked for.
    n_threshold_rows_ : int
        Number of these rows.
    """

    model: ClassVar[type[NamedTuple]]
    """The named tuple of the learned attributes."""

    selection: Literal["validation", "training"]
    threshold_: float
    spread_: float
    direction_: Direction
    center_: float
    rate_: float
    n_threshold_rows_: int

    @property
    def uses_validation(self) -> bool:
        """Whether scores of validation rows are wanted."""
        return self.selection == "validation"

    def solve(self, statistics: "ClassStatistics") -> Model:
        """Return what heads with a closed form learn from statistics.

        Parameters
        ----------
        statistics
            Of the known classes.

        Returns
        -------
        Model
            What was learned.
        """
        raise NotImplementedError(f"{type(self).__name__} has no closed form.")

    def decision_rule(self, training: Floats | None, validation: Scored | None) -> DecisionRule:
        """Return the rule that the scores of known rows give.

        Parameters
        ----------
        training
            Scores (n,) of the known training rows; None if `validation` decides.
        validation
            Scores and classes of validation rows, if there are any.

        Returns
        -------
        DecisionRule
            Direction, threshold and spread.
        """
        raise NotImplementedError(f"{type(self).__name__} has no rule.")

    def learn(self, model: Model, rule: DecisionRule) -> None:
        """Write the learned attributes.

        Parameters
        ----------
        model
            What was learned.
        rule
            The decision rule.
        """
        for name, value in {**model._asdict(), **rule._asdict()}.items():
            setattr(self, f"{name}_", value)

    def learned(self) -> Any:
        """Return what was learned, as an instance of `model`."""
        return self.model(*(getattr(self, f"{name}_") for name in self.model._fields))

    def rule(self) -> DecisionRule:
        """Return the decision rule."""
        return DecisionRule(*(getattr(self, f"{name}_") for name in DecisionRule._fields))

    def anomaly_scores(self, X: ArrayLike) -> Floats:
        """Return how unusual rows are, in the head's own unit, before direction and threshold.

        Parameters
        ----------
        X
            Features (n_samples, n_features).

        Returns
        -------
        numpy.ndarray
            Scores (n_samples,), float64.
        """
        check_is_fitted(self)
        features = validate_data(self, X, dtype=DTYPES, reset=False)
        model, starts = self.learned(), range(0, len(features), ROWS)
        return np.concatenate([model.scores(features[start : start + ROWS]) for start in starts])

    def check_learned(self) -> None:
        """Check that the learned attributes fit together; a loaded head is checked by it.

        Raises
        ------
        ValueError
            If an attribute is missing or out of range.
        """
        super().check_learned()
        for name in ("threshold_", "spread_", "center_", "rate_"):
            value = getattr(self, name, None)
            if not isinstance(value, float) or not np.isfinite(value):
                raise ValueError(f"{name!r} must be a finite float, got {value!r}.")
        if self.spread_ <= 0:
            raise ValueError(f"'spread_' must be > 0, got {self.spread_!r}.")
        if not isinstance(rows := getattr(self, "n_threshold_rows_", None), int) or rows < 1:
            raise ValueError(f"'n_threshold_rows_' must be an int >= 1, got {rows!r}.")
        if (found := getattr(self, "direction_", None)) not in ("high", "low", "two_sided"):
            raise ValueError(f"'direction_' must be 'high', 'low' or 'two_sided', got {found!r}.")
