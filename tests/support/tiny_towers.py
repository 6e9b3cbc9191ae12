"""Image towers of open_clip small enough for tests, of every kind that it can configure."""

import json
from pathlib import Path
from typing import Any

import open_clip
from support.networks import randomise

from featstore.backbones.openclip import load_open_clip
from featstore.backbones.torch_backbone import Network

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


def register(folder: Path) -> None:
    """Tell open_clip of the towers; their configurations are written to `folder`."""
    for name, changes in {**PLAIN, **OTHER, **SPECIAL}.items():
        vision = VISION | changes.get("vision_cfg", {})
        config = {"embed_dim": 24, "text_cfg": TEXT} | changes | {"vision_cfg": vision}
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)


def tower(model: str) -> Network:
    """Load a tower and give every parameter a value of its own."""
    network = load_open_clip(model, "random", None)
    randomise(network.module)
    return network
