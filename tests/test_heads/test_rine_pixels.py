"""From pixels to RINE's logit: the published taps, crop and head, on a small image tower."""

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image
from support.networks import ROUNDING, relative_error
from support.rine import network_from, recipe

from featstore.backbones.openclip import load_open_clip
from featstore.backbones.taps import choose_points
from featstore.backbones.vit_blocks import OwnForward
from featstore.images.decode import decode
from featstore.images.preprocess import Preprocess
from heads.rine.network import evaluate
from heads.rine.weights import RINEShape

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
TOWER = {"image_size": 32, "layers": 4, "width": 64, "head_width": 16, "patch_size": 8}
TEXT = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}
PRINTED = 5e-3  # logits known to two decimals
FLOAT32 = 1e-6  # normalised pixels are between -2 and 3


@pytest.fixture(scope="module")
def vectors(shared: Callable[[str], Path]) -> dict[str, Any]:
    with np.load(shared("vectors/rine.npz")) as file:
        return {name: file[name] for name in file.files if name.startswith(("tap_", "tf_"))}


@pytest.fixture(scope="module")
def taps(
    vectors: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, torch.Tensor]:
    """Return the features that our forward pass reads at every tap."""
    folder = tmp_path_factory.mktemp("tower")
    config = {"embed_dim": 24, "quick_gelu": True, "vision_cfg": TOWER, "text_cfg": TEXT}
    (folder / "rine-tiny.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    weights = {
        name.removeprefix("tap_w/"): torch.tensor(values)
        for name, values in vectors.items()
        if name.startswith("tap_w/")
    }
    torch.save(weights, folder / "tower.pt")
    network = load_open_clip("rine-tiny", str(folder / "tower.pt"), None)
    network.module.eval()
    points = choose_points(network.points, ("block", "ln_2", "proj"))
    assert network.vit is not None
    forward = OwnForward(network.vit, [point.layer for point in points], torch.float32)
    with torch.inference_mode():
        found = forward(torch.tensor(vectors["tap_img"]))
    names = [point.layer.name for point in points if point.layer.tap != "proj"]
    places = {tap: [names.index(f"{tap}.{i}") for i in range(4)] for tap in ("ln_2", "block")}
    return {tap: found["cls"][:, own] for tap, own in places.items()} | {
        "proj": found["proj"][:, 0]
    }


@pytest.mark.parametrize(
    ("tap", "name"), [("ln_2", "tap_ln2_cls"), ("block", "tap_block_cls"), ("proj", "tap_proj")]
)
def test_taps__are_as_recorded(
    taps: dict[str, torch.Tensor], vectors: dict[str, Any], tap: str, name: str
) -> None:
    assert relative_error(taps[tap], vectors[name]) < ROUNDING


@pytest.mark.parametrize(
    ("tap", "logits"), [("ln_2", [0.85, 0.19, 0.22]), ("block", [3.38, 0.14, 0.56])]
)
def test_taps__give_the_logits_of_the_original(
    taps: dict[str, torch.Tensor], tap: str, logits: list[float]
) -> None:
    shape = RINEShape(4, 64, proj_dim=8, nproj=1)
    found, _ = evaluate(network_from(shape, recipe(shape)), taps[tap].flatten(1).numpy())
    assert_allclose(found, logits, rtol=0, atol=PRINTED)


def centre_crop(pixels: Any) -> Any:
    """Return the native centre crop of an image, normalised, (3, 224, 224)."""
    file, out = BytesIO(), np.empty((224, 224, 3), np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    decode(file.getvalue(), Preprocess(crop=224), out)
    return ((out / 255 - MEAN) / STD).transpose(2, 0, 1)


def test_native_crop__is_that_of_the_published_test(vectors: dict[str, Any]) -> None:
    pixels = np.random.RandomState(7).randint(0, 256, (256, 256, 3)).astype(np.uint8)
    found = centre_crop(pixels)
    assert_allclose(found[:, ::16, ::16], vectors["tf_center"], rtol=0, atol=FLOAT32)
    assert_allclose(found.sum((1, 2)), vectors["tf_center_sum"], rtol=1e-5)


def test_native_crop__pads_small_images_with_black(vectors: dict[str, Any]) -> None:
    pixels = np.random.RandomState(8).randint(0, 256, (200, 240, 3)).astype(np.uint8)
    found = centre_crop(pixels)
    assert_allclose(found[:, ::16, ::16], vectors["tf_small_center"], rtol=0, atol=FLOAT32)
