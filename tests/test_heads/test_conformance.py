"""Every head in ``HEADS`` passes scikit-learn's checks and ours."""

from pathlib import Path
from typing import Any

import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks
from support.checks import Check, head_checks

from heads import HEADS, HSICProbe, LogisticProbe

CHEAP: dict[str, Any] = {
    "hsic_probe": HSICProbe(
        n_components=8,
        standardize="zscore",
        learning_rate=0.1,
        batch_size=32,
        max_iter=10,
        device="cpu",
    ),
    "logistic_probe": LogisticProbe(),
}
"""One head of each class, with hyper-parameters by which it learns small data sets quickly."""


def test_conformance__covers_every_head() -> None:
    assert {name: type(head) for name, head in CHEAP.items()} == HEADS


@parametrize_with_checks(list(CHEAP.values()))
def test_head__passes_scikit_learns_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("check", head_checks(), ids=lambda check: check.__name__[6:])
@pytest.mark.parametrize("name", CHEAP)
def test_head__passes_our_checks(name: str, check: Check, tmp_path: Path) -> None:
    check(clone(CHEAP[name]), tmp_path)
