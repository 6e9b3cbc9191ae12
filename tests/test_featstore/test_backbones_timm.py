"""Models of timm against timm's own forward passes."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
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
from timm.models.vision_transformer import ResPostBlock, VisionTransformer

from featstore.backbones.timm_models import TimmBackbone, load_timm, plain_vit, trunk_points
from featstore.backbones.torch_backbone import Network
from featstore.backbones.weights import seeded
from featstore.errors import ConfigError

Shared = Callable[[str], Path]

BF16, FP16 = 5e-3, 1e-3
"""Relative, of a float32 residual stream with half-precision products, against float64."""

VIT_TINY = "weights/vit_tiny_patch16_224.safetensors"
SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 3}
PLAIN: dict[str, dict[str, Any]] = {
    "plain": {},
    "dinov2": {"init_values": 0.5, "reg_tokens": 2, "dynamic_img_size": True},
    "deit3": {"init_values": 0.5, "no_embed_class": True},
    "clip": {"pre_norm": True, "act_layer": "quick_gelu", "norm_layer": "layernorm"},
    "no bias, RMS norm": {"qkv_bias": False, "norm_layer": "rmsnorm", "drop_path_rate": 0.3},
}
OTHER: dict[str, dict[str, Any]] = {
    "qk norm": {"qk_norm": True},
    "scaled branches": {"scale_attn_norm": True, "scale_mlp_norm": True},
    "differential": {"attn_layer": "diff", "num_heads": 2},
}
AVERAGED: dict[str, dict[str, Any]] = {
    "average": {"class_token": False, "global_pool": "avg", "reg_tokens": 1},
    "attention pooling": {"class_token": False, "global_pool": "map"},
}


def vit(**changes: Any) -> Network:
    """Put a small transformer in the place of a loaded one."""
    with seeded(0):
        net = VisionTransformer(**{**SMALL, "num_classes": 0, **changes})
    randomise(net)
    loaded = load_timm("test_vit", "random", None)
    preprocess = replace(loaded.preprocess, crop=32)
    return replace(
        loaded,
        module=net,
        points=trunk_points(net),
        vit=plain_vit(net),
        size=32,
        preprocess=preprocess,
    )


def stock_rows(network: Network, pixels: Any) -> list[torch.Tensor]:
    """Return the CLS rows of every block, of every norm2, and of the final norm."""
    net: Any = network.module.eval()
    taken = [*net.blocks, *(block.norm2 for block in net.blocks), net.norm]
    outputs, _ = read_stock(network, taken, pixels)
    n_blocks = len(net.blocks)
    in_order = outputs[1 : 2 * n_blocks : 2] + outputs[0 : 2 * n_blocks : 2] + outputs[-1:]
    return [output[:, 0] for output in in_order]


@pytest.mark.parametrize("kind", PLAIN)
def test_own_forward__equals_hooks_on_the_stock_model(kind: str) -> None:
    network = vit(**PLAIN[kind])
    assert network.vit is not None
    pixels = random_pixels(3, 32)
    rows = run(network, pixels, ("block", "ln_2", "ln_post"))["cls"]
    for position, expected in enumerate(stock_rows(network, pixels)):
        assert relative_error(rows[:, position], expected) < ROUNDING


@pytest.mark.parametrize("kind", OTHER)
def test_hooked_forward__equals_hooks_on_the_stock_model(kind: str) -> None:
    network = vit(**OTHER[kind])
    assert network.vit is None
    pixels = random_pixels(3, 32)
    rows = run(network, pixels, ("block", "ln_2", "ln_post"))["cls"]
    for position, expected in enumerate(stock_rows(network, pixels)):
        assert relative_error(rows[:, position], expected) < ROUNDING


def test_hooked_forward__equals_own_forward() -> None:
    network = vit(**PLAIN["dinov2"])
    pixels = random_pixels(3, 32)
    own = run(network, pixels)["cls"]
    assert relative_error(run(replace(network, vit=None), pixels)["cls"], own) < ROUNDING


@pytest.mark.parametrize("kind", AVERAGED)
def test_transformer_without_cls__is_averaged_over_patches(kind: str) -> None:
    network = vit(**AVERAGED[kind])
    net: Any = network.module
    pixels = random_pixels(3, 32)
    outputs, pooled = read_stock(network, net.blocks, pixels)
    rows = run(network, pixels)["cls"]
    for i, tokens in enumerate(outputs):
        assert relative_error(rows[:, i], tokens[:, net.num_reg_tokens :].mean(1)) < ROUNDING
    assert relative_error(rows[:, -1], pooled) < ROUNDING
    assert [p.layer.tap for p in network.points["ln_2"]] == ["ln_2_mean"] * 3


def test_transformer_with_cls_that_pools_the_average__ends_in_its_pooling() -> None:
    network = vit(global_pool="avg")
    pixels = random_pixels(3, 32)
    _, pooled = read_stock(network, [], pixels)
    assert relative_error(run(network, pixels)["cls"][:, -1], pooled) < ROUNDING
    assert network.points["ln_post"][0].layer.tap == "pooled"


def test_post_norm_blocks__have_no_ln_2() -> None:
    network = vit(block_fn=ResPostBlock)
    assert list(network.points) == ["block", "ln_post"]


def test_eva__equals_forward_intermediates() -> None:
    with seeded(0):
        net: Any = timm.create_model(
            "eva02_tiny_patch14_224",
            img_size=56,
            depth=2,
            num_classes=0,
            global_pool="token",
        )
    loaded = load_timm("test_vit", "random", None)
    network = replace(
        loaded,
        module=net,
        points=trunk_points(net),
        vit=plain_vit(net),
        size=56,
        preprocess=replace(loaded.preprocess, crop=56),
    )
    assert network.vit is None
    check_against_forward_intermediates(network, random_pixels(2, 56))


def check_against_forward_intermediates(network: Network, pixels: Any) -> None:
    net: Any = network.module.eval()
    with torch.no_grad():
        final, maps = net.forward_intermediates(
            normalised(pixels, network), output_fmt="NLC", return_prefix_tokens=True, norm=False
        )
    rows = run(network, pixels)["cls"]
    for i, (_, prefix) in enumerate(maps):
        assert relative_error(rows[:, i], prefix[:, 0]) < ROUNDING
    assert relative_error(rows[:, -1], final[:, 0]) < ROUNDING


def test_vit_tiny__trained_weights_equal_forward_intermediates(shared: Shared) -> None:
    network = load_timm("vit_tiny_patch16_224", str(shared(VIT_TINY)), None)
    check_against_forward_intermediates(network, random_pixels(2, 224))


def test_vit_tiny__row_does_not_depend_on_the_batch(shared: Shared) -> None:
    backbone = TimmBackbone("vit_tiny_patch16_224", str(shared(VIT_TINY)))
    pixels = random_pixels(9, 224)
    together = backbone.submit(pixels)()["cls"]
    for n_images in (1, 3, 8):
        alone = backbone.submit(pixels[:n_images])()["cls"]
        np.testing.assert_array_equal(alone, together[:n_images])


@pytest.mark.parametrize(("precision", "bound"), [("bf16", BF16), ("fp16", FP16)])
def test_half_precision__is_close_to_float64(precision: str, bound: float) -> None:
    network = vit(init_values=0.5)
    pixels = random_pixels(8, 32)
    rows = run(network, pixels, ("block", "ln_2", "ln_post"), precision)["cls"]
    network.module.double()
    errors = [
        relative_error(rows[:, position], expected)
        for position, expected in enumerate(stock_rows(network, pixels))
    ]
    assert ROUNDING < max(errors) < bound


@pytest.mark.parametrize(
    "model", ["resnet18", "test_convnext", "test_efficientnet", "test_mambaout"]
)
def test_stages__equal_the_means_of_features_only(model: str) -> None:
    network = load_timm(model, "random", None)
    stages = timm.create_model(model, features_only=True).eval()
    own = network.module.state_dict()
    renamed = {key: re.sub("^(stem|stages)_", r"\1.", key) for key in stages.state_dict()}
    stages.load_state_dict({key: own[name] for key, name in renamed.items()}, strict=True)
    pixels = random_pixels(2, network.size)
    with torch.no_grad():
        maps = stages(normalised(pixels, network))
    spatial = (1, 2) if getattr(network.module, "output_fmt", "") == "NHWC" else (2, 3)
    expected = [output.mean(spatial) for output in maps]
    points = network.points["block"]
    assert [point.layer.name for point in points] == [f"stage.{i}" for i in range(len(expected))]
    arrays = {name: list(rows.swapaxes(0, 1)) for name, rows in run(network, pixels).items()}
    widths = {rows.shape[1] for rows in expected}
    for rows in expected:
        array = f"cls_{rows.shape[1]}" if len(widths) > 1 else "cls"
        assert relative_error(arrays[array].pop(0), rows) < ROUNDING


def test_models_that_are_neither_transformers_nor_stages__are_refused() -> None:
    with pytest.raises(ConfigError, match="'Linear' does not"):
        trunk_points(torch.nn.Linear(1, 1))


def test_hooked_forward__layer_that_is_not_computed_is_refused() -> None:
    network = load_timm("test_resnet", "random", None)
    stages = list(network.points["block"])
    stages[1] = replace(stages[1], module=torch.nn.Identity())
    with pytest.raises(ConfigError, match=r"computed once per forward pass, but \['stage.0', 'st"):
        run(replace(network, points={"block": stages}), random_pixels(1, 160))


def test_hooked_forward__layer_of_another_width_is_refused() -> None:
    network = load_timm("test_resnet", "random", None)
    stage = network.points["block"][2]
    wrong = replace(stage, layer=stage.layer._replace(width=7))
    with pytest.raises(ConfigError, match=r"'stage.2' must give rows of shape \(8, 7\)"):
        run(replace(network, points={"block": [wrong]}), random_pixels(1, 160))


def test_describe__says_what_determines_the_numbers() -> None:
    described = TimmBackbone("test_vit", "random").describe()
    assert json.loads(json.dumps(described)) == described
    assert described["family"] == "timm"
    assert described["activation"] == "GELU(approximate='none')"
    assert described["image_size"] == 160
    assert set(described["versions"]) == {"torch", "timm"}
