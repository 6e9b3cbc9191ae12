"""The studies in configs/continual, cut down, on a simulated store with their names."""

from pathlib import Path

import pytest
from conftest import REPOSITORY

from continual.config import ContinualConfig
from continual.planning import runs_of, variants_of
from continual.protocol import run_continual
from featstore.config import load_config
from featstore.simulate import simulate_store

CONFIGS = REPOSITORY / "configs/continual"
QUICK = ["n_jobs=1", "seeds=[0]", "keep=[4]"]
PROBE = ["head.params.max_iter=1", "head.params.device=cpu"]


def study(name: str, folder: Path, *changes: str) -> ContinualConfig:
    settings = [*QUICK, f"store={folder}/s.zarr", f"output={folder}/study", *changes]
    return load_config(CONFIGS / f"{name}.yaml", ContinualConfig, settings)


def simulate(config: ContinualConfig) -> None:
    simulate_store(config.store, datasets=[*config.base, *config.tails], n_samples=24, n_layers=1)


def test_hgr__is_the_published_study(tmp_path: Path) -> None:
    found = load_config(CONFIGS / "hgr.yaml", ContinualConfig)
    assert len({run.order for run in runs_of(found)}) == 2 * 6
    assert (found.head.params["lambda_x"], found.head.params["lambda_y"]) == (900, 700)
    assert found.keep == [0.01]


def test_hgr__runs(tmp_path: Path) -> None:
    config = study("hgr", tmp_path, *PROBE, "n_orders=1", "selections=[hgr]")
    simulate(config)
    found = run_continual(config)
    assert set(found.scores["base"]) == {"sdv4", "progan"}
    assert set(found.scores["learner"]) == set(config.learners)


def test_sensitivity__runs_every_variant(tmp_path: Path) -> None:
    config = study("sensitivity", tmp_path, *PROBE, "n_orders=1", "tails=[NHA]")
    simulate(config)
    found = run_continual(config)
    assert set(found.summary["variant"]) == set(variants_of(config))
    assert len(variants_of(config)) == 6 + 5 + 5 + 3 + 3 + 4


def test_eight_domains__runs(tmp_path: Path) -> None:
    config = study(
        "eight_domains", tmp_path, *PROBE, "n_orders=1", "selections=[hgr]",
        "learners=[replay, fine_tune]",
    )  # fmt: skip
    simulate(config)
    found = run_continual(config)
    assert found.scores["step"].max() == 7


@pytest.mark.parametrize("change", ["order=given", "n_orders=1"])
def test_attribution__runs(tmp_path: Path, change: str) -> None:
    config = study("attribution", tmp_path, "head.params.n_components=20", change)
    simulate(config)
    last = run_continual(config).scores
    last = last[last["step"] == 5].groupby("learner")["balanced_accuracy"].mean()
    assert last["merge"] == last["joint"]
