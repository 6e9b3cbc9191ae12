"""What the names of models and weights load, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
from safetensors.torch import save_file
from support.networks import (
    random_pixels,
    run,
)
from support.tiny_towers import TEXT, VISION, register, tower

from featstore.backbones.openclip import OpenCLIPBackbone
from featstore.backbones.timm_models import TimmBackbone, load_timm, trunk_points
from featstore.backbones.weights import seeded
from featstore.errors import ConfigError, FeatstoreError
from featstore.images.preprocess import Preprocess


@pytest.fixture(scope="module", autouse=True)
def _tiny_towers(tmp_path_factory: pytest.TempPathFactory) -> None:
    register(tmp_path_factory.mktemp("towers"))


def test_open_clip_preprocess__is_that_of_the_pretrained_tags() -> None:
    assert OpenCLIPBackbone("ViT-S-32", "random").preprocess == Preprocess(
        crop=224, resize_mode="shortest", resize=224, interpolation="bicubic", convert="after"
    )


def test_open_clip_preprocess__of_another_size_is_refused() -> None:
    native = Preprocess(crop=32)
    assert OpenCLIPBackbone("tiny", "random", preprocess=native).preprocess is native
    with pytest.raises(ConfigError, match="must be 32, the input size of 'tiny', got 48"):
        OpenCLIPBackbone("tiny", "random", preprocess=Preprocess(crop=48))


def test_open_clip_weights__file_of_whole_model_or_tower_gives_the_same_features(
    tmp_path: Path,
) -> None:
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
def test_open_clip_weights__of_another_activation_are_refused(model: str, other: str) -> None:
    with pytest.raises(ConfigError, match=f"QuickGELU.*use 'open_clip:{other}/openai'"):
        OpenCLIPBackbone(model, "openai")


def test_open_clip_weights__must_be_named_when_there_are_several() -> None:
    with pytest.raises(ConfigError, match=r"must be named, as 'ViT-B-32/<weights>'.*openai"):
        OpenCLIPBackbone("ViT-B-32")


def test_open_clip_names__unknown_ones_are_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"unknown open_clip model 'ViT-B-33'.*'ViT-B-32'"):
        OpenCLIPBackbone("ViT-B-33", "random")
    with pytest.raises(ConfigError, match=r"unknown pretrained tag.*'openay'.*'openai'"):
        OpenCLIPBackbone("ViT-B-32", "openay")


def test_open_clip_weights__failed_download_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unreachable(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no network")

    monkeypatch.setattr(open_clip, "create_model", unreachable)
    with pytest.raises(FeatstoreError, match=r"no network.*pass a local checkpoint"):
        OpenCLIPBackbone("ViT-B-32-quickgelu", "openai")


def test_open_clip_weights__a_tag_is_loaded_through_the_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(3)
    whole = open_clip.model.CLIP(24, VISION, TEXT)
    monkeypatch.setattr(open_clip, "list_pretrained_tags_by_model", lambda _: ["ours"])
    monkeypatch.setattr(open_clip, "create_model", lambda _, pretrained: whole)
    backbone = OpenCLIPBackbone("tiny")
    assert backbone.name == "open_clip:tiny/ours"


def test_timm_preprocess__equals_timm_s_evaluation_transform() -> None:
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


def test_timm_preprocess__that_pads_is_refused() -> None:
    from featstore.backbones.timm_models import _preprocess

    with pytest.raises(ConfigError, match="must crop by 'center' or 'squash'"):
        _preprocess({"crop_mode": "border", "interpolation": "bicubic", "crop_pct": 1.0}, 224)


def test_timm_weights__classifier_of_a_checkpoint_is_ignored(tmp_path: Path) -> None:
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


def test_timm_weights__default_is_the_library_s_tag(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_timm_weights__of_another_activation_are_refused() -> None:
    twin = "timm:vit_large_patch14_clip_quickgelu_224.openai"
    with pytest.raises(ConfigError, match=f"QuickGELU; use '{twin}'"):
        TimmBackbone("vit_large_patch14_clip_224.openai")


def test_timm_weights__failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> Any:
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(FeatstoreError, match=r"no network.*pass a local checkpoint"):
        TimmBackbone("test_vit")


def test_timm_weights__model_without_pretrained_weights_needs_a_file() -> None:
    with pytest.raises(ConfigError, match="weights of model 'vit_base_patch16_gap_224' must be"):
        TimmBackbone("vit_base_patch16_gap_224")


def test_timm_names__unknown_ones_are_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"unknown timm model 'resnet19'.*'resnet18'"):
        TimmBackbone("resnet19")
    with pytest.raises(ConfigError, match=r"unknown pretrained tag of 'test_vit' 'r160'"):
        TimmBackbone("test_vit.r160")
