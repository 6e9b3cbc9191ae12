"""Running a network: taps, devices, batches, and what is told of it."""

import json
import subprocess
import sys
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from support.networks import (
    ROUNDING,
    random_pixels,
    relative_error,
    run,
)
from support.tiny_towers import register, tower
from torchvision import transforms

from featstore.backbones.openclip import OpenCLIPBackbone
from featstore.backbones.torch_backbone import TorchBackbone
from featstore.errors import ConfigError

ALL_TAPS = ("block", "ln_2", "ln_post", "proj")
FP16 = 1e-3
"""Relative, of a float32 residual stream with half-precision products, against float32."""


@pytest.fixture(scope="module", autouse=True)
def _tiny_towers(tmp_path_factory: pytest.TempPathFactory) -> None:
    register(tmp_path_factory.mktemp("towers"))


def test_submit__row_does_not_depend_on_the_batch() -> None:
    backbone = OpenCLIPBackbone("tiny", "random")
    pixels = random_pixels(33, 32)
    together = backbone.submit(pixels)()
    for n_images in range(1, 34):
        alone = backbone.submit(pixels[:n_images])()
        for name, rows in alone.items():
            np.testing.assert_array_equal(rows, together[name][:n_images])


def test_submit__pixels_may_be_read_only_and_overwritten() -> None:
    backbone = OpenCLIPBackbone("tiny", "random")
    pixels = random_pixels(2, 32)
    kept = pixels.copy()
    kept.flags.writeable = False
    wait = backbone.submit(pixels)
    pixels[:] = 0
    np.testing.assert_array_equal(wait()["cls"], backbone.submit(kept)()["cls"])


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((2, 3, 32, 32), np.uint8),
        np.zeros((2, 32, 32, 3), np.float32),
        np.zeros((0, 32, 32, 3), np.uint8),
    ],
)
def test_submit__other_shapes_are_refused(pixels: Any) -> None:
    with pytest.raises(
        ValueError, match=r"'pixels' must be uint8 of shape \(n_images, 32, 32, 3\)"
    ):
        OpenCLIPBackbone("tiny", "random").submit(pixels)


def test_submit__features_that_are_not_finite_are_handed_on() -> None:
    network = tower("tiny")
    network.module.ln_post.weight.data.fill_(float("inf"))
    rows = run(network, random_pixels(3, 32), ALL_TAPS)["cls"]
    assert not np.isfinite(rows[:, -1]).any()
    assert np.isfinite(rows[:, :-1]).all()


def test_normalisation__equals_torchvision_in_every_bit() -> None:
    network = tower("tiny")
    image = np.arange(32 * 32 * 3, dtype=np.uint8).reshape(1, 32, 32, 3)
    seen: list[Any] = []
    network.module.conv1.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    run(network, image)
    official = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize(network.mean, network.std)]
    )
    np.testing.assert_array_equal(seen[0][0].numpy(), official(image[0]).numpy())


def test_layers__are_ordered_by_tap() -> None:
    backbone = OpenCLIPBackbone("tiny", "random", taps=("ln_2", "proj", "ln_post"))
    names = [layer.name for layer in backbone.layers]
    assert names == ["ln_2.0", "ln_2.1", "ln_2.2", "proj", "ln_post"]
    assert {layer.array for layer in backbone.layers} == {"cls", "proj"}
    shapes = {name: rows.shape for name, rows in backbone.submit(random_pixels(2, 32))().items()}
    assert shapes == {"cls": (2, 4, 64), "proj": (2, 1, 24)}


@pytest.mark.parametrize(
    ("taps", "message"),
    [
        (("blocks",), "unknown tap 'blocks'.*did you mean 'block'"),
        (("block", "block"), "must be named once"),
    ],
)
def test_taps__wrong_ones_are_refused(taps: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OpenCLIPBackbone("tiny", "random", taps=taps)


def test_taps__that_the_network_lacks_are_refused() -> None:
    with pytest.raises(ConfigError, match="must have the tap 'ln_2'"):
        OpenCLIPBackbone("tiny-resnet", "random", taps=("block", "ln_2"))


def test_describe__says_what_determines_the_numbers() -> None:
    described = OpenCLIPBackbone("tiny-quickgelu", "random-7", precision="bf16").describe()
    assert json.loads(json.dumps(described)) == described
    assert described["weights"] == "random-7"
    assert described["activation"] == "QuickGELU()"
    assert described["precision"] == "bf16"
    assert described["forward"] == "own"
    assert described["normalisation"]["mean"] == list(open_clip.OPENAI_DATASET_MEAN)
    assert set(described["versions"]) == {"torch", "open_clip"}
    with_trunk = OpenCLIPBackbone("tiny-siglip", "random").describe()
    assert set(with_trunk["versions"]) == {"torch", "open_clip", "timm"}
    assert len(described["weights_sha256"]) == 64


def test_precision_and_device__unknown_ones_are_refused() -> None:
    with pytest.raises(ConfigError, match="'precision' must be one of"):
        OpenCLIPBackbone("tiny", "random", precision="int8")
    with pytest.raises(ConfigError, match="'device' must be one of"):
        OpenCLIPBackbone("tiny", "random", device="tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_device__cuda_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"\['cpu'\] on this machine, got 'cuda'"):
        OpenCLIPBackbone("tiny", "random", device="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize(("precision", "bound"), [("fp32", ROUNDING), ("fp16", FP16)])
def test_cuda__equals_the_cpu(precision: str, bound: float) -> None:
    pixels = random_pixels(70, 32)
    expected = run(tower("tiny"), pixels, ALL_TAPS)
    backbone = TorchBackbone(tower("tiny"), taps=ALL_TAPS, precision=precision, device="cuda")
    waits = [backbone.submit(pixels), backbone.submit(pixels[:1])]
    whole, alone = (wait() for wait in waits)
    for name, rows in expected.items():
        assert relative_error(whole[name], rows) < bound
        np.testing.assert_array_equal(alone[name], whole[name][:1])


def test_import__does_not_load_torch() -> None:
    code = "import sys, featstore.backbones; print({'torch', 'timm', 'open_clip'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
