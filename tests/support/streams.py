"""Studies of a simulated store, small enough for tests."""

from pathlib import Path
from typing import Any

from continual.config import ContinualConfig
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
