"""How far non-negative logistic regression is from its optimum, proved by duality."""

from typing import NamedTuple

import numpy as np

from heads.logistic.row_sums import Evaluation, Vector


class Problem(NamedTuple):
    """What is minimised: ``1/n Σ costs[y] · log(1 + exp(-± (w·x + b))) + l2/2 ‖w‖² + l1 Σ w``.

    ``costs`` (2,) is the weight of a row of either class, ``n_samples`` is n.
    """

    l2: float
    l1: float
    costs: Vector
    n_samples: int


class Certificate(NamedTuple):
    """How far a point is from the optimum."""

    objective: float
    kkt_residual: float
    duality_gap: float


def certify(problem: Problem, point: Evaluation, positive: Vector) -> Certificate:
    """Return the objective at a point, its KKT residual and a bound on its excess.

    Parameters
    ----------
    problem
        What is minimised.
    point
        Log-loss and gradient at weights >= 0 and an intercept, with all rows added.
    positive
        Sum of the rows of class 1, weighted by their costs (n_features + 1,).

    Returns
    -------
    Certificate
        The objective P; ``max(‖w - max(0, w - ∂P/∂w)‖∞, |∂P/∂b|)``; and P - D >= 0.

    Notes
    -----
    For probabilities p with ``Σ c (p - y) = 0`` and ``a = 1/n Σ c (p - y) x + l1``, duality says
    that no weights have an objective below ::

        D(p) = 1/n Σ c · entropy(p) - ‖min(a, 0)‖² / (2 l2)

    As ``entropy(p) = loss - (y - p) z`` with z the logit, D needs no sum but loss and gradient. The
    probabilities of the point satisfy the first condition at the optimum only; before, those of
    one class are scaled down until they do, which, entropy being concave, costs no more than that
    fraction of it.

    Without `l2` the last term is ``-R · max(-a, 0)`` for weights with a sum of at most R. Every
    optimum has ``R = P / l1``; if `l1` is 0, too, R is twice the sum of the weights at hand.
    """
    n, w, excess = problem.n_samples, point.theta[:-1], float(point.gradient[-1])
    slope = point.gradient[:-1] / n + problem.l2 * w + problem.l1
    residual = max(np.abs(w - np.maximum(0, w - slope)).max(), abs(excess) / n)
    penalty = 0.5 * problem.l2 * float(w @ w) + problem.l1 * float(w.sum())
    objective = point.loss / n + penalty

    scaled = positive if excess > 0 else positive - point.total
    kept = abs(scaled[-1]) / (abs(scaled[-1]) + abs(excess))
    a = (kept * point.gradient - (1 - kept) * scaled)[:-1] / n + problem.l1
    dual = kept * float(point.loss - point.theta @ point.gradient) / n
    violated = np.minimum(a, 0)
    if problem.l2:
        dual -= float(violated @ violated) / (2 * problem.l2)
    else:
        dual += (objective / problem.l1 if problem.l1 else 2 * w.sum()) * violated.min()
    return Certificate(float(objective), float(residual), max(float(objective - dual), 0.0))
