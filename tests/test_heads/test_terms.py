"""What a batch's loss is made of: terms against plain torch loops, and who can learn lessons."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from support.checks import two_classes
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from heads import (
    HierarchicalContrastiveHead,
    HSICProbe,
    KNNHead,
    LogisticProbe,
    ReconstructionOneClass,
    RidgeProbe,
    RINEHead,
    StayPositiveProbe,
)
from heads.hsic.statistics import delta_gram, median_bandwidth, rbf_gram, squared_distances
from heads.loop.batch_source import ArrayBatches, Lesson, Pass, RowBatch, Term
from heads.loop.lessons import lesson_loss, lesson_slope
from heads.loop.passes import train
from heads.loop.views import View, ViewedBatches
from heads.rine.network import RINENetwork
from heads.stay_positive.relu_layer import HiddenBatches, ReluLayer

FLOAT32 = 1e-6  # a few steps in float32 against float64, with weights of about 1
ALGEBRA = 1e-12  # the same formula in float64

TEMPERATURES = [None, 0.5, 2.0]
N_OWN, N_REPLAYED, N_KEPT = 24, 12, 12
REPLAYED = 0.7
Logits = Callable[[Tensor], Tensor]
Own = Callable[[Tensor, Tensor], Tensor]


class Taught(ArrayBatches):
    """Rows with a lesson of their own; every batch: own rows, replayed rows, rows to be kept."""

    teaches = True

    def __init__(self, temperature: float | None, *, positive: bool = False) -> None:
        X, y = two_classes(96)
        X = np.abs(X) if positive else X
        super().__init__(X.astype(np.float32), y)
        self.kept = np.random.default_rng(7).normal(size=len(y))
        self.temperature = temperature

    def batches(self, reading: Pass) -> Iterator[RowBatch]:
        for batch in super().batches(reading):
            lesson = Lesson(self.kept[batch.index[-N_KEPT:]], 3.0, self.temperature)
            terms = Term(N_OWN), Term(N_REPLAYED, REPLAYED), Term(N_KEPT, 0.0, lesson)
            yield batch if reading.seed is None else batch._replace(terms=terms)


def plain_lesson(s: Tensor, t: Tensor, temperature: float | None) -> Tensor:
    """Return the weighted lesson as the papers write it."""
    if temperature is None:
        return 3.0 * torch.mean((s - t) ** 2)
    p, q = torch.sigmoid(s / temperature), torch.sigmoid(t / temperature)
    return -3.0 * temperature**2 * torch.mean(q * torch.log(p) + (1 - q) * torch.log(1 - p))


def plain_losses(source: Taught, head: Any, logits: Logits, own: Own) -> Iterator[Tensor]:
    """Yield the loss of each batch, its three terms written out in float64."""
    for epoch in range(head.max_iter):
        for batch in source.batches(Pass(head.batch_size, head.random_state, epoch)):
            x, y = torch.tensor(batch.X).double(), torch.tensor(batch.y)
            old, kept = slice(N_OWN, N_OWN + N_REPLAYED), slice(N_OWN + N_REPLAYED, None)
            loss = own(x[:N_OWN], y[:N_OWN]) + REPLAYED * own(x[old], y[old])
            t = torch.tensor(source.kept[batch.index[kept]])
            yield loss + plain_lesson(logits(x[kept]), t, source.temperature)


def assert_close(found: np.ndarray, expected: Tensor, tolerance: float = FLOAT32) -> None:
    values = expected.detach().numpy()
    assert_allclose(found.reshape(values.shape), values, rtol=0, atol=tolerance)


# ------------------------------------------------------------------ the lesson itself


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_lesson_loss__is_the_papers_formula(temperature: float | None) -> None:
    rng = np.random.default_rng(0)
    s, t = torch.tensor(rng.normal(size=8) * 3), rng.normal(size=8) * 3
    expected = plain_lesson(s, torch.tensor(t), temperature)
    found = lesson_loss(Lesson(t, 3.0, temperature), s)
    assert_allclose(found.numpy(), expected.numpy(), rtol=ALGEBRA)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_lesson_slope__is_the_derivative_of_the_loss(temperature: float | None) -> None:
    rng = np.random.default_rng(0)
    s = torch.tensor(rng.normal(size=(3, 8)), requires_grad=True)
    lesson = Lesson(rng.normal(size=8), 3.0, temperature)
    (expected,) = torch.autograd.grad(lesson_loss(lesson, s).sum(), s)
    assert_allclose(lesson_slope(lesson, s.detach()).numpy(), expected.numpy(), atol=ALGEBRA)


def test_lesson_slope__tends_to_that_of_squares_with_temperature() -> None:
    s, t = torch.tensor([1.0, -2.0], dtype=torch.float64), np.array([0.5, 1.0])
    hot, squares = Lesson(t, 8.0, 1e4), Lesson(t, 1.0, None)
    assert_allclose(lesson_slope(hot, s).numpy(), lesson_slope(squares, s).numpy(), rtol=1e-6)


# ------------------------------------------------------------------ HSICProbe


def plain_hsic(a: Tensor, gram: Tensor) -> Tensor:
    n = len(a)
    D = (a[:, None] - a[None]).square().sum(2)
    K = torch.exp(-D / (2 * D.flatten().median() + 1e-8))
    H = torch.eye(n).double() - 1 / n
    return torch.trace(H @ K @ H @ gram) / (n - 1) ** 2


def plain_hsic_probe(probe: HSICProbe, source: Taught) -> tuple[list[nn.Parameter], list[float]]:
    """Train by automatic differentiation; return the weights, and the losses before each step."""
    with torch.random.fork_rng():
        torch.manual_seed(probe.random_state)
        model = nn.Sequential(nn.Linear(5, probe.n_components), nn.Linear(probe.n_components, 1))
    model = model.double()

    def logits(x: Tensor) -> Tensor:
        return model(x)[:, 0]

    def own(x: Tensor, y: Tensor) -> Tensor:
        D = squared_distances(x.numpy())
        of_x = torch.tensor(rbf_gram(D, median_bandwidth(D)))
        of_y = torch.tensor(delta_gram(y.numpy()))
        loss = binary_cross_entropy_with_logits(logits(x), y.double())
        z = model[0](x)
        loss = loss + probe.lambda_x * plain_hsic(z, of_x)
        return loss - probe.lambda_y * plain_hsic(z, of_y)

    optimiser, losses = torch.optim.SGD(model.parameters(), probe.learning_rate), []
    for loss in plain_losses(source, probe, logits, own):
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return list(model.parameters()), losses


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("max_iter", [1, 3])
def test_hsic_probe__terms_equal_a_plain_training_loop(
    temperature: float | None, max_iter: int
) -> None:
    source = Taught(temperature)
    probe = HSICProbe(n_components=4, max_iter=max_iter, batch_size=48, device="cpu")
    probe.set_params(learning_rate=0.02, lambda_x=9, lambda_y=7)
    train([probe], source)
    expected, losses = plain_hsic_probe(probe, source)
    names = ("encoder_weight_", "encoder_bias_", "classifier_weight_", "classifier_bias_")
    for name, parameter in zip(names, expected, strict=True):
        assert_close(getattr(probe, name), parameter)
    assert_allclose(probe.history_[:, 0], np.reshape(losses, (max_iter, 2)).mean(1), rtol=1e-5)


def test_hsic_probe__members_of_a_stack_equal_single_trainings() -> None:
    settings: Any = {"n_components": 4, "max_iter": 2, "batch_size": 48, "device": "cpu"}
    stack = [HSICProbe(learning_rate=rate, **settings) for rate in (1e-3, 1e-4)]
    train(stack, Taught(2.0))
    for member in stack:
        alone = HSICProbe(**member.get_params())
        train([alone], Taught(2.0))
        assert_allclose(member.coef_, alone.coef_, atol=FLOAT32)


# ------------------------------------------------------------------ heads that are a torch module


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_rine_head__terms_equal_a_plain_training_loop(temperature: float | None) -> None:
    source = Taught(temperature)
    head = RINEHead(proj_dim=6, nproj=1, dropout=0.0, use_contrastive=False, batch_size=48)
    head.set_params(max_iter=2, warm_start=True, device="cpu")
    train([head.set_params(learning_rate=1e-30)], source)
    shape = head.shape_for(source)
    network = RINENetwork(shape, dropout=0.0)
    start = {w.parameter: torch.tensor(getattr(head, w.attribute)) for w in shape.weights()}
    network.load_state_dict(start)
    network = network.double()

    def own(x: Tensor, y: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(network(x)[0], y.double(), reduction="sum")

    train([head.set_params(learning_rate=1e-3)], source)
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    for loss in plain_losses(source, head, lambda x: network(x)[0], own):
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    expected = network.state_dict()
    for weight in shape.weights():
        # Adam divides by the gradient's size, and so magnifies rounding where it is small.
        assert_close(getattr(head, weight.attribute), expected[weight.parameter], 1e-4)


def test_stay_positive__penalty_counts_once_whatever_the_terms() -> None:
    source = Taught(2.0, positive=True)
    head = StayPositiveProbe(solver="adam_clamp", l2=0.5, l1=0.1, batch_size=48, device="cpu")
    head.set_params(learning_rate=0.05, max_iter=3)
    train([head], source)
    w, b = torch.zeros(5).double().requires_grad_(), torch.zeros(1).double().requires_grad_()

    def logits(x: Tensor) -> Tensor:
        return x @ w + b

    def own(x: Tensor, y: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(logits(x), y.double())

    optimiser = torch.optim.Adam([w, b], 0.05)
    for loss in plain_losses(source, head, logits, own):
        optimiser.zero_grad()
        (loss + 0.25 * (w**2).sum() + 0.1 * w.sum()).backward()
        optimiser.step()
        with torch.no_grad():
            w.clamp_(min=0)
    assert_close(head.coef_, w, 1e-4)
    assert_close(head.intercept_, b, 1e-4)


# ------------------------------------------------------------------ who takes lessons


@pytest.mark.parametrize(
    "head",
    [
        KNNHead(),
        LogisticProbe(),
        RidgeProbe(),
        HierarchicalContrastiveHead(max_iter=1, device="cpu"),
        ReconstructionOneClass(method="autoencoder", n_components=2, max_iter=1, device="cpu"),
        StayPositiveProbe(hidden=3, hidden_epochs=1, device="cpu"),
    ],
    ids=lambda head: type(head).__name__,
)
def test_train__lessons_that_a_head_would_not_notice_are_refused(head: Any) -> None:
    with pytest.raises(ValueError, match="distillation needs heads that descend along a loss"):
        train([head], Taught(2.0, positive=True))


def test_train__heads_of_two_stages_take_lessons_in_both() -> None:
    head = StayPositiveProbe(solver="adam_clamp", hidden=3, hidden_epochs=2, max_iter=2)
    head.set_params(batch_size=48, device="cpu", learning_rate=0.01)
    old = Taught(2.0)
    train([head], old)
    plain = StayPositiveProbe(**head.get_params())
    train([plain], ArrayBatches(old._X, old._labels.at(slice(None))))
    assert not np.array_equal(head.hidden_weight_, plain.hidden_weight_)
    assert head.history_[-1, 0] > head.history_[-1, 1]  # the lesson is in the loss


# ------------------------------------------------------------------ batches


def test_parts__a_batch_without_terms_is_one() -> None:
    (batch,) = ArrayBatches(*two_classes(6)).batches(Pass())
    ((rows, term),) = batch.parts()
    assert rows is batch
    assert term == (6, 1.0, None)


def test_parts__terms_must_be_of_all_rows() -> None:
    (batch,) = ArrayBatches(*two_classes(6)).batches(Pass())
    with pytest.raises(ValueError, match="the terms of a batch must be of all its 6 rows, got 5"):
        batch._replace(terms=(Term(2), Term(3))).parts()


def test_views__carry_terms_on() -> None:
    (batch,) = ArrayBatches(*two_classes(6)).batches(Pass())
    batch = batch._replace(terms=(Term(2), Term(4, 0.5)))
    source = ArrayBatches(*two_classes(6))
    assert ViewedBatches(source, View()).cut(batch).terms == batch.terms
    layer = ReluLayer(np.ones((2, 5)), np.zeros(2))
    assert HiddenBatches(source, layer).cut(batch).terms == batch.terms
