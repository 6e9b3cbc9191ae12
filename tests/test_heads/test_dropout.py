"""Dropout against the binomial distribution."""

import numpy as np
import pytest
import torch
from scipy import stats

from heads.rine.dropout import Dropout

UNLIKELY = 1e-6  # p-value; seeds are fixed, so a pass stays a pass


def thinned(p: float, n: int = 100_000, seed: int = 0) -> torch.Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        result: torch.Tensor = Dropout(p)(torch.ones(n))
    return result


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
def test_dropout__zeroes_the_share_it_is_told(p: float) -> None:
    n_zeros = int((thinned(p) == 0).sum())
    assert stats.binomtest(n_zeros, 100_000, p).pvalue > UNLIKELY


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout__keeps_the_expectation(p: float) -> None:
    kept = thinned(p)[thinned(p) > 0].unique()
    assert len(kept) == 1
    assert kept.item() == pytest.approx(1 / (1 - p), rel=1e-4)  # p is a multiple of 2 ** -16


def test_dropout__neighbours_are_independent() -> None:
    zero = (thinned(0.5) == 0).numpy()
    for lag in (1, 2, 3, 4, 8):
        table = np.histogram2d(zero[:-lag], zero[lag:], bins=2)[0]
        assert stats.chi2_contingency(table).pvalue > UNLIKELY


def test_dropout__is_decided_by_the_seed() -> None:
    assert torch.equal(thinned(0.5), thinned(0.5))
    assert not torch.equal(thinned(0.5), thinned(0.5, seed=1))


def test_dropout__passes_the_gradient_of_what_it_keeps() -> None:
    x = torch.randn(7, 3, requires_grad=True)  # 21 numbers: not a multiple of the four in a word
    y = Dropout(0.4)(x)
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad * x.detach(), y.detach())


@pytest.mark.parametrize(("p", "training"), [(0.0, True), (0.5, False)])
def test_dropout__leaves_everything(p: float, training: bool) -> None:
    x = torch.randn(5, 3)
    assert Dropout(p).train(training)(x) is x


def test_dropout__of_almost_everything_is_finite() -> None:
    assert Dropout(1 - 1e-9)(torch.ones(1000)).isfinite().all()
