"""RINE's published grid of 48 heads through `heads.fit_many`, and one step against stock modules.

Of the 48 single fits only the 12 of one xi are run; their time is scaled to 48.
"""

import tempfile
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.feature_stores import write_store
from benchmarks.paired import Timing, interleave, one_thread, report, speed
from torch import Tensor, nn

import heads
from heads.loop.batch_source import ArrayBatches, RowBatch
from heads.rine.head import RINEHead
from heads.rine.training import RINETrainer

N_ROWS, N_LAYERS, WIDTH, BATCH = 1024, 24, 1024, 128
XI, NPROJ, PROJ_DIM = (0.1, 0.2, 0.4, 0.8), (1, 2, 4), (128, 256, 512, 1024)
SAMPLED = slice(len(NPROJ) * len(PROJ_DIM))  # one xi, which costs no time


@pytest.fixture(scope="module")
def ds() -> Iterator[object]:
    with tempfile.TemporaryDirectory() as folder:
        store = write_store(Path(folder) / "s.zarr", n_rows=N_ROWS, n_layers=N_LAYERS, width=WIDTH)
        yield store.select()


def grid() -> list[RINEHead]:
    points = product(XI, NPROJ, PROJ_DIM)
    return [RINEHead(xi=xi, nproj=q, proj_dim=d, device="cpu") for xi, q, d in points]


def test_grid_of_48(ds: Any) -> None:
    n_heads, n_sampled = len(grid()), len(grid()[SAMPLED])
    ours, sample = interleave(
        lambda: heads.fit_many(grid(), ds),
        lambda: [heads.fit(head, ds) for head in grid()[SAMPLED]],
        rounds=1,
        warm_up=False,
    )
    single = Timing(*([seconds * n_heads / n_sampled for seconds in clock] for clock in sample))
    name = f"fit_many | {n_heads} x fit (scaled from {n_sampled})"
    report(
        f"RINE's grid, an epoch of {N_ROWS:,} rows x {N_LAYERS} x {WIDTH:,}",
        [speed(name, ours, single, amount=n_heads, unit="heads/s")],
    )


class Stock(nn.Module):
    """The same network of stock modules."""

    def __init__(self, q: int, d: int) -> None:
        super().__init__()

        def hidden(*pair: int) -> list[nn.Module]:
            return [nn.Linear(*pair), nn.ReLU(), nn.Dropout()]

        first = [step for i in range(q) for step in hidden(d if i else WIDTH, d)]
        second = [step for _ in range(q) for step in hidden(d, d)]
        self.q1, self.q2 = (nn.Sequential(nn.Dropout(), *own) for own in (first, second))
        self.tie = nn.Parameter(torch.randn(1, N_LAYERS, d))
        self.top = nn.Sequential(*hidden(d, d), *hidden(d, d), nn.Linear(d, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.q2((self.tie.softmax(1) * self.q1(x)).sum(1))
        return self.top(z), z


def stock_supcon(z: Tensor, y: Tensor) -> Tensor:
    u = nn.functional.normalize(z)
    s = u @ u.T / 0.07
    s = s - s.max(1, keepdim=True).values.detach()
    other = 1 - torch.eye(len(y))
    positive = torch.eq(y[:, None], y).float() * other
    log_p = s - (s.exp() * other).sum(1, keepdim=True).log()
    return -((positive * log_p).sum(1) / positive.sum(1)).mean()


def stock_step(q: int, d: int, X: Any, y: Any) -> Callable[[], None]:
    network, x, target = Stock(q, d), torch.tensor(X).view(-1, N_LAYERS, WIDTH), torch.tensor(y)
    adam = torch.optim.Adam(network.parameters(), lr=1e-3)

    def step() -> None:
        logit, z = network(x)
        bce = nn.functional.binary_cross_entropy_with_logits(
            logit[:, 0], target.float(), reduction="sum"
        )
        adam.zero_grad()
        (bce + 0.2 * stock_supcon(z, target)).backward()
        adam.step()

    return step


@pytest.mark.parametrize(("q", "d"), [(4, 128), (4, 1024)])
def test_one_step(q: int, d: int) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(BATCH, N_LAYERS * WIDTH)).astype(np.float32)
    y = rng.permutation(np.arange(BATCH) % 2)
    head = RINEHead(n_layers=N_LAYERS, nproj=q, proj_dim=d, device="cpu")
    with one_thread():
        trainer = RINETrainer(head, ArrayBatches(X, y))
        batch, shared = RowBatch(X, y, np.arange(BATCH)), {}
        ours, stock = interleave(
            lambda: trainer.consume(batch, shared), stock_step(q, d, X, y), rounds=3
        )
    row = speed(
        "RINETrainer | stock modules", ours, stock, amount=1, unit="steps/s", wanted=">= 0.95"
    )
    report(f"One step of RINE, nproj={q}, proj_dim={d}, batch of {BATCH}, one thread", [row])
