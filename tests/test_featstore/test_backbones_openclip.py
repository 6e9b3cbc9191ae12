"""The image towers of open_clip against open_clip's own forward pass and Hugging Face's."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from support.networks import (
    ROUNDING,
    normalised,
    random_pixels,
    randomise,
    read_stock,
    relative_error,
    run,
)
from torch import nn
from torchvision import transforms

from featstore.backbones.openclip import OpenCLIPBackbone, load_open_clip
from featstore.backbones.torch_backbone import Network, TorchBackbone
from featstore.errors import ConfigError, FeatstoreError
from featstore.images.preprocess import Preprocess

ALL_TAPS = ("block", "ln_2", "ln_post", "proj")
BF16, FP16 = 5e-3, 1e-3
"""Relative, of a float32 residual stream with half-precision products, against float64."""

AUTOCAST = 3e-2
"""Relative, with the residual stream in bfloat16 too (8 bits of mantissa)."""

VISION = {"image_size": 32, "layers": 3, "width": 64, "head_width": 16, "patch_size": 8}
TEXT = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}
PLAIN: dict[str, dict[str, Any]] = {
    "tiny": {},
    "tiny-quickgelu": {"quick_gelu": True},
    "tiny-layerscale": {"vision_cfg": {"ls_init_value": 0.5}},
    "tiny-no-pre-norm": {"vision_cfg": {"no_ln_pre": True, "patch_dropout": 0.5}},
    "tiny-tanh": {"vision_cfg": {"act_kwargs": {"approximate": "tanh"}}},
}
OTHER: dict[str, dict[str, Any]] = {
    "tiny-qk-norm": {"vision_cfg": {"qk_norm": True}},
    "tiny-scaled-heads": {"vision_cfg": {"scale_heads": True, "scale_attn_inner": True}},
    "tiny-average": {"vision_cfg": {"pool_type": "avg", "final_ln_after_pool": True}},
    "tiny-coca": {"vision_cfg": {"attentional_pool": True, "attn_pooler_heads": 2}},
}
TRUNK = {
    "timm_model_name": "test_vit3",
    "timm_pool": "map",
    "timm_proj": "none",
    "image_size": 160,
}
SPECIAL: dict[str, dict[str, Any]] = {
    "tiny-siglip": {"embed_dim": 96, "vision_cfg": TRUNK},
    "tiny-resnet": {"vision_cfg": {"layers": [1, 2, 1, 1], "width": 16, "image_size": 64}},
}


@pytest.fixture(scope="module", autouse=True)
def _tiny_models(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("models")
    for name, changes in {**PLAIN, **OTHER, **SPECIAL}.items():
        vision = VISION | changes.get("vision_cfg", {})
        config = {"embed_dim": 24, "text_cfg": TEXT} | changes | {"vision_cfg": vision}
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)


def tower(model: str) -> Network:
    network = load_open_clip(model, "random", None)
    randomise(network.module)
    return network


def stock_rows(network: Network, pixels: Any) -> dict[str, Any]:
    """Return CLS rows of every block, block.ln_2 and ln_post, and the embedding."""
    visual: Any = network.module
    blocks = list(visual.transformer.resblocks)
    modules = [*blocks, *(block.ln_2 for block in blocks), visual.ln_post]
    names = [f"{tap}.{i}" for tap in ("ln_2", "block") for i in range(len(blocks))]
    order = [name for pair in zip(names[:3], names[3:], strict=True) for name in pair]
    outputs, final = read_stock(network, modules, pixels)
    rows = dict(zip([*order, "ln_post"], outputs, strict=True))
    return {k: v[:, 0] if v.ndim == 3 else v for k, v in rows.items()} | {"proj": final}


@pytest.mark.parametrize("model", PLAIN)
def test_own_forward__equals_hooks_on_the_stock_model(model: str) -> None:
    network = tower(model)
    assert network.vit is not None
    pixels = random_pixels(5, 32)
    backbone_rows = run(network, pixels, ALL_TAPS)
    expected = stock_rows(network, pixels)
    names = [f"{tap}.{i}" for tap in ("block", "ln_2") for i in range(3)] + ["ln_post"]
    for position, name in enumerate(names):
        assert relative_error(backbone_rows["cls"][:, position], expected[name]) < ROUNDING, name
    assert relative_error(backbone_rows["proj"][:, 0], expected["proj"]) < ROUNDING


@pytest.mark.parametrize("model", OTHER)
def test_hooked_forward__equals_hooks_on_the_stock_model(model: str) -> None:
    network = tower(model)
    assert network.vit is None
    pixels = random_pixels(3, 32)
    found = run(network, pixels, ALL_TAPS)
    expected = stock_rows(network, pixels)
    blocks = found["cls"] if "cls" in found else found["cls_64"]
    for i in range(3):
        assert relative_error(blocks[:, i], expected[f"block.{i}"]) < ROUNDING
        assert relative_error(blocks[:, 3 + i], expected[f"ln_2.{i}"]) < ROUNDING
    ending = found["cls"][:, 6] if "cls" in found else found["cls_24"][:, 0]
    assert relative_error(ending, expected["ln_post"]) < ROUNDING
    assert relative_error(found["proj"][:, 0], expected["proj"]) < ROUNDING


def test_hooked_forward__equals_own_forward() -> None:
    network = tower("tiny-quickgelu")
    pixels = random_pixels(3, 32)
    own = run(network, pixels, ALL_TAPS)
    hooked = run(replace(network, vit=None), pixels, ALL_TAPS)
    for name, rows in own.items():
        assert relative_error(hooked[name], rows) < ROUNDING


def test_forward__wrong_activation_is_outside_the_tolerance() -> None:
    network = tower("tiny")
    pixels = random_pixels(3, 32)
    expected = run(network, pixels)["cls"]
    for block in network.vit.blocks:  # type: ignore[union-attr]
        object.__setattr__(block, "activation", nn.GELU(approximate="tanh"))
    assert relative_error(run(network, pixels)["cls"], expected) > ROUNDING


def test_own_forward__equals_hugging_face() -> None:
    network = tower("tiny-quickgelu")
    pixels = random_pixels(3, 32)
    hf = hugging_face_twin(network.module, "quick_gelu")
    with torch.no_grad():
        out = hf(normalised(pixels, network), output_hidden_states=True)
    found = run(network, pixels)
    for i in range(3):
        state = out.hidden_states[i + 1][:, 0]
        assert relative_error(found["cls"][:, i], state) < ROUNDING
    assert relative_error(found["proj"][:, 0], out.image_embeds) < ROUNDING


def hugging_face_twin(visual: Any, activation: str) -> Any:
    """Build Hugging Face's CLIP image tower and copy the weights into it."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=256,
        projection_dim=24,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
        hidden_act=activation,
    )
    renamed = {
        "class_embedding": "embeddings.class_embedding",
        "positional_embedding": "embeddings.position_embedding.weight",
        "conv1": "embeddings.patch_embedding",
        "ln_pre": "pre_layrnorm",
        "ln_post": "post_layernorm",
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
        "c_fc": "fc1",
        "c_proj": "fc2",
        "attn": "self_attn",
        "resblocks": "layers",
        "transformer": "encoder",
    }
    state = {}
    for name, value in visual.state_dict().items():
        path = ".".join(renamed.get(part, part) for part in name.split("."))
        if "in_proj" in path:
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                split = path.replace("in_proj_", f"{letter}_proj.")
                state[f"vision_model.{split}"] = part
        elif name == "proj":
            state["visual_projection.weight"] = value.t()
        else:
            state[f"vision_model.{path}"] = value
    model = CLIPVisionModelWithProjection(config).eval()
    model.load_state_dict(state, strict=True)
    return model


@pytest.mark.parametrize(("precision", "bound"), [("bf16", BF16), ("fp16", FP16)])
def test_half_precision__is_close_to_float64(precision: str, bound: float) -> None:
    network = tower("tiny")
    pixels = random_pixels(8, 32)
    found = run(network, pixels, ALL_TAPS, precision)
    network.module.double()
    expected = stock_rows(network, pixels)
    errors = [relative_error(found["cls"][:, i], expected[f"block.{i}"]) for i in range(3)]
    errors.append(relative_error(found["proj"][:, 0], expected["proj"]))
    assert ROUNDING < max(errors) < bound


def test_half_precision__of_a_hooked_forward_returns_float32() -> None:
    network = tower("tiny-qk-norm")
    pixels = random_pixels(2, 32)
    half, whole = run(network, pixels, precision="bf16"), run(network, pixels)
    assert half["cls"].dtype == np.float32
    assert ROUNDING < relative_error(half["cls"], whole["cls"]) < AUTOCAST


def test_siglip__averages_tokens_and_ends_in_its_own_pooling() -> None:
    network = tower("tiny-siglip")
    trunk: Any = network.module.trunk
    pixels = random_pixels(2, 160)
    outputs, final = read_stock(network, trunk.blocks, pixels)
    found = run(network, pixels)
    for i, tokens in enumerate(outputs):
        mean = tokens[:, trunk.num_prefix_tokens :].mean(1)
        assert relative_error(found["cls"][:, i], mean) < ROUNDING
    assert relative_error(found["cls"][:, -1], final) < ROUNDING
    backbone = OpenCLIPBackbone("tiny-siglip", "random")
    assert [layer.tap for layer in backbone.layers[-3:]] == ["block_mean", "pooled", "proj"]


def test_resnet__averages_every_stage() -> None:
    network = tower("tiny-resnet")
    pixels = random_pixels(2, 64)
    visual: Any = network.module.eval()
    with torch.no_grad():
        out = visual.forward_intermediates(normalised(pixels, network))
    found = run(network, pixels)
    assert list(found) == ["cls_16", "cls_64", "cls_128", "cls_256", "cls_512", "proj"]
    for rows, stage in zip(found.values(), out["image_intermediates"], strict=False):
        assert relative_error(rows[:, 0], stage.mean((2, 3))) < ROUNDING
    assert relative_error(found["proj"][:, 0], out["image_features"]) < ROUNDING


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


def test_submit__features_that_are_not_finite_are_refused() -> None:
    network = tower("tiny")
    network.module.ln_post.weight.data.fill_(float("inf"))
    with pytest.raises(FeatstoreError, match="must be finite"):
        run(network, random_pixels(1, 32))


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
    assert set(described["versions"]) >= {"torch", "open_clip"}
    assert len(described["weights_sha256"]) == 64


def test_preprocess__is_that_of_the_pretrained_tags() -> None:
    assert OpenCLIPBackbone("ViT-S-32", "random").preprocess == Preprocess(
        crop=224, resize_mode="shortest", resize=224, interpolation="bicubic", convert="after"
    )


def test_preprocess__of_another_size_is_refused() -> None:
    native = Preprocess(crop=32)
    assert OpenCLIPBackbone("tiny", "random", preprocess=native).preprocess is native
    with pytest.raises(ConfigError, match="must be 32, the input size of 'tiny', got 48"):
        OpenCLIPBackbone("tiny", "random", preprocess=Preprocess(crop=48))


def test_weights__file_of_whole_model_or_tower_gives_the_same_features(tmp_path: Path) -> None:
    network = tower("tiny")
    state = network.module.state_dict()
    whole = {f"module.visual.{name}": value for name, value in state.items()}
    torch.save({"state_dict": {**whole, "module.logit_scale": torch.ones(())}}, tmp_path / "w.pt")
    torch.save(state, tmp_path / "tower.bin")
    pixels = random_pixels(1, 32)
    expected = run(network, pixels)["cls"]
    for name in ("w.pt", "tower.bin"):
        backbone = OpenCLIPBackbone("tiny", str(tmp_path / name))
        assert backbone.name == f"open_clip:tiny/{name}"
        np.testing.assert_array_equal(backbone.submit(pixels)()["cls"], expected)


@pytest.mark.parametrize(
    ("model", "other"),
    [("ViT-B-32", "ViT-B-32-quickgelu"), ("ViT-L-14", "ViT-L-14-quickgelu")],
)
def test_weights__of_another_activation_are_refused(model: str, other: str) -> None:
    with pytest.raises(ConfigError, match=f"QuickGELU.*use 'open_clip:{other}/openai'"):
        OpenCLIPBackbone(model, "openai")


def test_weights__must_be_named_when_there_are_several() -> None:
    with pytest.raises(ConfigError, match=r"must be named, as 'ViT-B-32/<weights>'.*openai"):
        OpenCLIPBackbone("ViT-B-32")


def test_names__unknown_ones_are_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"unknown open_clip model 'ViT-B-33'.*'ViT-B-32'"):
        OpenCLIPBackbone("ViT-B-33", "random")
    with pytest.raises(ConfigError, match=r"unknown pretrained tag.*'openay'.*'openai'"):
        OpenCLIPBackbone("ViT-B-32", "openay")


def test_weights__failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no network")

    monkeypatch.setattr(open_clip, "create_model", unreachable)
    with pytest.raises(FeatstoreError, match=r"no network.*pass a local checkpoint"):
        OpenCLIPBackbone("ViT-B-32-quickgelu", "openai")


def test_weights__a_tag_is_loaded_through_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    whole = open_clip.model.CLIP(24, VISION, TEXT)
    monkeypatch.setattr(open_clip, "list_pretrained_tags_by_model", lambda _: ["ours"])
    monkeypatch.setattr(open_clip, "create_model", lambda _, pretrained: whole)
    backbone = OpenCLIPBackbone("tiny")
    assert backbone.name == "open_clip:tiny/ours"


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


def test_vit_b_32__own_forward_equals_the_stock_model() -> None:
    network = load_open_clip("ViT-B-32", "random", None)
    visual: Any = network.module
    pixels = random_pixels(2, 224)
    outputs, final = read_stock(network, visual.transformer.resblocks, pixels)
    found = run(network, pixels)
    for i, tokens in enumerate(outputs):
        assert relative_error(found["cls"][:, i], tokens[:, 0]) < ROUNDING
    assert relative_error(found["proj"][:, 0], final) < ROUNDING


def test_import__does_not_load_torch() -> None:
    code = "import sys, featstore.backbones; print({'torch', 'timm', 'open_clip'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
