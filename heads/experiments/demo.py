"""The demo: real photographs, three generators trained on the spot, and an honest table.

Every step is the one that users run on their own images; only the images are made here.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from featstore.demo_images import TILE, make_demo_images
from featstore.extract import extract
from featstore.extract_config import ExtractConfig
from heads.experiments.config import HeadConfig, RowsConfig, TrainConfig
from heads.experiments.transfer import run_transfer

HEADS: dict[str, tuple[HeadConfig, dict[str, list[Any]]]] = {
    "LogisticProbe": (
        HeadConfig("logistic_probe", {"standardize": True}),
        {"C": [0.001, 0.01, 0.1, 1.0]},
    ),
    "HSICProbe": (
        HeadConfig("hsic_probe", {"standardize": "zscore", "learning_rate": 1e-3, "max_iter": 60}),
        {"lambda_x": [0.0, 100.0, 900.0], "lambda_y": [0.0, 100.0, 700.0]},
    ),
}
"""Heads of the demo with the grids that are searched on validation photographs."""

CAVEAT = """
The test tiles come from only six photographs and resemble each other within one, so these intervals
over tiles are too narrow."""

NEXT = """
Next, on your own images in <folder>/<split>/<dataset>/{{0_real,1_fake}}:
  featstore extract <folder> --store my.zarr --backbone open_clip:ViT-L-14-quickgelu/openai
  featstore ls my.zarr
  featstore train --config configs/train/hsic.yaml --set store=my.zarr
Every number above comes from {folder}/runs, the features from {folder}/store.zarr."""


def run_demo(folder: Path, progress: Callable[[int, int], None]) -> str:
    """Run the whole job.

    Parameters
    ----------
    folder
        Where images, store and results go; images and features of an earlier demo are used again,
        its results are replaced.
    progress
        Called with steps done and steps to do.

    Returns
    -------
    str
        The tables, what they mean, and the commands to run next.
    """
    n_steps = 2 + len(HEADS)
    images, store = folder / "images", folder / "store.zarr"
    if not images.exists():
        make_demo_images(images)
    progress(1, n_steps)
    summary = extract(ExtractConfig(str(images), str(store), f"residual:{TILE}", "residual"))
    progress(2, n_steps)
    if (runs := folder / "runs").exists():
        shutil.rmtree(runs)  # of an earlier demo
    lines = [
        f"{summary.n_extracted + summary.n_present:,} images, features in {store} "
        "(backbone 'residual': weight-free filter statistics, no trained network)",
    ]
    for number, (name, (head, grid)) in enumerate(HEADS.items()):
        config = TrainConfig(
            store=str(store),
            head=head,
            grid=grid,
            train=RowsConfig("train"),
            val=RowsConfig("val"),
            test=RowsConfig("test"),
            output=str(runs / name),
        )
        result = run_transfer(config)
        lines += ["", f"{name}, trained on the generator of the row: AUROC on test photographs"]
        lines += [result.text()]
        progress(3 + number, n_steps)
    return "\n".join([*lines, CAVEAT, NEXT.format(folder=folder)])
