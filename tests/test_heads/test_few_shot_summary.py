"""Intervals over episodes, choices of layers, tables and curves."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import stats

from heads.evaluation.thresholds import ORACLE
from heads.few_shot.choices import with_choices, with_means
from heads.few_shot.plots import plot_curves
from heads.few_shot.summary import (
    curve_table,
    few_shot_markdown,
    headline,
    mean_interval,
    summarise,
)

EXACT = 1e-12  # the same sums in another order
LAYERS = ["early", "middle", "late"]
SHOTS, HEADS, DATASETS = (5, 10), ("svm", "knn"), ("a", "b")


@pytest.fixture
def episodes(rng) -> pd.DataFrame:
    """Results of six episodes, in which every layer is sometimes best."""
    records = [
        {
            "shots": shots,
            "head": head,
            "episode": episode,
            "seed": 42 + episode,
            "layer": layer,
            "dataset": dataset,
            "n_real": 10,
            "n_fake": 20,
            "auroc": rng.uniform(),
            "average_precision": rng.uniform(),
            "accuracy@0.5": rng.uniform(),
        }
        for shots in SHOTS
        for head in HEADS
        for episode in range(6)
        for layer in LAYERS
        for dataset in DATASETS
    ]
    table = pd.DataFrame(records)
    of_head = table.groupby(["shots", "head", "episode", "layer"])["auroc"]
    return table.assign(val_auroc=of_head.transform(lambda values: rng.uniform()))


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=50).filter(lambda v: len(set(v)) > 1))
def test_mean_interval__equals_scipy(thousandths: list[int]) -> None:
    values = np.array(thousandths) / 1000
    mean, std, low, high = mean_interval(values)
    assert mean == pytest.approx(np.mean(values), abs=EXACT)
    assert std == pytest.approx(stats.tstd(values), abs=EXACT)
    expected = stats.t.interval(0.95, len(values) - 1, mean, stats.sem(values))
    assert (low, high) == pytest.approx(expected, abs=EXACT)


def test_mean_interval__covers_the_mean_in_95_percent_of_studies(rng) -> None:
    studies = rng.normal(0.8, 0.05, (2000, 10))
    bounds = np.array([mean_interval(values)[2:] for values in studies])
    covered = np.mean((bounds[:, 0] < 0.8) & (bounds[:, 1] > 0.8))
    assert covered == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / 2000))


def test_mean_interval__one_episode_has_none() -> None:
    mean, *rest = mean_interval(np.array([0.7]))
    assert mean == 0.7
    assert np.isnan(rest).all()


def test_summarise__equals_a_loop(episodes) -> None:
    summary = summarise(with_choices(with_means(episodes), LAYERS, "auroc", "val"))
    row = summary.set_index(["dataset", "head", "choice", "shots"]).loc[("b", "knn", "late", 10)]
    own = episodes.query("dataset == 'b' and head == 'knn' and layer == 'late' and shots == 10")
    assert row["n_episodes"] == 6
    assert row["average_precision"] == pytest.approx(own["average_precision"].mean(), abs=EXACT)
    assert row["auroc_std"] == pytest.approx(own["auroc"].std(), abs=EXACT)


def test_with_means__average_the_datasets_of_an_episode(episodes) -> None:
    table = with_means(episodes)
    means = table[table["dataset"] == "MEAN"]
    expected = episodes.groupby(["shots", "head", "episode", "layer"])["auroc"].mean()
    found = means.set_index(["shots", "head", "episode", "layer"])["auroc"]
    pd.testing.assert_series_equal(found.sort_index(), expected.sort_index())
    assert set(means["n_fake"]) == {40}


@pytest.mark.parametrize(("choice", "by"), [("val", "val_auroc"), (ORACLE, "auroc")])
def test_with_choices__best_layer_of_each_episode(episodes, choice: str, by: str) -> None:
    chosen = with_choices(with_means(episodes), LAYERS, "auroc", "oracle")
    own = chosen[(chosen["choice"] == choice) & (chosen["dataset"] == "a")]
    assert len(own) == len(SHOTS) * len(HEADS) * 6
    for row in own.itertuples():
        rivals = episodes.query(
            f"shots == {row.shots} and head == '{row.head}' and episode == {row.episode}"
        )
        quality = rivals.groupby("layer")[by].mean()
        assert row.layer == quality.idxmax()


def test_with_choices__val_never_looks_at_the_query(episodes) -> None:
    """Any change of the numbers of the query leaves the chosen layers as they are."""
    spoiled = episodes.assign(auroc=1 - episodes["auroc"])
    keys = ["shots", "head", "episode", "dataset", "layer"]
    layers = [
        with_choices(with_means(table), LAYERS, "auroc", "val").query("choice == 'val'")[keys]
        for table in (episodes, spoiled)
    ]
    pd.testing.assert_frame_equal(*layers)


def test_with_choices__first_of_equal_layers(episodes) -> None:
    tied = with_means(episodes.assign(val_auroc=0.5))
    chosen = with_choices(tied, LAYERS, "auroc", "val").query("choice == 'val'")
    assert set(chosen["layer"]) == {"early"}


def test_with_choices__no_oracle_unless_asked_for(episodes) -> None:
    assert ORACLE not in set(with_choices(episodes, LAYERS, "auroc", "val")["choice"])


def test_with_choices__one_layer_is_not_chosen(episodes) -> None:
    late = episodes[episodes["layer"] == "late"]
    assert set(with_choices(late, ["late"], "auroc", "oracle")["choice"]) == {"late"}


def test_headline__chosen_layers_or_all(episodes) -> None:
    table = with_means(episodes)
    chosen = summarise(with_choices(table, LAYERS, "auroc", "oracle"))
    assert set(headline(chosen)["choice"]) == {"val", ORACLE}
    fixed = summarise(with_choices(table.drop(columns="val_auroc"), LAYERS, "auroc", "val"))
    assert set(headline(fixed)["choice"]) == set(LAYERS)


def test_curve_table__a_column_for_each_number_of_shots(episodes) -> None:
    summary = summarise(with_choices(with_means(episodes), LAYERS, "auroc", "oracle"))
    table = curve_table(headline(summary), "auroc")
    assert list(table) == ["dataset", "head", "choice", "5 shots", "10 shots"]
    assert list(table["dataset"].unique()) == ["a", "b", "MEAN"]
    row = summary.query("dataset == 'b' and head == 'knn' and choice == 'val' and shots == 10")
    shown = table.query("dataset == 'b' and head == 'knn' and choice == 'val'")["10 shots"].item()
    assert shown.startswith(f"{row['auroc'].item():.3f} ± {row['auroc_std'].item():.3f} [")


def test_few_shot_markdown__marks_the_oracle(episodes) -> None:
    summary = summarise(with_choices(with_means(episodes), LAYERS, "auroc", "oracle"))
    text = few_shot_markdown(headline(summary), "auroc")
    assert text.count(f"| {ORACLE} |") == 3 * len(HEADS)
    assert len({line.count("|") for line in text.splitlines()}) == 1


def test_plot_curves__draws_a_panel_for_each_dataset(episodes, tmp_path: Path) -> None:
    table = with_choices(with_means(episodes), LAYERS, "auroc", "oracle")
    summary = headline(summarise(table))
    for name, rows in (("three", summary), ("one", summary[summary["dataset"] == "a"])):
        plot_curves(table, rows, "auroc", "class", tmp_path / f"{name}.png")
    with Image.open(tmp_path / "three.png") as three, Image.open(tmp_path / "one.png") as one:
        assert three.width > 2.5 * one.width
        assert (np.asarray(one.convert("L")) < 250).mean() > 0.01
