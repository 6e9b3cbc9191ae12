"""Weights of RINE networks as the published vectors were computed with."""

from typing import Any

import numpy as np
import torch

from heads.rine.network import RINENetwork, network_of
from heads.rine.weights import RINEShape


def recipe(shape: RINEShape) -> dict[str, Any]:
    """Return weights by published name, drawn from a seed per array."""
    arrays = {}
    for k, weight in enumerate(shape.weights()):
        values = np.random.RandomState(1000 + k).standard_normal(weight.shape).astype(np.float32)
        if weight.published.endswith("weight"):
            values *= np.float32(1.4 / np.sqrt(weight.shape[-1]))
        if weight.published.endswith("bias"):
            values *= np.float32(0.05)
        arrays[weight.published] = values
    return arrays


def network_from(shape: RINEShape, published: dict[str, Any]) -> RINENetwork:
    """Return a network with weights given by published name."""
    weights = {
        w.parameter: np.asarray(published[w.published]).reshape(w.shape) for w in shape.weights()
    }
    return network_of(shape, weights, torch.device("cpu"))
