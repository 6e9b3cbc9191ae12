"""Outputs of published implementations on fixed inputs, kept with the tests."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DATA = Path(__file__).resolve().parents[1] / "data"


def stored(name: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of ``tests/data/<name>.npz``."""
    with np.load(DATA / f"{name}.npz") as file:
        return dict(file)
