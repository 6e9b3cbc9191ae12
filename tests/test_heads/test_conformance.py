"""Every head in ``HEADS`` passes scikit-learn's checks and ours."""

from pathlib import Path
from typing import Any

import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks
from support.checks import Check, head_checks

from heads import (
    HEADS,
    FewShotSVM,
    GaussianOneClass,
    GeneratorAttribution,
    HierarchicalContrastiveHead,
    HSICLinear,
    HSICProbe,
    KNNHead,
    LogisticProbe,
    PrototypeHead,
    RandomFeatureRidge,
    ReconstructionOneClass,
    RidgeProbe,
    RINEHead,
    RuleFusion,
    StackedFusion,
    StayPositiveProbe,
    StreamingLDA,
)

CHEAP: dict[str, Any] = {
    "hierarchical_contrastive": HierarchicalContrastiveHead(
        adapter="mlp",
        n_components=4,
        scoring="linear",
        bank_size=16,
        batch_size=32,
        max_iter=3,
        learning_rate=0.01,
        device="cpu",
    ),
    "hsic_probe": HSICProbe(
        n_components=8,
        standardize="zscore",
        learning_rate=0.1,
        batch_size=32,
        max_iter=10,
        device="cpu",
    ),
    "few_shot_svm": FewShotSVM(),
    "knn": KNNHead(k=5),
    "logistic_probe": LogisticProbe(),
    "prototype": PrototypeHead(),
    "gaussian_one_class": GaussianOneClass(),
    "generator_attribution": GeneratorAttribution(),
    "reconstruction_one_class": ReconstructionOneClass(
        method="autoencoder",
        error="sum",
        n_components=2,
        max_iter=8,
        learning_rate=1e-2,
        batch_size=32,
        device="cpu",
    ),
    "rule_fusion": RuleFusion(),
    "stay_positive_probe": StayPositiveProbe(
        hidden=8,
        hidden_learning_rate=0.05,
        hidden_epochs=12,
        batch_size=32,
        device="cpu",
    ),
    "stacked_fusion": StackedFusion(),
    "hsic_linear": HSICLinear(),
    "random_feature_ridge": RandomFeatureRidge(n_components=60),
    "ridge_probe": RidgeProbe(),
    "streaming_lda": StreamingLDA(),
    "rine_head": RINEHead(
        proj_dim=16,
        nproj=1,
        dropout=0.0,
        learning_rate=0.01,
        batch_size=32,
        max_iter=15,
        device="cpu",
    ),
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
