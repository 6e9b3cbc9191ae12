"""Heads: light estimators on frozen features, trained on arrays or from the store.

A head is a scikit-learn estimator on NumPy arrays (``fit``, ``decision_function``,
``predict_proba``, ``predict``); `fit` and `fit_many` train heads on a selection of the store that
need not fit in memory, `save` and `load` keep them. ``HEADS`` holds every head by name.
"""

from typing import Any

from heads.attribution.head import GeneratorAttribution
from heads.closed_form.hsic_linear import HSICLinear
from heads.closed_form.random_feature_ridge import RandomFeatureRidge
from heads.closed_form.ridge import RidgeProbe
from heads.closed_form.streaming_lda import StreamingLDA
from heads.contrastive.head import HierarchicalContrastiveHead
from heads.fitting import fit, fit_many
from heads.fusion.rules import RuleFusion, StackedFusion
from heads.hsic.probe import HSICProbe
from heads.logistic.probe import LogisticProbe
from heads.neighbours.knn import KNNHead
from heads.neighbours.prototype import PrototypeHead
from heads.one_class.gaussian import GaussianOneClass
from heads.one_class.reconstruction import ReconstructionOneClass
from heads.persistence import HeadFileError, load, save
from heads.rine.head import RINEHead
from heads.stay_positive.probe import StayPositiveProbe
from heads.svm.probe import FewShotSVM

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
