"""The image towers of open_clip against open_clip's own forward pass and Hugging Face's."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support.networks import (
    ROUNDING,
    normalised,
    random_pixels,
    read_stock,
    relative_error,
    run,
)
from support.tiny_towers import OTHER, PLAIN, register, tower
from torch import nn

from featstore.backbones.openclip import OpenCLIPBackbone, load_open_clip
from featstore.backbones.torch_backbone import Network

ALL_TAPS = ("block", "ln_2", "ln_post", "proj")
BF16, FP16 = 5e-3, 1e-3
"""Relative, of a float32 residual stream with half-precision products, against float64."""

AUTOCAST = 3e-2
"""Relative, with the residual stream in bfloat16 too (8 bits of mantissa)."""


@pytest.fixture(scope="module", autouse=True)
def _tiny_towers(tmp_path_factory: pytest.TempPathFactory) -> None:
    register(tmp_path_factory.mktemp("towers"))


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


def test_vit_b_32__own_forward_equals_the_stock_model() -> None:
    network = load_open_clip("ViT-B-32", "random", None)
    visual: Any = network.module
    pixels = random_pixels(2, 224)
    outputs, final = read_stock(network, visual.transformer.resblocks, pixels)
    found = run(network, pixels)
    for i, tokens in enumerate(outputs):
        assert relative_error(found["cls"][:, i], tokens[:, 0]) < ROUNDING
    assert relative_error(found["proj"][:, 0], final) < ROUNDING
