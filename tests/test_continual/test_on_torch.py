"""Herding and relevance in torch against those in NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from continual.selection import on_torch
from continual.selection.herding import herd
from continual.selection.on_torch import exact_relevance_on, herd_on, nystrom_relevance_on
from continual.selection.relevance import exact_relevance, nystrom_relevance

FLOAT64 = 1e-12  # sums in another order
FLOAT32 = 1e-6  # kernel values in float32, summed in float64
FEATURES = 1e-5  # the same, divided by roots of small eigenvalues
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
        ],
    ),
]
each = pytest.mark.parametrize("device", DEVICES)


def no_rng() -> np.random.Generator:
    return np.random.default_rng(0)


def blobs(n_samples: int, n_components: int, seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_samples, n_components)) + 4 * (np.arange(n_samples) % 2)[:, None]


@each
@given(st.integers(0, 10_000), st.integers(1, 40))
def test_herding__in_torch_chooses_alike(device: str, seed: int, n_half: int) -> None:
    rng = np.random.default_rng(seed)
    half = rng.integers(-3, 4, size=(n_half, 2))  # mean 0, so that nothing is rounded; many ties
    Z = rng.permutation(np.concatenate([half, -half])).astype(np.float32)
    rows, score = herd_on(Z, min(len(Z), 12), device)
    expected_rows, expected_score = herd(Z, min(len(Z), 12))
    assert rows.tolist() == expected_rows.tolist()
    np.testing.assert_allclose(score, expected_score, rtol=FLOAT64)


@each
def test_herding__in_torch_of_other_rows(device: str) -> None:
    Z = blobs(500, 16) + 100
    found, expected = (herd(Z, 40, device=name) for name in (device, "cpu"))
    assert found[0].tolist() == expected[0].tolist()
    np.testing.assert_allclose(found[1], expected[1], rtol=1e4 * FLOAT64)  # far from the origin


@each
@given(st.integers(0, 10_000), st.sampled_from([1, 2, 37, 150]), st.sampled_from([1, 300, 10**6]))
def test_exact_relevance__in_torch_for_any_strips(
    device: str, seed: int, n_rows: int, numbers: int
) -> None:
    Z = blobs(n_rows, 8, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(on_torch, "STRIP_NUMBERS", numbers)
        found = exact_relevance_on(Z, 3.0, device)
    np.testing.assert_allclose(found, exact_relevance(Z, 3.0), rtol=FLOAT32, atol=FLOAT32)


@each
@given(st.integers(0, 10_000), st.sampled_from([1, 300, 10**6]))
def test_nystrom_relevance__in_torch_for_any_strips(device: str, seed: int, numbers: int) -> None:
    Z = blobs(150, 16, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(on_torch, "STRIP_NUMBERS", numbers)
        found = nystrom_relevance_on(Z, 3.0, no_rng(), 40, device)
    np.testing.assert_allclose(found, nystrom_relevance(Z, 3.0, no_rng(), 40), rtol=FEATURES)


@each
def test_relevance__in_torch_of_equal_rows_is_nothing(device: str) -> None:
    Z = np.full((10, 3), 0.1)
    np.testing.assert_allclose(exact_relevance_on(Z, 1.0, device), 0, atol=FLOAT64)
    np.testing.assert_allclose(nystrom_relevance_on(Z, 1.0, no_rng(), 5, device), 0, atol=FLOAT64)
