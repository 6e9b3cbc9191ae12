"""One-class heads: they learn from real rows alone, and call unusual rows fake."""

from numbers import Real
from typing import Any, ClassVar, Literal

from sklearn.utils._param_validation import Interval, StrOptions

from heads.loop.batch_source import Floats
from heads.one_class.anomaly_head import AnomalyHead, Scored
from heads.one_class.decision_rule import DecisionRule, Direction, better_direction, rule_at


class OneClassHead(AnomalyHead):
    """Base of heads that learn what real rows are like.

    A head has an anomaly score, and by the scores of real rows a threshold: the decision value is
    how far the score lies beyond it, in standard deviations of the scores of real rows. Rows of
    ``classes_[1]`` (fake) may be among those it is trained on, and are left alone.
    """

    one_class: ClassVar[bool] = True

    common_constraints: ClassVar[dict[str, list[Any]]] = {
        "fpr": [Interval(Real, 0, 1, closed="left")],
        "direction": [StrOptions({"high", "low", "two_sided", "validation"})],
        "selection": [StrOptions({"validation", "training"})],
    }
    """Constraints of the parameters that all one-class heads have."""

    fpr: float
    direction: Direction | Literal["validation"]

    @property
    def selects_on_validation(self) -> bool:
        """Whether validation rows must hold both classes."""
        return self.direction == "validation"

    @property
    def uses_validation(self) -> bool:
        """Whether scores of validation rows are wanted, of real ones at least."""
        return super().uses_validation or self.selects_on_validation

    def decision_rule(self, training: Floats | None, validation: Scored | None) -> DecisionRule:
        """Return the rule that the scores of real rows give.

        Parameters
        ----------
        training
            Scores (n,) of the real training rows; None if `validation` decides.
        validation
            Scores and labels of validation rows, if there are any.

        Returns
        -------
        DecisionRule
            Direction, threshold and spread.

        Raises
        ------
        ValueError
            If the rows that decide are missing.
        """
        direction = self.direction
        if direction == "validation":
            if validation is None:
                raise ValueError(
                    "direction='validation' needs validation rows, got none; train from the store "
                    "with some, or choose direction='high'."
                )
            direction = better_direction(*validation)
        reals = training
        if validation is not None and self.selection == "validation":
            reals = validation[0][validation[1] == 0]
        assert reals is not None
        return rule_at(reals, self.fpr, direction)

    def _decide(self, X: Floats) -> Floats:
        return self.rule().margins(self.learned().scores(X))
