"""Features that look like those of real backbones, with labels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Data = tuple[NDArray[Any], NDArray[Any]]


def vit_like(n_samples: int, n_features: int, seed: int = 0) -> Data:
    """Correlated features, four of them far from zero, as in the residual stream of a ViT."""
    rng = np.random.default_rng(seed)
    spectrum = np.arange(1, n_features + 1) ** -0.5
    mixing = rng.normal(size=(n_features, n_features)) / np.sqrt((spectrum**2).sum())
    X = (rng.normal(size=(n_samples, n_features)) * spectrum) @ mixing
    X[:, rng.choice(n_features, 4, replace=False)] += 25
    weights = rng.normal(size=n_features) * 2 / np.sqrt(n_features)
    y = (rng.random(n_samples) < expit((X - X.mean(0)) @ weights)).astype(int)
    return X.astype(np.float32), y


def ill_conditioned(n_samples: int, n_features: int) -> Data:
    """Features with scales from 1e-3 to 1e3."""
    X, y = vit_like(n_samples, n_features)
    return X * np.logspace(-3, 3, n_features), y
