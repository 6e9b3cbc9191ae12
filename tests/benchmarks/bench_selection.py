"""Selections for replay against the bare matrix products that they need."""

from functools import partial

import numpy as np
from benchmarks.paired import Row, interleave, report, speed
from threadpoolctl import threadpool_limits

from continual.selection.greedy import greedy, min_max
from continual.selection.kernel import median_sigma, tiles
from continual.selection.relevance import exact_relevance, nystrom_relevance

N_ROWS, N_KEEP, WIDTH = 100_000, 1000, 64
N_DENSE = 20_000
LINEAR = (100_000, 1_000_000)


def latents(n_rows: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n_rows, WIDTH), np.float32)


def test_greedy_steps() -> None:
    Z, zeros = latents(N_ROWS), np.zeros(N_ROWS)
    relevance = np.random.default_rng(1).random(N_ROWS)
    column, out = np.ascontiguousarray(Z[0]), np.empty(N_ROWS, np.float32)

    def products() -> None:
        for _ in range(N_KEEP):
            np.matmul(Z, column, out=out)

    rows = [
        speed(
            f"{name} | products of the rows with a vector",
            *interleave(partial(greedy, Z, N_KEEP, 1.0, bonus, zeros), products),
            amount=N_KEEP,
            unit="steps/s",
            wanted=">= 0.667",
        )
        for name, bonus in (("k-center", zeros), ("HGR", relevance))
    ]
    report(f"Greedy steps over {N_ROWS:,} rows x {WIDTH}", rows)


def test_dense_greedy() -> None:
    Z, n_keep = latents(N_DENSE), N_DENSE // 100
    squares = np.einsum("ij,ij->i", Z, Z)

    def dense() -> list[int]:
        D = Z @ Z.T
        D *= -2
        D += squares[:, None]
        D += squares
        nearest, chosen = D[0].copy(), [0]
        for _ in range(1, n_keep):
            chosen.append(int(np.argmax(min_max(nearest))))
            np.minimum(nearest, D[chosen[-1]], out=nearest)
        return chosen

    sides = interleave(lambda: k_center(Z, n_keep), dense, rounds=3)
    row = speed("k-center | dense", *sides, amount=1, unit="runs/s", wanted=">= 10")
    report(f"k-center of {N_DENSE:,} rows against an n x n matrix", [row])


def k_center(Z: np.ndarray, n_keep: int) -> np.ndarray:
    first = np.zeros(len(Z))
    first[0] = 1
    return greedy(Z, n_keep, 1.0, np.zeros(len(Z)), first)[0]


def test_relevance() -> None:
    Z = latents(N_ROWS)
    sigma = median_sigma(Z, np.random.default_rng(0))

    def products() -> None:
        for _ in range(2):
            for left, right in tiles(N_ROWS):
                Z[left] @ Z[right].T

    with threadpool_limits(1):
        sides = interleave(lambda: exact_relevance(Z, sigma), products, rounds=1, warm_up=False)
    size = {"amount": N_ROWS**2 / 1e6, "unit": "M pairs/s"}
    row = speed("exact relevance | products of its tiles", *sides, **size, wanted=">= 0.4")
    report(f"Relevance of {N_ROWS:,} rows x {WIDTH}, one thread", [row])


def test_nystrom_is_linear() -> None:
    rng = np.random.default_rng(0)
    sides = [partial(nystrom_relevance, latents(n), 10.0, rng) for n in LINEAR]
    with threadpool_limits(1):
        small, large = interleave(*sides, rounds=2, warm_up=False)
    slope = np.log(np.median(large.wall) / np.median(small.wall)) / np.log(LINEAR[1] / LINEAR[0])
    texts = (f"{np.median(timing.wall):.2f} s" for timing in (large, small))
    row = Row("log-log slope, 10⁶ | 10⁵ rows", *texts, float(slope), "<= 1.1")
    report("Nyström relevance, one thread", [row])
