"""Simulated tables of scores of studies of continual learning."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from continual.streams import orders

LEARNERS = {"joint": (0.97, 0.0), "replay": (0.95, 0.02), "fine_tune": (0.94, 0.12)}
"""Score of a domain just learned, and what it loses per step."""
BETTER = {"hgr": 0.01, "herding": 0.005}
"""What a selection of replay adds."""


def simulated_scores(
    domains: Sequence[str] = ("a", "b", "c"),
    *,
    n_orders: int = 3,
    seeds: Sequence[int] = (0, 1),
    selections: Sequence[str] = ("hgr", "random"),
    keeps: Sequence[str] = ("0.01",),
    heads: Sequence[str] = ("",),
    base: str = "",
) -> pd.DataFrame:
    """Return the scores of runs whose orders and seeds shift all ways of learning alike."""
    rng = np.random.default_rng(0)
    ways: list[tuple[str, str, str, str]] = []
    for learner, head in product(LEARNERS, heads):
        kept = product(selections, keeps) if learner == "replay" else [("", "")]
        ways += [(learner, selection, keep, head) for selection, keep in kept]
    rows = []
    for order, seed in product(orders(domains, n_orders, base=base or None), seeds):
        luck = rng.normal(0, 0.01, (len(order), len(order)))
        for way in ways:
            of_way = dict(zip(("learner", "selection", "keep", "variant"), way, strict=True))
            run = {"base": base, **of_way, "order": " → ".join(order), "seed": seed}
            noise = luck + rng.normal(0, 0.003, luck.shape)
            rows += [{**run, **row} for row in _scored(order, run, noise)]
    return pd.DataFrame(rows)


def _scored(order: Sequence[str], run: dict[str, Any], noise: Any) -> list[dict[str, Any]]:
    """Return the rows of one run."""
    at_best, fall = LEARNERS[run["learner"]]
    at_best += BETTER.get(run["selection"], 0.0)
    rows = []
    for step, i in np.ndindex(len(order), len(order)):
        score = at_best - fall * (step - i) if i <= step else 0.6
        score = float(np.clip(score + noise[step, i], 0, 1))
        tested = {"step": step, "learned": order[step], "domain": order[i]}
        metrics = {
            "accuracy": score,
            "balanced_accuracy": score,
            "average_precision": (3 + score) / 4,
            "auroc": (1 + score) / 2,
        }
        cost = {"seconds": 1.5 + step, "n_memory": 20 * (step + 1) if run["selection"] else 0}
        rows.append({**tested, "n_real": 30, "n_fake": 90, **metrics, **cost})
    return rows
