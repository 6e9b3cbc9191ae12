"""Tables of results: which rows, which numbers, which intervals."""

import re
from math import erf

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from heads.evaluation import metrics
from heads.evaluation.bootstrap import bootstrap_intervals
from heads.evaluation.resampling import common_groups
from heads.evaluation.table_text import as_markdown, as_rich, as_text, cell
from heads.evaluation.tables import metric_table

EXACT = 1e-12  # the same sums in another order
THRESHOLDS = {"0.5": 0.0, "val": 0.3}


def make_scores(rng, layout) -> pd.DataFrame:
    """Return scores for ``{dataset: {generator: n}}``."""
    parts = []
    for dataset, generators in layout.items():
        for number, (generator, n) in enumerate(generators.items()):
            label = int(generator != "real")
            parts.append(
                pd.DataFrame(
                    {
                        "dataset": dataset,
                        "split": "test",
                        "generator": generator,
                        "label": label,
                        "pair": -1,
                        "score": rng.normal(size=n) + label * (0.5 + number),
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


@pytest.fixture
def scores(rng) -> pd.DataFrame:
    return make_scores(
        rng, {"a": {"real": 40, "sd": 30, "flux": 20}, "b": {"real": 25, "midjourney": 25}}
    )


def row_of(table: pd.DataFrame, dataset: str, generator: str) -> pd.Series:
    return table[(table["dataset"] == dataset) & (table["generator"] == generator)].iloc[0]


def test_metric_table__has_datasets_generators_and_means(scores) -> None:
    table = metric_table(scores, THRESHOLDS, n_resamples=0)
    assert table[["dataset", "generator", "n_real", "n_fake"]].to_numpy().tolist() == [
        ["a", "all", 40, 50],
        ["a", "flux", 40, 20],
        ["a", "sd", 40, 30],
        ["b", "midjourney", 25, 25],
        ["MEAN", "2 datasets", 65, 75],
        ["MEAN", "3 generators", 65, 75],
    ]


def test_metric_table__each_generator_meets_all_real_images_of_its_dataset(scores) -> None:
    row = row_of(metric_table(scores, THRESHOLDS, n_resamples=0), "a", "sd")
    rows = scores[(scores["dataset"] == "a") & scores["generator"].isin(["real", "sd"])]
    values, labels = rows["score"].to_numpy(), rows["label"].to_numpy()
    for name, metric in metrics.RANKING_METRICS.items():
        assert row[name] == pytest.approx(metric(values, labels), abs=EXACT)
    for name, metric in metrics.THRESHOLD_METRICS.items():
        assert row[f"{name}@val"] == pytest.approx(metric(values, labels, 0.3), abs=EXACT)


def test_metric_table__means_are_unweighted(scores) -> None:
    table = metric_table(scores, THRESHOLDS, n_resamples=0)
    expected = np.mean(
        [row_of(table, "a", "all")["auroc"], row_of(table, "b", "midjourney")["auroc"]]
    )
    assert row_of(table, "MEAN", "2 datasets")["auroc"] == pytest.approx(expected, abs=EXACT)
    singles = table[table["generator"].isin(["sd", "flux", "midjourney"])]
    mean = row_of(table, "MEAN", "3 generators")
    assert mean["auroc"] == pytest.approx(singles["auroc"].mean(), abs=EXACT)


def test_metric_table__intervals_are_those_of_the_bootstrap(scores) -> None:
    one = scores[scores["dataset"] == "b"]
    row = metric_table(one, THRESHOLDS, n_resamples=200, rng=5).iloc[0]
    expected = bootstrap_intervals(
        one["score"].to_numpy(), one["label"].to_numpy(), THRESHOLDS, n_resamples=200, rng=5
    )
    assert {n: (row[f"{n}_low"], row[f"{n}_high"]) for n in expected} == expected


def test_metric_table__mean_over_generators_knows_their_common_real_images(rng) -> None:
    # With 12 real and 3 x 400 fake images nearly all noise is the real images', common to the rows.
    layout = {"a": {"real": 12, "x": 400, "y": 400, "z": 400}}
    scores = make_scores(rng, layout)
    scores.loc[scores["label"] == 1, "score"] = rng.normal(size=1200) + 1
    table = metric_table(scores, {}, n_resamples=300)
    width = table["auroc_high"] - table["auroc_low"]
    single = width[table["generator"].isin(["x", "y", "z"])].mean()
    mean = width[table["generator"] == "all"].iloc[0]
    assert mean > 0.85 * single  # were the rows independent it would be 0.58 of it


def test_metric_table__without_generators_one_row_per_dataset(scores) -> None:
    table = metric_table(scores, {}, by=("dataset",), n_resamples=0)
    assert table["generator"].tolist() == ["all", "all", "2 datasets"]


@pytest.mark.parametrize(("kept", "reason"), [(0, "no fake images"), (1, "no real images")])
def test_metric_table__missing_class_is_a_reason_not_a_crash(scores, kept, reason) -> None:
    lacking = (scores["dataset"] == "a") | (scores["label"] == kept)
    table = metric_table(scores[lacking], THRESHOLDS, n_resamples=20, selection="oracle")
    row = table[table["dataset"] == "b"].iloc[0]
    assert row["reason"] == reason
    assert np.isnan([row["auroc"], row["auroc_low"], row["balanced_accuracy@0.5"]]).all()
    assert np.isfinite([row["accuracy@0.5"], row["accuracy@0.5_low"]]).all()
    mean = row_of(table, "MEAN", "2 datasets")
    assert mean["auroc"] == pytest.approx(row_of(table, "a", "all")["auroc"], abs=EXACT)
    assert mean["reason"] == "1 of 2 rows lack a class"


def test_metric_table__oracle_only_when_asked_for(scores) -> None:
    honest = metric_table(scores, THRESHOLDS, n_resamples=0)
    assert not [name for name in honest if "ORACLE" in name]
    table = metric_table(scores, THRESHOLDS, n_resamples=0, selection="oracle")
    best = table["balanced_accuracy@ORACLE"]
    assert (best >= table["balanced_accuracy@val"] - EXACT).all()
    pd.testing.assert_frame_equal(table[honest.columns], honest)


def test_metric_table__refuses_rows_of_two_splits(scores) -> None:
    scores.loc[0, "split"] = "val"
    with pytest.raises(ValueError, match=r"one split, got \['test', 'val'\]"):
        metric_table(scores, {})


def test_metric_table__same_seed_same_table(scores) -> None:
    pd.testing.assert_frame_equal(
        metric_table(scores, THRESHOLDS, n_resamples=50, rng=3),
        metric_table(scores, THRESHOLDS, n_resamples=50, rng=3),
    )


def test_as_markdown__shows_estimates_with_intervals(scores) -> None:
    lines = as_markdown(metric_table(scores, THRESHOLDS, n_resamples=50), ["auroc"]).splitlines()
    assert lines[0] == "| dataset | generator | n_real | n_fake | auroc |"
    assert lines[1] == "| --- | --- | ---: | ---: | ---: |"
    assert lines[2].startswith("| a | all | 40 | 50 | 0.")
    assert lines[2].endswith("] |")


def test_as_markdown__undefined_is_a_dash_with_its_reason(scores) -> None:
    real = scores[scores["label"] == 0]
    lines = as_markdown(metric_table(real, {}, n_resamples=0), ["auroc"]).splitlines()
    assert lines[2] == "| a | all | 40 | 0 | – | no fake images |"


def test_as_rich__prints_every_row(scores) -> None:
    console = Console(width=200, record=True, file=None, quiet=False, force_terminal=False)
    with console.capture() as captured:
        console.print(as_rich(metric_table(scores, THRESHOLDS, n_resamples=20), title="results"))
    text = captured.get()
    for word in ("results", "midjourney", "3 generators", "accuracy@val", "average_precision"):
        assert word in text


def sharing(rng, n_datasets: int, n_real: int, n_fake: int) -> pd.DataFrame:
    """Return datasets that show the same real images, with fakes of their own."""
    layout = {f"d{i}": {"real": n_real, f"g{i}": n_fake} for i in range(n_datasets)}
    scores = make_scores(rng, layout)
    real, place = scores["label"] == 0, scores.groupby(["dataset", "label"]).cumcount()
    common = rng.normal(size=n_real)
    scores.loc[real, "score"] = common[place[real]]
    own = scores["dataset"] + "/" + place.astype(str)
    return scores.assign(sample_id=np.where(real, "real/" + place.astype(str), own))


def test_metric_table__mean_over_datasets_covers_with_shared_real_images() -> None:
    # real ~ N(0, 1), fake ~ N(1.5, 1): AUROC = Phi(1.5 / sqrt(2)) in every dataset.
    truth, n_trials, hits = (1 + erf(0.75)) / 2, 100, 0
    rng = np.random.default_rng(7)
    for _ in range(n_trials):
        scores = sharing(rng, 8, 40, 40)
        row = metric_table(scores, {}, by=("dataset",), n_resamples=100, rng=rng).iloc[-1]
        hits += row["auroc_low"] <= truth <= row["auroc_high"]
    # 95 % nominal, a standard error of 2-3 %; drawn anew for each dataset: about 60 %.
    assert hits / n_trials >= 0.86


def test_metric_table__mean_counts_shared_images_once(rng) -> None:
    mean = metric_table(sharing(rng, 3, 10, 5), {}, n_resamples=0).iloc[-1]
    assert (mean["dataset"], mean["n_real"], mean["n_fake"]) == ("MEAN", 10, 15)


def test_metric_table__copies_of_a_dataset_have_the_interval_of_one(rng) -> None:
    scores = sharing(rng, 1, 20, 20)
    scores["sample_id"] = np.arange(len(scores)).astype(str)
    both = pd.concat([scores, scores.assign(dataset="copy")], ignore_index=True)
    table = metric_table(both, {}, by=("dataset",), n_resamples=50)
    bounds = table[["auroc", "auroc_low", "auroc_high"]].to_numpy()
    np.testing.assert_allclose(bounds, np.broadcast_to(bounds[0], bounds.shape), rtol=0, atol=EXACT)


def test_common_groups__images_connect_pairs_across_datasets() -> None:
    frame = pd.DataFrame(
        {
            "dataset": ["a", "a", "b", "b", "b"],
            "pair": [0, 0, 5, 5, -1],
            "sample_id": ["r", "f", "r", "g", "h"],
        }
    )
    assert common_groups(frame).tolist() == [0, 0, 0, 0, 1]


def test_common_groups__equal_pair_codes_of_two_datasets_are_two_pairs() -> None:
    frame = pd.DataFrame({"dataset": list("aabb"), "pair": 3})
    assert common_groups(frame).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(("label", "word"), [(0, "real"), (1, "fake")])
def test_metric_table__single_image_of_a_class_has_no_interval(scores, label, word) -> None:
    of_b = scores["dataset"] == "b"
    rows = scores[
        of_b & (scores["label"] != label)
        | (scores.index == scores.index[of_b & (scores["label"] == label)][0])
    ]
    row = metric_table(rows, THRESHOLDS, n_resamples=50).iloc[0]
    assert np.isfinite(row["auroc"])
    assert np.isnan([row["auroc_low"], row["accuracy@0.5_high"]]).all()
    assert row["reason"] == f"no interval: too few {word} images to resample"


def test_metric_table__too_few_resamples_are_a_reason(scores) -> None:
    table = metric_table(scores, {}, n_resamples=19)
    assert table["auroc_low"].isna().all()
    assert table["reason"].str.startswith("no interval").all()
    assert table["reason"][0] == "no interval: 19 resamples, at least 20 are needed"


@pytest.mark.parametrize(("column", "name"), [("dataset", "MEAN"), ("generator", "all")])
def test_metric_table__refuses_names_of_its_own_rows(scores, column, name) -> None:
    scores.loc[scores["label"] == 1, column] = name
    with pytest.raises(ValueError, match=f"no {column} may be called '{name}'"):
        metric_table(scores, {})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.99, "0.99 [0.95, 0.99]"),
        (0.9946, "0.995 [0.950, 0.999]"),
        (0.9987, "0.999 [0.950, 0.999]"),
    ],
)
def test_cell__near_one_has_three_decimals(value, text) -> None:
    low, high = (0.95, 0.994) if value == 0.99 else (0.95, 0.9991)
    assert cell({"auroc": value, "auroc_low": low, "auroc_high": high}, "auroc") == text


@pytest.mark.parametrize("width", [72, 80, 100, 120, 160])
def test_as_rich__fits_the_terminal_and_shows_everything(rng, width) -> None:
    generator = "a generator with a name that is as long as some are"
    scores = make_scores(rng, {"portraits_of_people": {"real": 9, generator: 9, "b": 9}})
    console = Console(width=1000)
    with console.capture() as captured:
        console.print(as_rich(metric_table(scores, THRESHOLDS, n_resamples=20), width=width))
    text = captured.get()
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert all(word in text for word in ["portraits", *generator.split()])
    intervals = re.findall(r"\d\.\d+(?:, |–)\d\.\d+", text)
    assert len(intervals) == 4 * 4


def test_as_text__without_a_terminal_a_row_is_a_line(scores) -> None:
    table = metric_table(scores, THRESHOLDS, n_resamples=20)
    lines = as_text(table).splitlines()
    assert len(lines) == len(table) + 2
    assert lines == [line.rstrip() for line in lines]
