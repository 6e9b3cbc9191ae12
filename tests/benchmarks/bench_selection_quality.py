"""How good the rows are that selections keep: classes of five groups, the rarest one per cent.

Every class of every world is a mixture of five groups with heavy tails. Of the rows kept: the
radius (largest distance of a row of the class from the nearest kept one), the MMD between class and
kept rows, and a logistic regression trained on them alone, on new rows: AUROC, and accuracy on the
rarest group.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.spatial.distance import cdist
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression

from continual.selection import SELECTIONS, choose
from continual.selection.kernel import median_sigma

SHARES = (0.6, 0.25, 0.1, 0.04, 0.01)
N_ROWS, N_TEST, WIDTH, N_WORLDS = 4000, 8000, 16, 12
KEEP = (20, 80)
MEASURES = {"radius": -1, "MMD": -1, "AUROC": 1, "rarest group": 1}
"""What is measured, and whether more (1) or less (-1) is better."""


def test_rows_kept() -> None:
    for keep in KEEP:
        found = {
            name: [_measured(name, world, keep) for world in range(N_WORLDS)] for name in SELECTIONS
        }
        hgr = np.array(found["hgr"])
        lines = [_line(name, np.array(values), hgr) for name, values in found.items()]
        print(f"\n{keep} rows of each class kept, mean of {N_WORLDS} worlds, +/- vs HGR")
        print(pd.DataFrame(lines).to_string(index=False))


def _line(name: str, values: np.ndarray, hgr: np.ndarray) -> dict[str, str]:
    """Return the means, marked where the paired difference from HGR is beyond its interval."""
    line = {"selection": name}
    for place, (measure, sign) in enumerate(MEASURES.items()):
        difference = sign * (values[:, place] - hgr[:, place])
        half = difference.std(ddof=1) / np.sqrt(N_WORLDS) * student.ppf(0.975, N_WORLDS - 1)
        mark = "+" if difference.mean() > half else "-" if difference.mean() < -half else " "
        line[measure] = f"{values[:, place].mean():.3f}{mark}"
    return line


def _measured(name: str, world: int, keep: int) -> Sequence[float]:
    Z, y, _ = _rows(world, N_ROWS, seed=world)
    new, truth, group = _rows(world, N_TEST, seed=1000 + world)
    kept = choose(name, Z, y, keep, np.random.default_rng(world)).rows
    classes = [(Z[y == label], Z[kept[y[kept] == label]]) for label in (0, 1)]
    radius = np.mean([cdist(own, few).min(1).max() for own, few in classes])
    model = LogisticRegression(C=0.1, max_iter=500).fit(Z[kept], y[kept])
    values = model.decision_function(new)
    ranks = values.argsort().argsort()
    fakes = truth == 1
    auroc = (ranks[fakes].mean() - (fakes.sum() - 1) / 2) / (~fakes).sum()
    rare = ((values > 0) == fakes)[group == len(SHARES) - 1].mean()
    return [radius, np.mean([_mmd(*own) for own in classes]), auroc, rare]


def _rows(world: int, n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw rows, their class and their group."""
    place, rng = np.random.default_rng(world), np.random.default_rng((seed, 1))
    centres = 1.3 * place.normal(size=(2, len(SHARES), WIDTH))
    spread = place.uniform(0.5, 1.2, size=(2, len(SHARES)))
    y, group = rng.integers(0, 2, n), rng.choice(len(SHARES), n, p=SHARES)
    tails = rng.standard_t(5, size=(n, WIDTH))
    return centres[y, group] + spread[y, group][:, None] * tails, y, group


def _mmd(own: np.ndarray, few: np.ndarray) -> float:
    sigma = median_sigma(own, np.random.default_rng(0))

    def mean(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.exp(-cdist(a, b, "sqeuclidean") / (2 * sigma**2)).mean())

    return float(np.sqrt(mean(own, own) - 2 * mean(own, few) + mean(few, few)))
