"""The loss of FiSeR against its definition in plain loops, its public code, and its schedule."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from torch import Tensor

from heads.losses.hierarchical import (
    Embeddings,
    Losses,
    averaged_positives,
    cosine_schedule,
    hierarchical_contrastive,
)

LOSS = 1e-5
"""Relative; float32 sums in another order differ by less than 1e-6."""

GRADIENT = 1e-4
"""Relative to the largest; gradients are differences of nearly equal softmax weights."""

DIFFERENCE = 1e-6
"""Step of a central difference in float64: its own error is about 1e-9."""

Arrays = dict[str, NDArray[Any]]


def embeddings(
    n: int = 12, d: int = 5, *, seed: int = 0, n_sources: int = 3, dtype: Any = np.float64
) -> Embeddings:
    """Random rows, natural ones of source 0 and synthetic ones of the others."""
    rng = np.random.default_rng(seed)
    source = rng.integers(0, n_sources + 1, n)
    z = torch.from_numpy(rng.normal(size=(n, d)).astype(dtype))
    return Embeddings(
        z,
        torch.from_numpy((source > 0).astype(np.int64)),
        torch.from_numpy(source),
        torch.arange(n),
    )


def with_gradient(
    anchors: Embeddings, bank: Embeddings, **settings: float
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return total, coarse and fine, and the gradient of the total by the anchors.

    Where the bank is the anchors, it is the same tensor, into which gradients could flow.
    """
    z = anchors.z.clone().requires_grad_()
    learning = anchors._replace(z=z)
    losses = hierarchical_contrastive(learning, learning if bank is anchors else bank, **settings)
    losses.total.backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None
    return np.array([part.item() for part in losses]), z.grad.numpy()


def looped_term(
    a: NDArray[Any], b: NDArray[Any], relation: Callable[[int, int], str], temperature: float
) -> float:
    """One term by its definition; ``relation`` is "positive", "negative" or anything else."""
    terms = []
    for i, anchor in enumerate(a):
        kinds = [relation(i, j) for j in range(len(b))]
        s = [float(anchor @ row / np.linalg.norm(anchor) / np.linalg.norm(row)) for row in b]
        positive = [v for v, kind in zip(s, kinds, strict=True) if kind == "positive"]
        negative = [v for v, kind in zip(s, kinds, strict=True) if kind == "negative"]
        if not negative:
            continue
        m = sum(positive) / len(positive) / temperature if positive else 0.0
        terms.append(-m + math.log(math.exp(m) + sum(math.exp(v / temperature) for v in negative)))
    return sum(terms) / len(terms) if terms else 0.0


def looped(
    anchors: Embeddings,
    bank: Embeddings,
    temperature: float,
    coarse_weight: float,
    fine_weight: float,
) -> list[float]:
    """Total, coarse and fine in plain loops."""
    a, b = ([column.tolist() for column in rows[1:]] for rows in (anchors, bank))

    def by_class(i: int, j: int) -> str:
        if a[0][i] != b[0][j]:
            return "negative"
        return "itself" if a[2][i] == b[2][j] else "positive"

    def by_source(i: int, j: int) -> str:
        if not (a[0][i] == b[0][j] == 1):
            return "natural"
        if a[1][i] != b[1][j]:
            return "negative"
        return "itself" if a[2][i] == b[2][j] else "positive"

    z = anchors.z.numpy(), bank.z.numpy()
    coarse, fine = (looped_term(*z, relation, temperature) for relation in (by_class, by_source))
    return [coarse_weight * coarse + fine_weight * fine, coarse, fine]


# ------------------------------------------------------------------ against the definition


@given(
    n=st.integers(1, 9),
    extra=st.integers(0, 9),
    n_sources=st.integers(0, 4),
    seed=st.integers(0, 99),
    temperature=st.sampled_from([0.07, 0.5, 2.0]),
    weights=st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 2.0])),
)
def test_loss__equals_plain_loops(
    n: int, extra: int, n_sources: int, seed: int, temperature: float, weights: Any
) -> None:
    bank = embeddings(n + extra, seed=seed, n_sources=n_sources)
    expected = looped(bank.first(n), bank, temperature, *weights)
    settings = dict(zip(("coarse_weight", "fine_weight"), weights, strict=True))
    values, _ = with_gradient(bank.first(n), bank, temperature=temperature, **settings)
    assert_allclose(values, expected, rtol=1e-12, atol=1e-12)


@given(seed=st.integers(0, 99))
def test_gradient__equals_differences_of_the_loss_with_the_bank_held_fixed(seed: int) -> None:
    bank = embeddings(8, 3, seed=seed)
    _, gradient = with_gradient(bank, bank, temperature=0.5)
    direction = torch.from_numpy(np.random.default_rng(seed).normal(size=(8, 3)))
    ends = [
        hierarchical_contrastive(
            bank._replace(z=bank.z + sign * DIFFERENCE * direction), bank, temperature=0.5
        ).total
        for sign in (1, -1)
    ]
    slope = float(ends[0] - ends[1]) / (2 * DIFFERENCE)
    assert_allclose((gradient * direction.numpy()).sum(), slope, rtol=1e-6, atol=1e-8)


@given(seed=st.integers(0, 99), exponent=st.floats(0, 3))
def test_loss__does_not_change_with_the_length_of_rows(seed: int, exponent: float) -> None:
    rows = embeddings(seed=seed)
    lengths = torch.from_numpy(10 ** np.random.default_rng(seed).uniform(-exponent, exponent, 12))
    expected = hierarchical_contrastive(rows, rows)
    longer = rows._replace(z=rows.z * lengths[:, None])
    for found in (hierarchical_contrastive(longer, rows), hierarchical_contrastive(rows, longer)):
        assert_allclose(np.array(found), np.array(expected), rtol=1e-10, atol=1e-10)


def test_loss__does_not_depend_on_the_order_of_the_bank() -> None:
    bank = embeddings(20)
    order = torch.from_numpy(np.random.default_rng(1).permutation(20))
    shuffled = Embeddings(*(column[order] for column in bank))
    expected = hierarchical_contrastive(bank.first(7), bank)
    assert_allclose(
        np.array(hierarchical_contrastive(bank.first(7), shuffled)), np.array(expected), rtol=1e-12
    )


def test_loss__compares_natural_rows_by_class_alone() -> None:
    rows = embeddings()
    natural = rows.label == 0
    renamed = rows._replace(source=torch.where(natural, torch.arange(12) + 50, rows.source))
    assert hierarchical_contrastive(renamed, renamed) == hierarchical_contrastive(rows, rows)


def test_loss__takes_a_repeated_row_for_itself_not_for_a_positive() -> None:
    rows = embeddings(6)
    twice = rows.followed_by(rows)
    expected = looped(rows, twice, 0.07, 1.0, 1.0)
    assert_allclose(np.array(hierarchical_contrastive(rows, twice)), expected, rtol=1e-12)
    stranger = twice._replace(row=torch.arange(12))
    assert hierarchical_contrastive(rows, stranger).total < expected[0]  # near themselves


# ------------------------------------------------------------------ what is missing


@pytest.mark.parametrize("label", [0, 1])
def test_loss__of_one_source_is_zero_with_a_graph(label: int) -> None:
    rows = embeddings()
    alike = rows._replace(
        label=torch.full_like(rows.label, label), source=torch.ones_like(rows.source)
    )
    values, gradient = with_gradient(alike, alike)
    assert_allclose(values, 0, atol=0)
    assert_allclose(gradient, 0, atol=0)


def test_loss__of_no_rows_is_zero() -> None:
    rows = embeddings()
    values, gradient = with_gradient(rows.first(0), rows)
    assert_allclose(values, 0, atol=0)
    assert gradient.shape == (0, 5)


def test_loss__of_a_single_row_is_zero() -> None:
    row = embeddings(1)
    assert hierarchical_contrastive(row, row) == Losses(*torch.zeros(3, dtype=torch.float64))


def test_term__of_an_anchor_without_positives_takes_zero_for_their_mean() -> None:
    logits = torch.tensor([[3.0, 1.0]], dtype=torch.float64)
    none, both = torch.zeros(1, 2, dtype=torch.bool), torch.ones(1, 2, dtype=torch.bool)
    expected = math.log(1 + math.exp(3) + math.exp(1))
    assert_allclose(averaged_positives(logits, none, both).item(), expected, rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_loss__is_finite_for_rows_of_extreme_length(scale: float) -> None:
    rows = embeddings(dtype=np.float32)
    values, gradient = with_gradient(rows._replace(z=rows.z * scale), rows, temperature=1e-3)
    assert np.isfinite(values).all()
    assert np.isfinite(gradient).all()


def test_loss__is_finite_for_a_row_of_zeros() -> None:
    rows = embeddings(dtype=np.float32)
    rows.z[3] = 0
    values, gradient = with_gradient(rows, rows)
    assert np.isfinite(values).all()
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_loss__is_computed_in_float32_whatever_autocast_says(dtype: torch.dtype) -> None:
    rows = embeddings(dtype=np.float32)
    narrow = rows._replace(z=rows.z.to(dtype))
    expected = hierarchical_contrastive(narrow._replace(z=narrow.z.float()), narrow)
    with torch.autocast("cpu", torch.bfloat16):
        found = hierarchical_contrastive(narrow, narrow)
    assert found.total.dtype == torch.float32
    assert found == expected


# ------------------------------------------------------------------ against the public code


@pytest.fixture
def vectors(shared: Callable[[str], Path]) -> Arrays:
    """What FiSeR's code gave for random inputs."""
    with np.load(shared("vectors/fiser.npz")) as arrays:
        return dict(arrays)


def vector(vectors: Arrays, name: str) -> NDArray[Any]:
    if name not in vectors:
        pytest.skip(f"the optional test asset has no array {name!r}")
    return vectors[name]


def recorded(vectors: Arrays, prefix: str = "loss") -> Embeddings:
    """The rows of the recorded inputs."""
    z = vector(vectors, "loss_feat" if prefix == "loss" else prefix)
    source, label = (torch.from_numpy(vector(vectors, f"{prefix}_{k}")) for k in ("src", "lab"))
    return Embeddings(torch.from_numpy(z), label, source, torch.arange(len(z)))


def one_generator(rows: Embeddings) -> Embeddings:
    return rows._replace(source=rows.label)


def all_of(label: int) -> Callable[[Embeddings], Embeddings]:
    return lambda rows: rows._replace(label=torch.full_like(rows.label, label))


SITUATIONS: dict[str, tuple[Callable[[Embeddings], Embeddings], dict[str, float]]] = {
    "main": (lambda rows: rows, {}),
    "T05": (lambda rows: rows, {"temperature": 0.05, "coarse_weight": 0.5, "fine_weight": 2.0}),
    "fineoff": (lambda rows: rows, {"fine_weight": 0.0}),
    "nosyn": (all_of(0), {}),
    "nonat": (all_of(1), {}),
    "onesrc": (one_generator, {}),
}


def assert_as_recorded(
    vectors: Arrays, name: str, anchors: Embeddings, bank: Embeddings, **settings: float
) -> None:
    values, gradient = with_gradient(anchors, bank, **settings)
    assert_allclose(values, vector(vectors, f"loss_{name}"), rtol=LOSS, atol=1e-7)
    expected = vector(vectors, f"loss_{name}_grad")
    assert_allclose(gradient, expected, rtol=0, atol=GRADIENT * np.abs(expected).max())


@pytest.mark.parametrize("name", SITUATIONS)
def test_loss__equals_the_public_code(vectors: Arrays, name: str) -> None:
    change, settings = SITUATIONS[name]
    rows = change(recorded(vectors))
    assert_as_recorded(vectors, name, rows, rows, **settings)


def test_loss__without_knowing_rows_equals_the_public_code_without_mask(vectors: Arrays) -> None:
    rows = recorded(vectors)
    strangers = rows._replace(row=rows.row + len(rows.z))
    assert_as_recorded(vectors, "noself", rows, strangers)


def test_loss__of_the_second_of_two_processes_equals_the_public_code(vectors: Arrays) -> None:
    vector(vectors, "loss_bank")
    bank = recorded(vectors, "loss_bank")
    anchors = Embeddings(*(column[32:] for column in bank))
    assert_as_recorded(vectors, "rank1", anchors, bank)


# ------------------------------------------------------------------ the schedule


def test_schedule__equals_the_public_code(vectors: Arrays) -> None:
    steps = (0, 1, 999, 1999, 2000, 2001, 10000, 21650, 41299, 41300, 50000)
    rates = [
        cosine_schedule(step, warmup=2000, total=41300, base=3e-5, final=5e-6) for step in steps
    ]
    assert_allclose(rates, vector(vectors, "lr_sched"), rtol=1e-12)


@given(
    warmup=st.integers(0, 20),
    length=st.integers(1, 50),
    final=st.floats(0, 1),
    over=st.integers(0, 9),
)
def test_schedule__rises_in_equal_steps_and_falls_to_the_end(
    warmup: int, length: int, final: float, over: int
) -> None:
    total = warmup + length
    rates = [
        cosine_schedule(step, warmup=warmup, total=total, base=1.0, final=final)
        for step in range(total + 1 + over)
    ]
    assert_allclose(rates[:warmup], np.arange(1, warmup + 1) / max(warmup, 1))
    assert rates[warmup] == 1.0
    assert np.all(np.diff(rates[warmup:]) <= 1e-12)
    assert_allclose(rates[total:], final, atol=1e-12)


def test_schedule__is_torchs_cosine_annealing_after_the_warm_up() -> None:
    weight = Tensor([0.0]).requires_grad_()
    optimiser = torch.optim.SGD([weight], lr=0.7)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=10, eta_min=0.1)
    for step in range(11):
        ours = cosine_schedule(step + 3, warmup=3, total=13, base=0.7, final=0.1)
        assert_allclose(ours, theirs.get_last_lr(), rtol=1e-12)
        optimiser.step()
        theirs.step()
