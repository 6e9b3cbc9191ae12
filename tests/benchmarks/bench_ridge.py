"""RidgeProbe on all layers of a store at once against one scikit-learn fit per layer and penalty.

scikit-learn is timed on rows that are in memory already, as float64, for a sample of the layers;
our times include reading them from the store. Both solve to the same coefficients.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.feature_stores import write_store
from benchmarks.paired import Timing, interleave, report, speed
from sklearn.linear_model import Ridge, RidgeCV

import heads
from heads.closed_form.ridge import RidgeProbe

N_ROWS, N_LAYERS, WIDTH = 16384, 25, 256
ALPHAS = np.logspace(-2, 5, 100)
SAMPLED_LAYER, SAMPLED_ALPHAS = 12, ALPHAS[10::20]
SAME_SOLUTION = 1e-9  # of the largest weight
NAMES = [f"block.{number}" for number in range(N_LAYERS)]


@pytest.fixture(scope="module")
def ds() -> Iterator[Any]:
    with tempfile.TemporaryDirectory() as folder:
        store = write_store(Path(folder) / "s.zarr", n_rows=N_ROWS, n_layers=N_LAYERS, width=WIDTH)
        yield store.select()


@pytest.fixture(scope="module")
def rows(ds: Any) -> tuple[Any, Any]:
    layer = ds["cls"].isel(layer=SAMPLED_LAYER).values
    return layer.astype(np.float64), 2.0 * ds["label"].values - 1


def probes(alphas: Any = ALPHAS, **options: Any) -> list[RidgeProbe]:
    return [RidgeProbe(alpha=alphas.tolist(), **options) for _ in range(N_LAYERS)]


def test_layers_of_one_reading_have_scikit_learns_coefficients(ds: Any, rows: Any) -> None:
    fitted = heads.fit_many(probes(SAMPLED_ALPHAS), ds, layers=NAMES)[SAMPLED_LAYER]
    expected = RidgeCV(alphas=SAMPLED_ALPHAS).fit(*rows)
    assert fitted.alpha_ == expected.alpha_
    assert fitted.loo_error_.min() == pytest.approx(-expected.best_score_, rel=1e-9)
    atol = SAME_SOLUTION * np.abs(expected.coef_).max()
    np.testing.assert_allclose(fitted.coef_[0], expected.coef_, rtol=0, atol=atol)


def test_one_reading_of_all_layers_and_penalties(ds: Any, rows: Any) -> None:
    n_fits = N_LAYERS * len(ALPHAS)
    ours, sample = interleave(
        lambda: heads.fit_many(probes(selection="gcv"), ds, layers=NAMES),
        lambda: [Ridge(alpha=alpha).fit(*rows) for alpha in SAMPLED_ALPHAS],
        rounds=3,
    )
    left_out, searched = interleave(
        lambda: heads.fit_many(probes(), ds, layers=NAMES),
        lambda: RidgeCV(alphas=ALPHAS).fit(*rows),
        rounds=2,
        warm_up=False,
    )
    report(
        f"Ridge probes on {N_LAYERS} layers x {len(ALPHAS)} penalties, "
        f"{N_ROWS:,} rows x {WIDTH:,} features",
        [
            speed(
                f"fit_many, one pass | Ridge (scaled from {len(SAMPLED_ALPHAS)} fits)",
                ours,
                _scaled(sample, n_fits / len(SAMPLED_ALPHAS)),
                amount=n_fits,
                unit="fits/s",
                wanted=">= 50",
            ),
            speed(
                "fit_many, leave-one-out | RidgeCV (scaled from one layer)",
                left_out,
                _scaled(searched, N_LAYERS),
                amount=N_LAYERS,
                unit="layers/s",
                wanted=">= 2",
            ),
        ],
    )


def _scaled(timing: Timing, factor: float) -> Timing:
    return Timing(*([seconds * factor for seconds in clock] for clock in timing))
