"""Models of timm against timm's own forward passes."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
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
from featstore.errors import ConfigError, FeatstoreError

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
            "vit_small_patch16_rope_reg1_gap_256",
            img_size=64,
            depth=2,
            embed_dim=48,
            num_heads=3,
            num_classes=0,
            class_token=True,
            global_pool="token",
        )
    loaded = load_timm("test_vit", "random", None)
    network = replace(
        loaded,
        module=net,
        points=trunk_points(net),
        vit=plain_vit(net),
        size=64,
        preprocess=replace(loaded.preprocess, crop=64),
    )
    assert network.vit is None
    check_against_forward_intermediates(network, random_pixels(2, 64))


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
    pixels = random_pixels(33, 224)
    together = backbone.submit(pixels)()["cls"]
    for n_images in (1, 2, 3, 5, 8, 9, 17):
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
    with seeded(0):
        stages = timm.create_model(model, features_only=True).eval()
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


def test_preprocess__equals_timm_s_evaluation_transform() -> None:
    for model in ("test_vit", "resnet18", "vit_base_patch16_siglip_224"):
        config = timm.data.resolve_data_config({}, pretrained_cfg=pretrained_config(model))
        resize, crop = timm.data.create_transform(**config).transforms[:2]
        found = preprocess_of(model)
        squashed = not isinstance(resize.size, int)
        assert found.resize_mode == ("squash" if squashed else "shortest")
        assert found.resize == (resize.size[0] if squashed else resize.size)
        assert found.interpolation == resize.interpolation.value
        assert (found.crop, found.crop) == tuple(crop.size)
        assert found.convert == "before"


def pretrained_config(model: str) -> dict[str, Any]:
    config = timm.get_pretrained_cfg(model)
    assert config is not None
    return config.to_dict()


def preprocess_of(model: str) -> Any:
    from featstore.backbones.timm_models import _preprocess

    config = timm.data.resolve_data_config({}, pretrained_cfg=pretrained_config(model))
    return _preprocess(config, config["input_size"][1])


def test_preprocess__that_pads_is_refused() -> None:
    from featstore.backbones.timm_models import _preprocess

    with pytest.raises(ConfigError, match="must crop by 'center' or 'squash'"):
        _preprocess({"crop_mode": "border", "interpolation": "bicubic", "crop_pct": 1.0}, 224)


def test_weights__classifier_of_a_checkpoint_is_ignored(tmp_path: Path) -> None:
    with seeded(5):
        net = timm.create_model("test_resnet", num_classes=3)
    save_file(net.state_dict(), tmp_path / "tuned.safetensors")
    backbone = TimmBackbone("test_resnet", str(tmp_path / "tuned.safetensors"))
    found = backbone.submit(random_pixels(1, 160))()
    assert found
    assert backbone.name == "timm:test_resnet/tuned.safetensors"
    with seeded(5):
        expected = timm.create_model("test_resnet", num_classes=3)
    network = replace(load_timm("test_resnet", "random", None), module=expected)
    network = replace(network, points=trunk_points(expected))
    for name, rows in run(network, random_pixels(1, 160)).items():
        np.testing.assert_array_equal(rows, found[name])


def test_weights__default_is_the_library_s_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    create = timm.create_model

    def offline(name: str, pretrained: bool, num_classes: int) -> Any:
        asked.append((name, pretrained))
        return create(name, pretrained=False, num_classes=num_classes)

    monkeypatch.setattr(timm, "create_model", offline)
    assert TimmBackbone("test_vit").name == "timm:test_vit/r160_in1k"
    assert TimmBackbone("test_vit.r160_in1k").name == "timm:test_vit/r160_in1k"
    assert TimmBackbone("test_vit", "r160_in1k").name == "timm:test_vit/r160_in1k"
    assert asked == [("test_vit.r160_in1k", True)] * 3


def test_weights__of_another_activation_are_refused() -> None:
    twin = "timm:vit_large_patch14_clip_quickgelu_224.openai"
    with pytest.raises(ConfigError, match=f"QuickGELU; use '{twin}'"):
        TimmBackbone("vit_large_patch14_clip_224.openai")


def test_weights__failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> Any:
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(FeatstoreError, match=r"no network.*pass a local checkpoint"):
        TimmBackbone("test_vit")


def test_weights__model_without_pretrained_weights_needs_a_file() -> None:
    with pytest.raises(ConfigError, match=r"weights of model 'vit_tiny_patch16_384_x'|unknown"):
        TimmBackbone("vit_tiny_patch16_384_x")
    with pytest.raises(ConfigError, match="must be named"):
        TimmBackbone("resnet50c")


def test_names__unknown_ones_are_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"unknown timm model 'resnet19'.*'resnet18'"):
        TimmBackbone("resnet19")
    with pytest.raises(ConfigError, match=r"unknown pretrained tag of 'test_vit' 'r160'"):
        TimmBackbone("test_vit.r160")


def test_models_that_are_neither_transformers_nor_stages__are_refused() -> None:
    with pytest.raises(ConfigError, match=r"timm models of type 'Linear' are not supported"):
        trunk_points(torch.nn.Linear(1, 1))


def test_describe__says_what_determines_the_numbers() -> None:
    described = TimmBackbone("test_vit", "random").describe()
    assert json.loads(json.dumps(described)) == described
    assert described["family"] == "timm"
    assert described["activation"] == "GELU(approximate='none')"
    assert described["image_size"] == 160
    assert set(described["versions"]) == {"torch", "timm"}
