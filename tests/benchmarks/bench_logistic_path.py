"""A path of ten C on every layer through `heads.fit_many` against scikit-learn's fits one by one.

Features are correlated, with a few far from zero, as those of a ViT. scikit-learn's are in memory
already, ours are read from the store. Of its fits only a sample is run, spread over layers and C;
its time is scaled to all of them. Its default tolerance (1e-4) and number of iterations (100) do
not reach the optimum: the row that is judged asks it for the same optimum, `tol` 1e-8.
"""

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.feature_stores import write_store
from benchmarks.paired import Timing, interleave, report, speed
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

import heads

N_ROWS, N_LAYERS, WIDTH = 8192, 12, 256
PATH = np.logspace(-4, 2, 10)
SAMPLED = [(layer, C) for layer in (0, N_LAYERS - 1) for C in PATH[1::4]]
SAME_OPTIMUM = 1e-4
EXACT = {"tol": 1e-8, "max_iter": 10_000}
SOLVERS: dict[str, tuple[dict[str, Any], str]] = {
    "lbfgs, tol 1e-8": (EXACT, ">= 3"),
    "newton-cholesky, tol 1e-8": ({"solver": "newton-cholesky", **EXACT}, ""),
    "lbfgs, default tol (another point)": ({}, ""),
}


@pytest.fixture(scope="module")
def ds() -> Iterator[Any]:
    with tempfile.TemporaryDirectory() as folder:
        store = write_store(
            Path(folder) / "s.zarr", n_rows=N_ROWS, n_layers=N_LAYERS, width=WIDTH, vit_like=True
        )
        yield store.select()


def ours(ds: Any) -> list[heads.LogisticProbe]:
    probes = [heads.LogisticProbe(C=C) for _ in range(N_LAYERS) for C in PATH]
    layers = [f"block.{layer}" for layer in range(N_LAYERS) for _ in PATH]
    return heads.fit_many(probes, ds, layers=layers)


def scikit_learn(X: Any, y: Any, options: dict[str, Any]) -> list[LogisticRegression]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return [LogisticRegression(C=C, **options).fit(X[:, at], y) for at, C in SAMPLED]


def test_path_ends_at_the_optimum_of_scikit_learn(ds: Any) -> None:
    probes = dict(zip([(at, C) for at in range(N_LAYERS) for C in PATH], ours(ds), strict=True))
    X, y = ds["cls"].values.astype(np.float64), ds["label"].values
    newton = {"solver": "newton-cholesky", **EXACT}
    for point, expected in zip(SAMPLED, scikit_learn(X, y, newton), strict=True):
        np.testing.assert_allclose(probes[point].coef_, expected.coef_, atol=SAME_OPTIMUM)
        np.testing.assert_allclose(probes[point].intercept_, expected.intercept_, atol=SAME_OPTIMUM)


def test_path_of_c_on_all_layers(ds: Any) -> None:
    X, y = ds["cls"].values.astype(np.float64), ds["label"].values
    n_fits = N_LAYERS * len(PATH)
    scale = n_fits / len(SAMPLED)
    path, *others = interleave(
        lambda: ours(ds),
        *[lambda own=own: scikit_learn(X, y, own) for own, _ in SOLVERS.values()],
        rounds=2,
        warm_up=False,
    )
    rows = []
    for (name, (_, wanted)), sample in zip(SOLVERS.items(), others, strict=True):
        scaled = Timing(*([seconds * scale for seconds in clock] for clock in sample))
        title = f"fit_many | {n_fits} x {name} (scaled from {len(SAMPLED)})"
        rows.append(speed(title, path, scaled, amount=n_fits, unit="fits/s", wanted=wanted))
    report(f"LogisticProbe: {len(PATH)} C x {N_LAYERS} layers, {N_ROWS:,} x {WIDTH}", rows)
