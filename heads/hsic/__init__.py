"""The Hilbert-Schmidt independence criterion: values, gradients, and the HSIC bottleneck."""

from heads.hsic.statistics import (
    center_gram,
    cka,
    delta_gram,
    hsic_biased,
    hsic_unbiased,
    median_bandwidth,
    rbf_gram,
    squared_distances,
)

__all__ = [
    "center_gram",
    "cka",
    "delta_gram",
    "hsic_biased",
    "hsic_unbiased",
    "median_bandwidth",
    "rbf_gram",
    "squared_distances",
]
