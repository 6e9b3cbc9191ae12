"""Extraction from files to a finished store, against the usual script; models are made before."""

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
import open_clip
import pytest
import torch
from benchmarks.paired import Row, interleave, report, speed
from benchmarks.photographs import write_class_folders
from benchmarks.usual_script import HookedForward, Images, usual_script

import featstore
from featstore.backbones import BACKBONES
from featstore.backbones.openclip import OpenCLIPBackbone
from featstore.extract import extract
from featstore.extract_config import ExtractConfig
from featstore.images.preprocess import Preprocess
from featstore.layers import Layer

N_IMAGES, COPIES, N_FORWARD = 320, 8, 128
BATCH, WORKERS = 32, 2
DEVICE_RATES = (1000, 2000)
N_TOKENS = 197  # of ViT-B/16; ViT-B/32 has 50, ViT-L/14 257 of 1,024 features in 24 blocks
HALF_PRECISION_ERROR = 2e-3  # of the largest value: 2⁻¹¹ for the store's float16, and some room


class StandIn:
    """A device of fixed speed that takes no processor time and works while others do, as a GPU."""

    name = "stand-in"
    preprocess = Preprocess(crop=224, resize_mode="shortest", resize=224)

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self.layers = [Layer(f"block.{i}", "block", i, 768) for i in range(12)]
        self.layers.append(Layer("ln_post", "ln_post", 12, 768))
        shape = (BATCH, len(self.layers), 768)
        self._features = np.random.default_rng(0).standard_normal(shape, np.float32)
        self._maps = torch.zeros(len(self.layers), BATCH, N_TOKENS, 768)
        self._idle_from = 0.0

    def describe(self) -> dict[str, Any]:
        return {"family": "stand-in"}

    def submit(self, pixels: np.ndarray) -> Callable[[], Any]:
        start = max(time.perf_counter(), self._idle_from)
        self._idle_from = done = start + len(pixels) / self._rate

        def wait() -> dict[str, np.ndarray]:
            time.sleep(max(0.0, done - time.perf_counter()))
            return {"cls": self._features[: len(pixels)]}

        return wait

    def forward(self, batch: torch.Tensor) -> Sequence[np.ndarray]:
        """Do the same for the usual script, the keeping of full token maps for nothing."""
        time.sleep(len(batch) / self._rate)
        return list(self._features[: len(batch)].transpose(1, 0, 2))

    def forward_to_host(self, batch: torch.Tensor) -> Sequence[np.ndarray]:
        """Do the same with hooks that keep ``output.cpu()``: full token maps reach the host."""
        rows = self.forward(batch)
        maps = [layer[: len(batch)].clone() for layer in self._maps]
        return [kept[:, 0].numpy() + row for kept, row in zip(maps, rows, strict=True)]


class Trial:
    """Runs both sides on one folder of images, each time into a new place."""

    def __init__(self, root: Path, n_images: int, copies: int = 1) -> None:
        self.images, self._root = root / "images", root
        self._numbers = itertools.count()
        self.n_images = n_images * copies
        write_class_folders(self.images, n_images, copies)

    def ours(self, backbone: Any) -> Path:
        store = self._root / f"{next(self._numbers)}.zarr"
        config = ExtractConfig(
            str(self.images), str(store), "ready:", "f", dataset="a", split="train",
            device="cpu", batch_size=BATCH, workers=WORKERS,
        )  # fmt: skip
        with mock.patch.dict(BACKBONES, {"ready": lambda *names, **options: backbone}):
            extract(config)
        return store

    def usual(self, forward: Any) -> Path:
        out = self._root / str(next(self._numbers))
        usual_script(self.images, out, forward, BATCH, WORKERS)
        return out


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


def test_stand_in_device(folder: Path) -> None:
    trial = Trial(folder, N_IMAGES, COPIES)
    rows = [stand_in_row(trial, rate, maps) for maps in ("host", "device") for rate in DEVICE_RATES]
    device = StandIn(DEVICE_RATES[0])
    rows += bytes_on_disk(trial.ours(device), trial.usual(device.forward))
    report(f"Extraction, {trial.n_images} JPEGs, stand-in device | usual script", rows)


def stand_in_row(trial: Trial, rate: int, maps: str) -> Row:
    """Compare on a device of the given speed, which bounds how much faster anything can be."""
    device = StandIn(rate)
    forward = device.forward_to_host if maps == "host" else device.forward
    ours, usual = interleave(lambda: trial.ours(device), lambda: trial.usual(forward), rounds=3)
    bound = rate * median(usual.wall) / trial.n_images
    name = f"{rate:,} images/s, maps kept on the {maps} (allows {bound:.1f} x)"
    wanted = ">= 2.5" if maps == "host" else ""
    return speed(name, ours, usual, amount=trial.n_images, unit="images/s", wanted=wanted)


def bytes_on_disk(store: Path, out: Path) -> list[Row]:
    """Compare the bytes of all files; the images fill the blocks of the store."""
    own, everything = size_of(store), size_of(out)
    layers = everything - (out / "packed_features.npy").stat().st_size
    return [
        Row(f"bytes | {name}", megabytes(own), megabytes(other), own / other, wanted)
        for name, other, wanted in (
            ("files per layer and packed", everything, "<= 0.5"),
            ("files per layer alone", layers, ""),
        )
    ]


def megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_vit_on_the_cpu(folder: Path) -> None:
    trial, weights = Trial(folder, N_FORWARD), folder / "weights.pt"
    visual = open_clip.create_model("ViT-B-32").visual
    torch.save(visual.state_dict(), weights)
    forward = HookedForward(visual)
    fp32, bf16 = (
        OpenCLIPBackbone("ViT-B-32", str(weights), taps=("block", "ln_post"), precision=precision)
        for precision in ("fp32", "bf16")
    )
    check_same_features(trial, trial.ours(fp32), trial.usual(forward))
    usual, *ours = interleave(
        lambda: trial.usual(forward),
        lambda: trial.ours(fp32),
        lambda: trial.ours(bf16),
        rounds=7,
        warm_up=False,
    )
    size = {"amount": trial.n_images, "unit": "images/s"}
    report(
        f"Extraction, {trial.n_images} JPEGs, ViT-B/32 on the CPU",
        [
            speed("fp32 | usual script, fp32", ours[0], usual, **size, wanted=">= 1.05"),
            speed("bf16 | usual script, fp32", ours[1], usual, **size, wanted=">= 1.9"),
        ],
    )


def check_same_features(trial: Trial, store: Path, out: Path) -> None:
    """Fail unless both sides did the same work."""
    ds = featstore.open(store).select()
    names = [path.relative_to(trial.images).as_posix() for path in Images(trial.images).paths]
    order = [names.index(str(path)) for path in ds["path"].values]
    packed = np.load(out / "packed_features.npy")[order].reshape(ds["cls"].shape)
    tolerance = HALF_PRECISION_ERROR * np.abs(packed).max()
    np.testing.assert_allclose(ds["cls"].values, packed, atol=tolerance)
