"""The supervised contrastive loss against a double loop and the published implementation.

``tests/data/rine.npz`` holds, as ``sc_*``, what the loss of mever-team/rine (that of
HobbitLong/SupContrast) returns, and its gradients.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from heads.losses.supervised import supervised_contrastive

VECTORS = Path(__file__).resolve().parents[1] / "data" / "rine.npz"
PUBLISHED = 1e-5  # float32 sums in another order, relative
GRADIENT = 1e-4  # of the largest entry
EXACT = 1e-10  # float64 sums in another order

PATTERNS = ("bal", "one_single", "allsame")


@pytest.fixture(scope="module")
def vectors() -> dict[str, Any]:
    with np.load(VECTORS) as file:
        return dict(file)


def numbers(*shape: int) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(0).normal(size=shape), requires_grad=True)


def by_double_loop(z: Any, labels: Any, temperature: float, base: float, n_anchors: int) -> float:
    """Return the loss as its definition reads; `z` (n, n_views, d)."""
    n, n_views, _ = z.shape
    points = [(i, z[i, v] / np.linalg.norm(z[i, v])) for v in range(n_views) for i in range(n)]
    total = 0.0
    for a, (i, anchor) in enumerate(points[:n_anchors]):
        others = [(j, point) for b, (j, point) in enumerate(points) if b != a]
        denominator = sum(math.exp(anchor @ point / temperature) for _, point in others)
        positives = [point for j, point in others if labels[j] == labels[i]]
        terms = [anchor @ point / temperature - math.log(denominator) for point in positives]
        if terms:
            total -= temperature / base * sum(terms) / len(terms)
    return total / n_anchors


@given(
    st.integers(2, 9),
    st.integers(1, 3),
    st.sampled_from(["all", "one"]),
    st.floats(0.05, 2),
    st.floats(0.05, 2),
    st.integers(0, 2**32 - 1),
)
def test_supcon__equals_its_definition(
    n: int, n_views: int, anchors: Any, temperature: float, base: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    z, labels = rng.normal(size=(n, n_views, 4)), rng.integers(0, 3, n)
    found = supervised_contrastive(
        torch.tensor(z),
        torch.tensor(labels),
        temperature=temperature,
        base_temperature=base,
        anchors=anchors,
    )
    n_anchors = n if anchors == "one" else n * n_views
    expected = by_double_loop(z, labels, temperature, base, n_anchors)
    assert_allclose(found.item(), expected, rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_supcon__equals_the_published_loss_and_gradient(
    vectors: dict[str, Any], pattern: str
) -> None:
    z = torch.tensor(vectors["sc_z"], requires_grad=True)
    loss = supervised_contrastive(z, torch.tensor(vectors[f"sc_{pattern}_labels"]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert_allclose(loss.item(), vectors[f"sc_{pattern}_loss"], rtol=PUBLISHED)
    expected = vectors[f"sc_{pattern}_grad"]
    assert z.grad is not None
    assert_allclose(z.grad.numpy(), expected, rtol=0, atol=GRADIENT * np.abs(expected).max())


@pytest.mark.parametrize(("temperature", "base"), [(0.1, 0.07), (0.5, 0.5)])
def test_supcon__equals_the_published_loss_at_other_temperatures(
    vectors: dict[str, Any], temperature: float, base: float
) -> None:
    found = supervised_contrastive(
        torch.tensor(vectors["sc_z"]),
        torch.tensor(vectors["sc_bal_labels"]),
        temperature=temperature,
        base_temperature=base,
    )
    assert_allclose(found.item(), vectors[f"sc_bal_loss_T{temperature}_b{base}"], rtol=PUBLISHED)


def test_supcon__equals_the_published_loss_of_two_views(vectors: dict[str, Any]) -> None:
    z, labels = torch.tensor(vectors["sc_views"]), torch.tensor([0, 1] * 4)
    found = {
        "all": supervised_contrastive(z, labels),
        "one": supervised_contrastive(z, labels, anchors="one"),
        "simclr": supervised_contrastive(z),
    }
    for name, loss in found.items():
        assert_allclose(loss.item(), vectors[f"sc_views_{name}"], rtol=PUBLISHED, err_msg=name)


@pytest.mark.parametrize("labels", [[0], [0, 1, 2]], ids=["one sample", "no positives"])
def test_supcon__without_positives_is_zero_with_a_zero_gradient(labels: list[int]) -> None:
    z = numbers(len(labels), 5)
    loss = supervised_contrastive(z, torch.tensor(labels))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert z.grad is not None
    assert z.grad.abs().max() == 0


def test_supcon__of_perfect_clusters_is_the_logarithm_of_the_positives() -> None:
    z = torch.eye(2, dtype=torch.float64).repeat_interleave(10, 0)
    loss = supervised_contrastive(z, torch.arange(20) // 10, temperature=0.01)
    assert_allclose(loss.item(), math.log(9) * 0.01 / 0.07, rtol=EXACT)


def test_supcon__does_not_depend_on_lengths_and_order() -> None:
    rng = np.random.default_rng(0)
    z, labels = torch.tensor(rng.normal(size=(12, 3))), torch.tensor(rng.integers(0, 2, 12))
    order = torch.tensor(rng.permutation(12))
    longer = z * torch.tensor(rng.uniform(0.1, 10, (12, 1)))
    found = supervised_contrastive(longer[order], labels[order])
    assert_allclose(found.item(), supervised_contrastive(z, labels).item(), rtol=EXACT)


def test_supcon__has_the_gradient_of_its_values() -> None:
    z = numbers(6, 2, 3)
    labels = torch.tensor([0, 0, 1, 1, 1, 2])
    assert torch.autograd.gradcheck(lambda z: supervised_contrastive(z, labels), z)


def test_supcon__of_zeros_is_finite() -> None:
    z = torch.zeros(4, 3, requires_grad=True)
    loss = supervised_contrastive(z, torch.tensor([0, 0, 1, 1]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert_allclose(loss.item(), math.log(3), rtol=PUBLISHED)
    assert z.grad is not None
    assert z.grad.isfinite().all()


@pytest.mark.parametrize(
    ("z", "changes", "text"),
    [
        (torch.ones(3), {}, r"'z' must have shape \(n, d\) or .* got \(3,\)"),
        (torch.ones(0, 3), {}, r"none of them 0, got \(0, 3\)"),
        (torch.ones(3, 2), {"labels": torch.ones(4)}, r"'labels' must have shape \(3,\)"),
        (torch.ones(3, 2), {"temperature": 0.0}, "'temperature' must be positive, got 0.0"),
        (torch.ones(3, 2), {"base_temperature": -1.0}, "'base_temperature' must be positive"),
    ],
)
def test_supcon__refuses_what_does_not_fit(z: Any, changes: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        supervised_contrastive(z, **changes)
