"""The closed-form HSIC gradient against automatic and finite differences."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from heads.hsic import gradient as hsic_gradient
from heads.hsic.gradient import add_hsic_gradient, gaussian_kernels
from heads.hsic.statistics import (
    center_gram,
    hsic_biased,
    median_bandwidth,
    rbf_gram,
    squared_distances,
)

ROUNDING = 1e-12  # a few hundred float64 operations
STEP, STEP_ERROR = 1e-6, 1e-7  # of central differences in float64, relative to the largest entry
MEDIANS = ("with_diag", "offdiag")

Case = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def make_case(n: int, *, k: int = 3, h: int = 5, seed: int = 0) -> Case:
    """Representations (k, h, n), two centred Gram matrices and their weights, float64."""
    rng = np.random.default_rng(seed)
    grams = [center_gram(A @ A.T) for A in rng.normal(size=(2, n, n))]
    weights = rng.normal(size=(k, 2)) * 100
    return (
        torch.tensor(rng.normal(size=(k, h, n))),
        torch.tensor(np.stack(grams)),
        torch.tensor(weights),
    )


def closed_form(case: Case, median: str, *, attached: bool) -> tuple[torch.Tensor, torch.Tensor]:
    Z, grams, weights = case
    gradient = torch.zeros_like(Z)
    values = add_hsic_gradient(gradient, Z, grams, weights, median=median, attached=attached)
    return values, gradient


def automatic(case: Case, median: str, *, attached: bool) -> torch.Tensor:
    """Differentiate the definition: explicit differences, square root of a median, ``H K H``."""
    columns, grams, weights = case
    leaf = columns.clone().requires_grad_()
    n = leaf.shape[2]
    H = torch.eye(n, dtype=leaf.dtype) - 1 / n
    total = leaf.new_zeros(())
    for member, factors in zip(leaf, weights, strict=True):
        D = (member[:, :, None] - member[:, None, :]).square().sum(0)
        entries = D.flatten() if median == "with_diag" else D[~torch.eye(n, dtype=torch.bool)]
        sigma = entries.median().sqrt()
        sigma = sigma if attached else sigma.detach()
        K = torch.exp(-D / (2 * sigma**2 + 1e-8))
        for factor, gram in zip(factors, grams, strict=True):
            total = total + factor * torch.trace(H @ K @ H @ gram) / (n - 1) ** 2
    total.backward()
    assert leaf.grad is not None
    return leaf.grad


@pytest.mark.parametrize("n", [4, 5, 8, 9, 16])
@pytest.mark.parametrize("median", MEDIANS)
def test_gaussian_kernels__equal_the_array_functions(n: int, median: str) -> None:
    Z = make_case(n)[0]
    kernels = gaussian_kernels(Z, median)
    for member, gram, scale in zip(Z.numpy(), kernels.gram, kernels.scale, strict=True):
        D = squared_distances(member.T)
        bandwidth = median_bandwidth(D, median)
        assert_allclose(gram, rbf_gram(D, bandwidth), rtol=ROUNDING)
        assert_allclose(scale, 2 * bandwidth**2 + 1e-8, rtol=ROUNDING)


@pytest.mark.parametrize("median", MEDIANS)
def test_add_hsic_gradient__values_equal_hsic_biased(median: str) -> None:
    case = make_case(9)
    values, _ = closed_form(case, median, attached=True)
    for member, row in zip(case[0].numpy(), values, strict=True):
        D = squared_distances(member.T)
        K = rbf_gram(D, median_bandwidth(D, median))
        assert_allclose(row, [hsic_biased(K, L) for L in case[1].numpy()], rtol=ROUNDING)


@pytest.mark.parametrize("n", [4, 5, 16, 17])
@pytest.mark.parametrize("median", MEDIANS)
@pytest.mark.parametrize("attached", [True, False])
def test_add_hsic_gradient__equals_automatic_differentiation(
    n: int, median: str, attached: bool
) -> None:
    case = make_case(n)
    _, gradient = closed_form(case, median, attached=attached)
    expected = automatic(case, median, attached=attached)
    assert_allclose(gradient, expected, rtol=ROUNDING, atol=ROUNDING * float(expected.abs().max()))


def test_add_hsic_gradient__equals_finite_differences_of_the_array_functions() -> None:
    case = make_case(7, k=1, h=2)
    Z, grams, weights = (part.numpy() for part in case)

    def total(member: np.ndarray) -> float:
        D = squared_distances(member.T)
        K = rbf_gram(D, median_bandwidth(D))
        values = [hsic_biased(K, L) for L in grams]
        return float(weights[0] @ values)

    expected = np.zeros_like(Z[0])
    for index in np.ndindex(*expected.shape):
        shift = np.zeros_like(expected)
        shift[index] = STEP
        expected[index] = (total(Z[0] + shift) - total(Z[0] - shift)) / (2 * STEP)
    _, gradient = closed_form(case, "with_diag", attached=True)
    assert_allclose(gradient[0], expected, rtol=0, atol=STEP_ERROR * np.abs(expected).max())


def test_add_hsic_gradient__has_no_radial_part_only_if_the_bandwidth_is_attached() -> None:
    case = make_case(32)
    radial = {}
    for attached in (True, False):
        _, gradient = closed_form(case, "with_diag", attached=attached)
        products = (gradient * case[0]).sum((1, 2)) / (gradient.norm() * case[0].norm())
        radial[attached] = float(products.abs().max())
    # Not zero but 1e-8 because of the constant added to 2σ².
    assert radial[True] < 1e-8
    assert radial[False] > 1e-3


@pytest.mark.parametrize("spread", [0.0, 1e-20, 1e-6])
@pytest.mark.parametrize("attached", [True, False])
def test_add_hsic_gradient__is_finite_for_collapsed_representations(
    spread: float, attached: bool
) -> None:
    Z, grams, weights = (part.float() for part in make_case(16))
    case = 3 + spread * Z, grams, weights
    values, gradient = closed_form(case, "with_diag", attached=attached)
    assert values.isfinite().all()
    assert gradient.isfinite().all()


def test_add_hsic_gradient__adds_to_what_is_there() -> None:
    Z, grams, weights = make_case(8)
    _, alone = closed_form((Z, grams, weights), "with_diag", attached=True)
    gradient = torch.ones_like(Z)
    add_hsic_gradient(gradient, Z, grams, weights, median="with_diag", attached=True)
    assert_allclose(gradient, alone + 1, rtol=ROUNDING)


@pytest.mark.parametrize("elements", [1, 2 * 8 * 8, 10**6])
def test_add_hsic_gradient__does_not_depend_on_the_blocks(
    elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case(8, k=5)
    values, gradient = closed_form(case, "with_diag", attached=True)
    monkeypatch.setattr(hsic_gradient, "CPU_BLOCK", elements)
    blocked_values, blocked_gradient = closed_form(case, "with_diag", attached=True)
    assert_allclose(blocked_values, values, rtol=ROUNDING)
    assert_allclose(blocked_gradient, gradient, rtol=ROUNDING, atol=ROUNDING)
