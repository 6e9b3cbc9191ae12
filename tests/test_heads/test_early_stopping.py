"""The schedule of learning rates, epoch by epoch, against the original implementation.

``tests/data/stay_positive.npz`` holds what the public training code of Stay-Positive did
(AlignedForensics at commit e4cc011): its early stopping for two patiences on one list of scores, a
row per epoch with epoch, score, rate, saved, dropped, stopped, best and countdown; and which
lowered rates let it go on.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heads.stay_positive.early_stopping import EarlyStopping


@pytest.fixture(scope="module")
def vectors() -> Any:
    with np.load(Path(__file__).parents[1] / "data" / "stay_positive.npz") as file:
        return dict(file)


@pytest.mark.parametrize("patience", [5, 10])
def test_early_stopping__follows_the_original_epoch_by_epoch(vectors: Any, patience: int) -> None:
    trace = vectors[f"c_pat{patience}_trace"]
    _, before, first_rate = trace[0, :3]
    stopping = EarlyStopping(before, first_rate, patience)
    for epoch, score, rate, *verdict, best, countdown in trace[1:]:
        assert (stopping.rate, stopping.stopped) == (rate, False), epoch
        assert stopping.judge(score) == tuple(map(bool, verdict)), epoch
        assert (stopping.best, stopping.countdown) == (best, countdown), epoch
    assert stopping.stopped == bool(trace[-1, 5])


def test_early_stopping__lowers_the_rate_as_the_original_does(vectors: Any) -> None:
    stopping = EarlyStopping(best=1.0, rate=1e-4, patience=1)
    for rate, goes_on in vectors["c_lr_seq"]:
        verdict = stopping.judge(0.0)
        assert stopping.rate == rate
        assert (verdict.dropped, verdict.stopped) == (bool(goes_on), not goes_on)


def test_early_stopping__an_improvement_of_a_thousandth_is_none() -> None:
    stopping = EarlyStopping(best=0.5, rate=1e-4, patience=5)
    assert not stopping.judge(0.501).saved
    assert stopping.judge(0.50101).saved
