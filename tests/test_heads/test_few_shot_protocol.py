"""Few-shot studies from configuration to folder, on simulated stores."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

import featstore
from featstore.config import load_config
from featstore.errors import ConfigError, StoreExistsError
from featstore.simulate import simulate_store
from heads import LogisticProbe
from heads.evaluation.roles import identities, splits_of
from heads.evaluation.thresholds import ORACLE
from heads.experiments.config import HeadConfig, RowsConfig
from heads.few_shot import FewShotConfig, planning, run_few_shot, running, writing

SAME_OPTIMUM = 1e-3  # AUROC of two solvers of one convex problem
LINEAR = {"linear": HeadConfig("logistic_probe")}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("few-shot") / "s.zarr"
    simulate_store(path, n_samples=60, n_features=8)
    return path


@pytest.fixture(autouse=True)
def without_plots(monkeypatch) -> None:
    """Draw nothing: the curves have tests of their own."""
    monkeypatch.setattr(writing, "plot_curves", lambda *arguments: None)


@pytest.fixture
def config(store: Path, tmp_path: Path) -> FewShotConfig:
    return FewShotConfig(
        store=str(store),
        heads=LINEAR,
        query=RowsConfig("test", "a"),
        val=RowsConfig("val", "a"),
        output=str(tmp_path / "run"),
        shots=[2, 5],
        episodes=4,
    )


def rows_of(config: FewShotConfig, layer: str, **rows) -> pd.DataFrame:
    """Return one layer of some rows, with what is known of them."""
    ds = featstore.open(config.store).select(layer=layer, **rows)
    known = {name: ds[name].values for name in ("sample_id", "label", "generator", "pair")}
    return pd.DataFrame(known).assign(x=list(ds["cls"].values[:, 0].astype(np.float64)))


def test_run_few_shot__equals_the_steps_by_hand(config: FewShotConfig) -> None:
    """Support from the table of images drawn; query all rows that share no image and no pair."""
    study = run_few_shot(config)
    rows = rows_of(config, "block.1", split="test", dataset="a")
    drawn = study.support.query("episode == 2 and order < 5")["sample_id"]
    support = rows[rows["sample_id"].isin(drawn)]
    query = rows[~rows["pair"].isin(support["pair"])]
    model = LogisticRegression(tol=1e-8, max_iter=1000).fit([*support["x"]], support["label"])
    expected = roc_auc_score(query["label"], model.decision_function([*query["x"]]))
    (row,) = study.episodes.query(
        "episode == 2 and shots == 5 and choice == 'block.1'"
    ).itertuples()
    assert row.auroc == pytest.approx(expected, abs=SAME_OPTIMUM)
    assert (row.n_real, row.n_fake) == ((query["label"] == 0).sum(), (query["label"] == 1).sum())


def test_run_few_shot__support_of_other_rows(config: FewShotConfig) -> None:
    study = run_few_shot(replace(config, support=RowsConfig("train", "b")))
    train = rows_of(config, "block.0", split="train", dataset="b")
    assert study.support["sample_id"].isin(train["sample_id"]).all()
    assert set(study.episodes["n_real"]) == {30}


def test_run_few_shot__support_that_is_part_of_the_query(config: FewShotConfig) -> None:
    """Of dataset a the drawn pairs are left out; of dataset b nothing."""
    config = replace(config, support=RowsConfig("test", "a"), query=RowsConfig("test"))
    study = run_few_shot(config)
    rows = rows_of(config, "block.0", split="test", dataset="a").set_index("sample_id")
    for episode, drawn in study.support.query("order < 2").groupby("episode"):
        n_pairs = rows.loc[drawn["sample_id"], "pair"].nunique()
        own = study.episodes.query(f"episode == {episode} and shots == 2")
        for dataset, n_rows in (("a", 60 - 2 * n_pairs), ("b", 60)):
            of_dataset = own[own["dataset"] == dataset]
            assert set(of_dataset["n_real"] + of_dataset["n_fake"]) == {n_rows}


def test_run_few_shot__shots_per_generator(config: FewShotConfig) -> None:
    both = replace(config, query=RowsConfig("test"), val=None, per="generator")
    study = run_few_shot(both)
    drawn = study.support.query("order < 2").groupby(["episode", "group"])["sample_id"].nunique()
    assert drawn.unstack().to_dict("list") == {name: [2] * 4 for name in ("a", "b", "real")}
    assert set(study.episodes["dataset"]) == {"a", "b", "MEAN"}


def test_run_few_shot__all_layers_together(config: FewShotConfig) -> None:
    (layer,) = set(run_few_shot(replace(config, each_layer=False)).episodes["layer"])
    assert layer == planning.TOGETHER


@pytest.mark.parametrize("layer", ["block.2", ["block.2", "block.0"]])
def test_run_few_shot__chosen_layers_have_the_numbers_they_have_among_all(
    config: FewShotConfig, layer
) -> None:
    few = run_few_shot(replace(config, layer=layer, val=None, output=f"{config.output}-few"))
    all_layers = run_few_shot(replace(config, val=None))
    shared = all_layers.episodes[all_layers.episodes["layer"].isin([*few.episodes["layer"]])]
    key = ["layer", "shots", "episode"]
    pd.testing.assert_frame_equal(
        few.episodes.sort_values(key, ignore_index=True),
        shared.sort_values(key, ignore_index=True),
    )


@pytest.mark.usefixtures("fresh_workers")
def test_run_few_shot__same_numbers_whatever_the_processes_and_the_memory(
    config: FewShotConfig, monkeypatch
) -> None:
    single = run_few_shot(config)
    parallel = run_few_shot(replace(config, n_jobs=2, output=f"{config.output}-2"))
    monkeypatch.setattr(running, "EPISODES_AT_ONCE", 1)
    pieces = run_few_shot(replace(config, output=f"{config.output}-3"))
    key = ["layer", "choice", "shots", "episode"]
    for study in (parallel, pieces):
        pd.testing.assert_frame_equal(
            *(s.episodes.sort_values(key, ignore_index=True) for s in (single, study)),
            check_exact=True,
        )
        pd.testing.assert_frame_equal(study.support, single.support)


def test_run_few_shot__other_seeds_draw_other_images(config: FewShotConfig) -> None:
    first = run_few_shot(config)
    second = run_few_shot(replace(config, seed=43, output=f"{config.output}-2"))
    moved = first.support.query("seed >= 43").reset_index(drop=True)
    again = second.support.query("seed <= 45").reset_index(drop=True)
    pd.testing.assert_frame_equal(moved.drop(columns="episode"), again.drop(columns="episode"))
    sets = first.support.groupby("episode")["sample_id"].agg(frozenset)
    assert sets.nunique() == 4


def test_run_few_shot__heads_have_the_seed_of_their_episode(config, monkeypatch) -> None:
    make_heads, seeds = running.make_heads, []

    def spy(head, points, seed):
        seeds.append(seed)
        return make_heads(head, points, seed)

    monkeypatch.setattr(running, "make_heads", spy)
    run_few_shot(replace(config, layer="block.0", shots=[2]))
    assert seeds == [42, 43, 44, 45]


def test_run_few_shot__the_layer_does_not_depend_on_query_labels(
    config: FewShotConfig, monkeypatch
) -> None:
    config = replace(config, support=RowsConfig("train", "a"), selection="oracle")
    straight = run_few_shot(config)
    select_roles = planning.select_roles

    def flipped(config):
        rows = select_roles(config)
        ds = rows["query"].features
        ds = ds.assign_coords(label=("sample", 1 - ds["label"].values))
        return {**rows, "query": rows["query"]._replace(features=ds)}

    monkeypatch.setattr("heads.few_shot.protocol.select_roles", flipped)
    upside_down = run_few_shot(replace(config, output=f"{config.output}-flipped"))
    layers = {
        choice: [
            study.episodes[study.episodes["choice"] == choice]
            .sort_values(["shots", "episode"])[["layer", "threshold"]]
            .to_numpy()
            .tolist()
            for study in (straight, upside_down)
        ]
        for choice in ("val", ORACLE)
    }
    assert layers["val"][0] == layers["val"][1]
    assert layers[ORACLE][0] != layers[ORACLE][1]  # the flip was seen by what may see it


def test_run_few_shot__oracle_is_marked_in_every_output(config: FewShotConfig) -> None:
    study = run_few_shot(replace(config, selection="oracle"))
    folder = Path(config.output)
    assert ORACLE in study.text()
    assert ORACLE in (folder / "report.md").read_text()
    assert ORACLE in set(pd.read_parquet(folder / "episodes.parquet")["choice"])
    assert ORACLE in set(pd.read_csv(folder / "summary.csv")["choice"])
    assert any(ORACLE in line for line in json.loads((folder / "run.json").read_text())["chosen"])


def test_run_few_shot__from_yaml_to_folder(config: FewShotConfig, tmp_path: Path) -> None:
    text = f"""
    store: {config.store}
    heads: {{linear: {{name: logistic_probe, params: {{C: 1}}}}}}
    query: {{split: test}}
    output: {config.output}
    shots: [3]
    episodes: 2
    """
    (tmp_path / "few.yaml").write_text(text)
    study = run_few_shot(load_config(tmp_path / "few.yaml", FewShotConfig, ["layer=block.2"]))
    folder = Path(config.output)
    expected = {"config.yaml", "run.json", "episodes.parquet", "support.parquet", "summary.csv"}
    assert {path.name for path in folder.iterdir()} == {*expected, "report.md"}
    again = load_config(folder / "config.yaml", FewShotConfig)
    assert again.layer == "block.2"
    assert yaml.safe_load((folder / "config.yaml").read_text())["seed"] == 42
    record = json.loads((folder / "run.json").read_text())
    store = featstore.open(config.store)
    assert record["store"]["fingerprint"] == store.select().attrs["fingerprint"]
    assert "layer block.2: the only one" in study.text()


def test_run_few_shot__says_that_nothing_was_chosen(config: FewShotConfig) -> None:
    study = run_few_shot(replace(config, val=None))
    assert "a layer picked from the tables is picked on the query" in study.text()
    assert set(study.summary["choice"]) == {"block.0", "block.1", "block.2"}


def test_run_few_shot__a_dataset_without_fakes_is_named(config: FewShotConfig) -> None:
    query = RowsConfig("test", generator=["a", "real"])  # nothing but real images of dataset b
    study = run_few_shot(replace(config, query=query))
    assert "not reported, as they lack real or fake images: b" in study.text()
    assert set(study.episodes["dataset"]) == {"a"}


def test_run_few_shot__reports_progress_in_heads(config: FewShotConfig) -> None:
    seen = []
    run_few_shot(config, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 24) for done in (0, 8, 16, 24)]


def test_run_few_shot__existing_folder_is_kept(config: FewShotConfig) -> None:
    run_few_shot(config)
    with pytest.raises(StoreExistsError, match="choose another 'output'"):
        run_few_shot(config)
    run_few_shot(replace(config, overwrite=True))
    assert Path(f"{config.output}.old-1", "run.json").exists()


def test_run_few_shot__nothing_is_left_if_writing_fails(config, monkeypatch, tmp_path) -> None:
    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(writing, "plot_curves", fail)
    with pytest.raises(OSError, match="disk full"):
        run_few_shot(config)
    assert not list(tmp_path.iterdir())


def test_run_few_shot__validation_rows_are_not_aligned_with_copies_of_the_query(
    config: FewShotConfig, monkeypatch
) -> None:
    """One of a pair of the query has a copy in the support, aligned with a validation image."""
    changes = {"test": {"sample_id": "copy"}, "train": {"sample_id": "copy", "pair": 999}}
    changes["val"] = {"pair": 999}

    def chained(ds: xr.Dataset) -> pd.DataFrame:
        found = identities(ds)
        (split,) = splits_of(ds)
        found.loc[0, list(changes[split])] = list(changes[split].values())
        return found

    monkeypatch.setattr(planning, "identities", chained)
    with pytest.raises(ConfigError, match=r"copies of validation rows.*got 2 that"):
        run_few_shot(replace(config, support=RowsConfig("train", "a")))


def test_run_few_shot__says_whose_threshold_is_the_heads_own(config: FewShotConfig) -> None:
    heads = {**LINEAR, "one": HeadConfig("gaussian_one_class", {"fpr": 0.1})}
    chosen = run_few_shot(replace(config, heads=heads, shots=[5])).record["chosen"]
    halves = [sentence for sentence in chosen if sentence.startswith("threshold 0.5")]
    assert halves[0].endswith("a probability of one half, not chosen on any rows (linear)")
    assert "the head's own, set on real training rows, of which at most 0.1" in halves[1]
    assert halves[1].endswith("(one)")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shots": [31]}, r"31 different images of each, got 'real' with 30, 'fake' with 30"),
        ({"shots": []}, "'shots' must be different numbers"),
        ({"shots": [5, 5]}, "'shots' must be different numbers"),
        ({"shots": [29]}, "a query needs real and fake images of one dataset"),
        ({"episodes": 0}, "'episodes' must be 1 or more"),
        ({"seed": -1}, "'seed' must be 0 or more"),
        ({"n_jobs": 0}, "'n_jobs' must be"),
        ({"max_memory": "much"}, "'max_memory' must be a size"),
        ({"max_memory": "inf"}, "'max_memory' must be a size"),
        ({"max_memory": "0"}, "'max_memory' must be more than nothing"),
        ({"select_by": "auc"}, "'select_by'.*auc"),
        ({"heads": {}}, "'heads' must name at least one"),
        ({"heads": {"x": HeadConfig("logistic_prob")}}, "head 'x': .*did you mean"),
        ({"query": RowsConfig(["test", "val"])}, "reported rows must be of one split"),
        ({"val": RowsConfig("test", "b")}, "must be chosen on rows of"),
        ({"query": RowsConfig("val"), "val": RowsConfig("val", "a")}, "common rows"),
        ({"support": RowsConfig("train", generator="a")}, "must hold real and fake images"),
        ({"val": RowsConfig("val", generator="real")}, "needs real and fake validation rows"),
    ],
)
def test_run_few_shot__mistakes_are_named(config: FewShotConfig, changes, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_few_shot(replace(config, **changes))
    assert not Path(config.output).exists()


def test_run_few_shot__a_head_that_cannot_learn_is_named(
    config: FewShotConfig, monkeypatch
) -> None:
    def refuse(head, source):
        raise ValueError("too few rows of every kind")

    monkeypatch.setattr(LogisticProbe, "check_trainable", refuse)
    with pytest.raises(ConfigError, match="head 'linear', 2 shots: too few rows of every kind"):
        run_few_shot(config)


def test_run_few_shot__scores_that_are_not_finite(config: FewShotConfig, monkeypatch) -> None:
    monkeypatch.setattr(LogisticProbe, "_decide", lambda head, X: np.full(len(X), np.nan))
    with pytest.raises(ConfigError, match=r"head 'linear' on layer 'block.0', 2 shots, episode 0"):
        run_few_shot(config)


def test_episodes_at_once__as_many_as_half_the_memory_holds(config: FewShotConfig) -> None:
    rows = {
        role: own._replace(features=own.features[["cls"]].isel(layer=[0]))
        for role, own in planning.select_roles(config).items()
    }
    scores, support = 2 * 8 * (60 + 60), 8 * 2 * (2 + 5) * 8  # of the heads of an episode
    n_bytes = scores + support + 8 * 2 * 5 * 8
    for affordable in (1, 3):
        limited = replace(config, max_memory=str(2 * affordable * n_bytes))
        assert running.episodes_at_once(limited, rows, n_groups=2) == affordable


def test_only__layers_of_several_widths_and_the_embedding() -> None:
    ds = xr.Dataset(
        {
            "cls": (("sample", "layer", "feature"), np.zeros((4, 2, 3))),
            "cls_5": (("sample", "layer_5", "feature_5"), np.ones((4, 2, 5))),
            "proj": (("sample", "embedding"), np.full((4, 7), 2)),
        },
        {"layer": ["a", "b"], "layer_5": ["c", "d"]},
    )
    for name, shape, value in (("b", (4, 1, 3), 0), ("c", (4, 1, 5), 1), ("proj", (4, 7), 2)):
        (found,) = planning._only(ds, name).data_vars.values()
        assert found.shape == shape
        assert (found == value).all()
    assert planning._only(ds, None) is ds


CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("fewshot/*.yaml")), ids=lambda p: p.stem)
def test_configs__few_shot_files_load(path: Path) -> None:
    config = load_config(path, FewShotConfig)
    assert config.val is not None
    assert config.heads
