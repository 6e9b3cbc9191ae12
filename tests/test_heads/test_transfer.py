"""Train × test tables and the plots of a run."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from heads.evaluation.plots import plot_roc, plot_scores
from heads.evaluation.transfer import (
    _ink,
    as_matrix,
    plot_matrix,
    transfer_markdown,
    transfer_matrix,
)

EXACT = 1e-12  # the same sums in another order
GENERATORS = ("nearest", "shuffle", "transposed")


@pytest.fixture
def scores(rng) -> dict[str, pd.DataFrame]:
    """Scores of three heads, each best on the generator it was trained on."""
    kinds = np.repeat(["real", *GENERATORS], 40)
    frames = {}
    for trained in GENERATORS:
        gain = np.where(kinds == trained, 2.5, 0.8) * (kinds != "real")
        frames[trained] = pd.DataFrame(
            {
                "dataset": "demo",
                "split": "test",
                "generator": kinds,
                "label": (kinds != "real").astype(int),
                "pair": -1,
                "score": rng.normal(size=len(kinds)) + gain,
            }
        )
    return frames


def test_transfer_matrix__equals_scikit_learn_cell_by_cell(scores) -> None:
    matrix = as_matrix(transfer_matrix(scores, n_resamples=0))
    for trained, frame in scores.items():
        for tested in GENERATORS:
            rows = frame[frame["generator"].isin(["real", tested])]
            expected = roc_auc_score(rows["label"], rows["score"])
            assert matrix.loc[trained, tested] == pytest.approx(expected, abs=EXACT)


def test_transfer_matrix__by_dataset(scores) -> None:
    frames = {
        name: pd.concat([frame, frame.assign(dataset="other")]) for name, frame in scores.items()
    }
    transfer = transfer_matrix(frames, by=("dataset",), metric="accuracy@0.5", n_resamples=20)
    matrix = as_matrix(transfer)
    assert matrix.index.tolist() == list(GENERATORS)
    assert matrix.columns.tolist() == ["demo", "other"]
    np.testing.assert_array_equal(matrix["demo"], matrix["other"])


def test_transfer_matrix__same_generator_in_two_datasets_is_told_apart(scores) -> None:
    frames = {
        name: pd.concat([frame, frame.assign(dataset="other")]) for name, frame in scores.items()
    }
    tests = transfer_matrix(frames, n_resamples=0)["test"]
    assert set(tests) == {f"{d}/{g}" for d in ("demo", "other") for g in GENERATORS}


def test_transfer_matrix__unknown_metric_is_named(scores) -> None:
    with pytest.raises(ValueError, match="got 'auc'"):
        transfer_matrix(scores, metric="auc", n_resamples=0)


def test_transfer_markdown__has_n_and_intervals(scores) -> None:
    lines = transfer_markdown(transfer_matrix(scores, n_resamples=20)).splitlines()
    assert lines[0].startswith("| train \\ test (auroc) | nearest (n=40+40) |")
    assert len(lines) == 5
    assert lines[2].count("[") == 3


def drawn(path: Path) -> float:
    """Return the share of a picture that is not white."""
    with Image.open(path) as picture:
        return float((np.asarray(picture.convert("L")) < 250).mean())


def test_plots__are_drawn(scores, tmp_path: Path) -> None:
    plot_matrix(transfer_matrix(scores, n_resamples=20), tmp_path / "matrix.png")
    plot_roc(scores["nearest"], tmp_path / "roc.png")
    plot_scores(scores["nearest"], tmp_path / "scores.png")
    for name in ("matrix", "roc", "scores"):
        assert drawn(tmp_path / f"{name}.png") > 0.01


def test_plot_scores__fills_rows_of_panels(scores, tmp_path: Path) -> None:
    frame = scores["nearest"]
    five = pd.concat([frame.assign(dataset=f"d{i}") for i in range(5)])
    plot_scores(five, tmp_path / "five.png")
    plot_scores(five[five["dataset"] < "d4"], tmp_path / "four.png")
    with Image.open(tmp_path / "five.png") as two_rows, Image.open(tmp_path / "four.png") as one:
        assert two_rows.height == 2 * one.height


def test_plots__survive_a_missing_class(scores, tmp_path: Path) -> None:
    real = scores["nearest"][scores["nearest"]["label"] == 0]
    plot_roc(real, tmp_path / "roc.png")
    plot_scores(real, tmp_path / "scores.png")
    plot_matrix(transfer_matrix({"x": real}, by=("dataset",)), tmp_path / "matrix.png")
    assert drawn(tmp_path / "scores.png") > 0.01


@pytest.mark.parametrize(
    ("colour", "ink"),
    [
        ((0.0, 0.0, 0.0, 1.0), "white"),
        ((1.0, 1.0, 1.0, 1.0), "black"),
        ((0.0, 0.0, 1.0, 1.0), "white"),  # blue is dark, green of the same value is not
        ((0.0, 1.0, 0.0, 1.0), "black"),
        ((0.0, 0.0, 0.0, 0.0), "black"),  # a cell without a number is not painted
    ],
)
def test_ink__follows_the_luminance_of_the_cell(colour, ink) -> None:
    assert _ink(np.array(colour)) == ink
