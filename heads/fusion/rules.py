"""One score from the scores of several heads: fixed rules, and a rule learned on validation rows.

Scores are decision values of heads on the same images, logits where heads are probabilistic; heads
may have been trained on different layers, features or data.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_expit, logsumexp
from sklearn.utils._param_validation import StrOptions

from heads.head import Head
from heads.logistic.probe import LogisticProbe
from heads.loop.batch_source import BatchSource, Floats, Pass, RowBatch, Shared
from heads.loop.passes import State, Trainer

Rule = Literal["mean_logit", "max_logit", "median_logit", "lse_logit", "mean_prob", "soft_or_prob"]

SMALL = -37.0
"""Logit below which ``log log (1 + exp x)`` is x, in float64."""


def _lse_logit(x: Floats) -> Floats:
    """``log Σ exp(x)``: a maximum without corners."""
    fused: Floats = logsumexp(x, axis=1)
    return fused


def _mean_prob(x: Floats) -> Floats:
    """Logit of the mean probability: ``log Σ σ(x) - log Σ σ(-x)``."""
    fused: Floats = logsumexp(log_expit(x), axis=1) - logsumexp(log_expit(-x), axis=1)
    return fused


def _soft_or_prob(x: Floats) -> Floats:
    """Logit of ``1 - Π (1 - σ(x))``: ``log (exp t - 1)`` with ``t = Σ log (1 + exp x)``."""
    terms = np.logaddexp(0, x)
    total = terms.sum(axis=1)
    logs = np.where(x < SMALL, x, np.log(np.maximum(terms, np.finfo(np.float64).tiny)))
    bounded = np.clip(total, np.finfo(np.float64).tiny, 1)  # where few, log t is what matters
    few = logsumexp(logs, axis=1) + np.log(np.expm1(bounded) / bounded)
    many = total + np.log1p(-np.exp(-np.maximum(total, 1)))
    fused: Floats = np.where(total < 1, few, many)
    return fused


RULES: Mapping[str, Callable[[Floats], Floats]] = {
    "mean_logit": lambda x: np.asarray(x.mean(axis=1)),
    "max_logit": lambda x: np.asarray(x.max(axis=1)),
    "median_logit": lambda x: np.asarray(np.median(x, axis=1)),
    "lse_logit": _lse_logit,
    "mean_prob": _mean_prob,
    "soft_or_prob": _soft_or_prob,
}
"""Fixed rules by name: logits (n, n_heads) to one logit (n,)."""


def fuse(scores: ArrayLike, rule: Rule = "mean_logit") -> Floats:
    """Return one logit per image from the logits of several heads.

    Parameters
    ----------
    scores
        Decision values (n_samples, n_heads), finite.
    rule
        ``"mean_logit"``, ``"max_logit"``, ``"median_logit"``; ``"lse_logit"``, ``log Σ exp(x)``;
        ``"mean_prob"``, the logit of the mean probability; ``"soft_or_prob"``, the logit of
        ``1 - Π (1 - σ(x))``, the probability that one head at least is right to say fake, were
        they independent.

    Returns
    -------
    numpy.ndarray
        Shape (n_samples,), float64; exact to rounding for logits of any size.

    Raises
    ------
    ValueError
        If the rule is unknown, or scores are not finite or not of this shape.

    Notes
    -----
    The rules are those of the public code of Cozzolino et al., "Raising the bar of AI-generated
    image detection with CLIP", 2024, whose default is ``"soft_or_prob"``. They suppose that scores
    are logits: those of one-class heads, nearest neighbours or support vectors are none; a rule
    learned on validation rows (`StackedFusion`) does not mind.

    Examples
    --------
    >>> fuse([[1.0, 3.0], [-800.0, -800.0]], "soft_or_prob").round(4)
    array([   4.349 , -799.3069])
    """
    if rule not in RULES:
        raise ValueError(f"'rule' must be one of {list(RULES)}, got {rule!r}.")
    values = np.asarray(scores, np.float64)
    if values.ndim != 2 or not values.shape[1]:
        raise ValueError(f"'scores' must have shape (n_samples, n_heads), got {values.shape}.")
    if not np.isfinite(values).all():
        raise ValueError(
            f"'scores' must be finite, got {np.count_nonzero(~np.isfinite(values))} that are not; "
            f"look at the heads that made them."
        )
    return RULES[rule](values)


class RuleFusion(Head):
    """A fixed rule as a head whose features are the scores of other heads.

    Parameters
    ----------
    rule
        See `fuse`.

    Attributes
    ----------
    classes_, n_features_in_
        As in scikit-learn; all that is learned.

    Examples
    --------
    >>> scores = np.array([[-1.0, -3.0], [2.0, 1.0]])
    >>> RuleFusion(rule="max_logit").fit(scores, [0, 1]).decision_function(scores)
    array([-1.,  2.])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"rule": [StrOptions(set(RULES))]}

    def __init__(self, *, rule: Rule = "mean_logit") -> None:
        self.rule = rule

    @classmethod
    def trainers(cls, heads: Sequence[Self], source: BatchSource) -> list[Trainer]:
        """Return one trainer, which reads no rows.

        Parameters
        ----------
        heads
            Heads with any rules.
        source
            The rows; their classes and features are counted.

        Returns
        -------
        list of Trainer
            One trainer.

        Raises
        ------
        ValueError
            If a rule is unknown or the source does not have two classes.
        """
        for head in heads:
            head.check_trainable(source)
        return [_RuleTrainer(heads, source)]

    def _decide(self, X: Floats) -> Floats:
        return fuse(X, self.rule)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score = True  # features are taken for logits, and nothing learned
        return tags


class StackedFusion(LogisticProbe):
    """Logistic regression whose features are the scores of other heads.

    The rule learned is ``w · scores + b``, with scores penalised as if each had variance 1, so that
    it does not matter in which unit a head answers. Fit it on validation rows alone: on the rows
    that the heads were trained on, their scores look better than they are, the more so the more a
    head overfits, and that head would get the weight. `heads.fusion.run.run_fusion` sees to it.

    Parameters
    ----------
    C, fit_intercept, tol, max_iter, class_weight
        As for `LogisticProbe`.
    standardize
        As for `LogisticProbe`, on by default.

    Attributes
    ----------
    coef_, intercept_ : ndarray (1, n_heads) and (1,)
        The rule.
    classes_, n_features_in_, n_iter_, gradient_norm_
        As for `LogisticProbe`.

    References
    ----------
    Wolpert, "Stacked generalization", Neural Networks 5, 1992.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(100) % 2
    >>> useful, useless = y + rng.normal(size=100), 100 * rng.normal(size=100)
    >>> rule = StackedFusion().fit(np.column_stack((useful, useless)), y)
    >>> bool(abs(rule.coef_[0, 0]) > 50 * abs(rule.coef_[0, 1]))
    True
    """

    def __init__(
        self,
        *,
        C: float = 1.0,
        fit_intercept: bool = True,
        tol: float = 1e-8,
        max_iter: int = 1000,
        standardize: bool = True,
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = None,
    ) -> None:
        super().__init__(
            C=C,
            fit_intercept=fit_intercept,
            tol=tol,
            max_iter=max_iter,
            standardize=standardize,
            class_weight=class_weight,
        )


class _RuleTrainer:
    """Fixed rules while they are trained, which is no time at all."""

    validates = False

    def __init__(self, members: Sequence[RuleFusion], source: BatchSource) -> None:
        self.members = members
        self._classes, self._n_features = source.classes, source.n_features

    def next_pass(self) -> Pass | None:
        """Return None: nothing is read."""
        return None

    def consume(self, batch: RowBatch, shared: Shared) -> None:
        """Do nothing."""

    def scores(self, X: Floats) -> Floats:
        """Return the fused scores (n_rows, n_members)."""
        return np.column_stack([fuse(X, head.rule) for head in self.members])

    def end_pass(self, validation: Any) -> None:
        """Do nothing."""

    def state(self) -> State | None:
        """Return None: there is nothing to keep."""
        return None

    def restore(self, state: State) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Write the learned attributes."""
        for head in self.members:
            head.classes_, head.n_features_in_ = self._classes, self._n_features
