"""Studies of a simulated store, small enough for tests."""

from pathlib import Path
from typing import Any

import pytest

from continual.config import ContinualConfig
from featstore import simulate
from featstore.layouts import Record
from featstore.store import Store
from heads.experiments.config import HeadConfig

PROBE = {
    "n_components": 4, "max_iter": 3, "selection": "last", "device": "cpu",
    "standardize": "zscore", "learning_rate": 0.05,
}  # fmt: skip


def config(store: Store, output: Path, **changes: Any) -> ContinualConfig:
    """Return a study of three datasets in one order."""
    settings: dict[str, Any] = {
        "store": str(store.path),
        "tails": ["a", "b", "c"],
        "head": HeadConfig("hsic_probe", PROBE),
        "keep": [0.1],
        "n_orders": 1,
        "output": str(output / "study"),
    }
    return ContinualConfig(**{**settings, **changes})


def store_of_many_generators(path: Path) -> Store:
    """Return a store of two datasets, whose fakes are of the generators a0, a1 and b0, b1."""
    plain = simulate._record

    def record(dataset: str, split: str, number: int) -> Record:
        made = plain(dataset, split, number)
        return made._replace(generator=f"{dataset}{number // 2 % 2}") if made.label else made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulate, "_record", record)
        return simulate.simulate_store(path, n_samples=40, n_layers=1)
