"""Heads: light estimators on frozen features, trained on arrays or from the store.

A head is a scikit-learn estimator on NumPy arrays (``fit``, ``decision_function``,
``predict_proba``, ``predict``); `fit` and `fit_many` train heads on a selection of the store that
need not fit in memory, `save` and `load` keep them. ``HEADS`` holds every head by name.
"""

from typing import Any

from heads.attribution.head import GeneratorAttribution
from heads.few_shot_svm import FewShotSVM
from heads.fitting import fit, fit_many
from heads.fusion import RuleFusion, StackedFusion
from heads.gaussian_one_class import GaussianOneClass
from heads.hierarchical_contrastive import HierarchicalContrastiveHead
from heads.hsic_linear import HSICLinear
from heads.hsic_probe import HSICProbe
from heads.knn import KNNHead
from heads.logistic_probe import LogisticProbe
from heads.persistence import HeadFileError, load, save
from heads.prototype import PrototypeHead
from heads.random_feature_ridge import RandomFeatureRidge
from heads.reconstruction_one_class import ReconstructionOneClass
from heads.ridge import RidgeProbe
from heads.rine import RINEHead
from heads.stay_positive import StayPositiveProbe
from heads.streaming_lda import StreamingLDA

__all__ = [
    "HEADS",
    "FewShotSVM",
    "GaussianOneClass",
    "GeneratorAttribution",
    "HSICLinear",
    "HSICProbe",
    "HeadFileError",
    "HierarchicalContrastiveHead",
    "KNNHead",
    "LogisticProbe",
    "PrototypeHead",
    "RINEHead",
    "RandomFeatureRidge",
    "ReconstructionOneClass",
    "RidgeProbe",
    "RuleFusion",
    "StackedFusion",
    "StayPositiveProbe",
    "StreamingLDA",
    "fit",
    "fit_many",
    "load",
    "save",
]

HEADS: dict[str, type[Any]] = {
    "few_shot_svm": FewShotSVM,
    "gaussian_one_class": GaussianOneClass,
    "generator_attribution": GeneratorAttribution,
    "hierarchical_contrastive": HierarchicalContrastiveHead,
    "hsic_linear": HSICLinear,
    "hsic_probe": HSICProbe,
    "knn": KNNHead,
    "logistic_probe": LogisticProbe,
    "prototype": PrototypeHead,
    "random_feature_ridge": RandomFeatureRidge,
    "reconstruction_one_class": ReconstructionOneClass,
    "ridge_probe": RidgeProbe,
    "rine_head": RINEHead,
    "rule_fusion": RuleFusion,
    "stacked_fusion": StackedFusion,
    "stay_positive_probe": StayPositiveProbe,
    "streaming_lda": StreamingLDA,
}
"""Every head by its name in configurations and in files."""
