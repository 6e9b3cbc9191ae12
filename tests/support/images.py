"""Small image trees for tests."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_tree(
    root: Path,
    n_images: int = 20,
    *,
    datasets: tuple[str, ...] = ("a",),
    side: int = 16,
    seed: int = 0,
) -> Path:
    """Write ``root/<split>/<dataset>/{0_real,1_fake}`` with ``n_images`` PNGs per folder."""
    rng = np.random.default_rng(seed)
    for split in ("train", "test"):
        for dataset in datasets:
            for label in ("0_real", "1_fake"):
                folder = root / split / dataset / label
                folder.mkdir(parents=True)
                for number in range(n_images):
                    pixels = rng.integers(0, 256, (side, side, 3), np.uint8)
                    Image.fromarray(pixels).save(folder / f"{number:04d}.png")
    return root
