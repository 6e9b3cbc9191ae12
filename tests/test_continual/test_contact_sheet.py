"""The sheet shows the images kept, and says what is missing."""

from pathlib import Path

import numpy as np
from PIL import Image

from continual.contact_sheet import FEWEST, GAP, TILE, contact_sheet, memory_text
from continual.memory import ReplayMemory
from continual.selection.choice import choice_of
from featstore.simulate import simulate_store


def test_contact_sheet__shows_images_and_counts_the_missing(tmp_path: Path) -> None:
    store = simulate_store(tmp_path / "s.zarr", n_samples=20, n_layers=2)
    ds = store.select(dataset="a", split="train")
    fakes = np.flatnonzero(ds["label"].values == 1)[:2]
    memory = ReplayMemory()
    chosen = choice_of(fakes, sigma=1.25)
    memory.remember(ds, chosen, "a", {"selection": "hgr"})
    assert contact_sheet(memory, store, tmp_path / "sheet.png") == 2
    text = memory_text(memory)
    assert "| a | 0 | 2 |" in text
    assert "selection=hgr, sigma_fake=1.25" in text
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == FEWEST * (TILE + GAP) + GAP
