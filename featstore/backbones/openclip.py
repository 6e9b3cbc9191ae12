"""`OpenCLIPBackbone`: the image towers of open_clip.

Nothing of open_clip or torch is imported before a backbone is made.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from featstore.backbones.taps import Points, ending, stage_points, token_points
from featstore.backbones.timm_models import trunk_activation, trunk_points
from featstore.backbones.torch_backbone import Network, TorchBackbone
from featstore.backbones.weights import (
    WeightSource,
    downloading,
    find_weights,
    load_exactly,
    read_checkpoint,
    seeded,
)
from featstore.errors import ConfigError, unknown_name
from featstore.images.preprocess import Preprocess

if TYPE_CHECKING:
    from featstore.backbones.vit_blocks import Block, ViT

QUICKGELU = "-quickgelu"


class OpenCLIPBackbone(TorchBackbone):
    """The image tower of an open_clip model.

    A vision transformer is read at its CLS token; one without (SigLIP) is averaged over its tokens,
    and its ``ln_post`` is its own pooling. Convolutional towers are averaged over positions, stage
    by stage. ``proj`` is the embedding, not L2-normalised.

    Parameters
    ----------
    model
        As ``open_clip.list_models()`` spells it.
    weights
        A pretrained tag of that model; or a local file, which holds either the whole model or its
        image tower; or ``random`` or ``random-<seed>``. Empty for the model's only tag.
    taps
        Out of ``block``, ``ln_2`` (in front of each block's MLP), ``ln_post`` and ``proj``; if
        empty, all but ``ln_2``.
    precision
        ``"fp32"``; ``"bf16"`` and ``"fp16"`` use half-precision matrix products.
    device
        ``"cpu"``, ``"cuda"`` or ``"cuda:<number>"``.
    preprocess
        Instead of the model's own; its crop must be the model's input size. The pixel
        normalisation remains the model's.

    Raises
    ------
    ConfigError
        If one of these does not exist, or the weights were trained with another activation than
        the model's (QuickGELU).
    FeatstoreError
        If the pretrained weights cannot be downloaded.

    Notes
    -----
    A local file does not say how its images were preprocessed and which activation it was trained
    with. Preprocessing is then that of the model's pretrained tags, or, when these disagree,
    open_clip's default; the activation is the model's: weights of OpenAI need ``…-quickgelu``.
    """

    def __init__(
        self,
        model: str,
        weights: str = "",
        *,
        taps: Sequence[str] = (),
        precision: str = "fp32",
        device: str = "cpu",
        preprocess: Preprocess | None = None,
    ) -> None:
        network = load_open_clip(model, weights, preprocess)
        super().__init__(network, taps=taps, precision=precision, device=device)


def load_open_clip(model: str, weights: str, preprocess: Preprocess | None) -> Network:
    """Load the image tower of an open_clip model; the parameters are `OpenCLIPBackbone`'s."""
    import open_clip
    import timm

    if model not in open_clip.list_models():
        raise ConfigError(unknown_name("open_clip model", model, open_clip.list_models()))
    source = find_weights(weights, open_clip.list_pretrained_tags_by_model(model), model)
    visual = _visual(model, source)
    config = _preprocessing(model, source)
    sides = {visual.image_size} if isinstance(visual.image_size, int) else {*visual.image_size}
    if len(sides) > 1:
        raise ConfigError(f"the input of model {model!r} must be square, is {sorted(sides)}.")
    size = sides.pop()
    points, vit, activation = _read_tower(visual, open_clip.get_model_config(model)["embed_dim"])
    return Network(
        family="open_clip",
        model=model,
        weights=source.label,
        module=visual,
        points=points,
        vit=vit,
        size=size,
        mean=config["mean"],
        std=config["std"],
        preprocess=preprocess or _preprocess(config, size),
        activation=activation,
        versions={"open_clip": open_clip.__version__}
        | ({"timm": timm.__version__} if hasattr(visual, "trunk") else {}),
    )


def _visual(model: str, source: WeightSource) -> Any:
    """Build the image tower and fill it; the text tower is built only if a tag is loaded."""
    import open_clip
    from open_clip.model import CLIPVisionCfg, _build_vision_tower

    config = open_clip.get_model_config(model)
    with seeded(source.seed):
        if source.kind == "tag":
            _check_activation(model, source.label, config)
            with downloading(model, source.label):
                visual = open_clip.create_model(model, pretrained=source.label).visual
        else:
            tower = CLIPVisionCfg(**{**config["vision_cfg"], "timm_model_pretrained": False})
            quick_gelu = config.get("quick_gelu", False)
            visual = _build_vision_tower(config["embed_dim"], tower, quick_gelu)
    visual.output_tokens = False
    if source.kind == "file":
        state = read_checkpoint(source.path)
        tower_state = {
            name.removeprefix("visual."): value
            for name, value in state.items()
            if name.startswith("visual.")
        }
        load_exactly(visual, tower_state or state, source.path)
    return visual


def _check_activation(model: str, tag: str, config: dict[str, Any]) -> None:
    import open_clip

    has = config.get("quick_gelu", False)
    needs = open_clip.get_pretrained_cfg(model, tag).get("quick_gelu", False)
    if has == needs:
        return
    other = model + QUICKGELU if needs else model.removesuffix(QUICKGELU)
    known = other != model and other in open_clip.list_models()
    raise ConfigError(
        f"the weights {tag!r} must run with the activation they were trained with, "
        f"{'QuickGELU' if needs else 'GELU'}, but model {model!r} has the other; "
        + (f"use 'open_clip:{other}/{tag}'." if known else "open_clip has no model for them.")
    )


def _preprocessing(model: str, source: WeightSource) -> dict[str, Any]:
    """Return mean, std, interpolation and resize mode."""
    import open_clip
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    all_tags = open_clip.list_pretrained_tags_by_model(model)
    tags = [source.label] if source.kind == "tag" else all_tags
    found = [
        merge_preprocess_dict(PreprocessCfg(), open_clip.get_pretrained_cfg(model, tag))
        for tag in tags
    ]
    agreed = found and all(config == found[0] for config in found)
    return found[0] if agreed else asdict(PreprocessCfg())


def _preprocess(config: dict[str, Any], size: int) -> Preprocess:
    if config["resize_mode"] not in ("shortest", "squash"):
        raise ConfigError(
            f"the resize mode of the model must be 'shortest' or 'squash', is "
            f"{config['resize_mode']!r}; give 'preprocess'."
        )
    return Preprocess(
        crop=size,
        resize_mode=config["resize_mode"],
        resize=size,
        interpolation="bilinear" if config["interpolation"] == "bilinear" else "bicubic",
        convert="after",
    )


def _read_tower(visual: Any, embed_dim: int) -> "tuple[Points, ViT | None, str]":
    """Return where a tower can be read, its parts if it is plain, and its activation."""
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import VisionTransformer

    if isinstance(visual, TimmModel):
        points = trunk_points(visual.trunk)
        embedding = ending("proj", visual, embed_dim, len(points["block"]))
        return {**points, "proj": [embedding]}, None, trunk_activation(visual.trunk)
    if isinstance(visual, ModifiedResNet):
        layers = [visual.layer1, visual.layer2, visual.layer3, visual.layer4]
        stages = [(layer, layer[-1].bn3.num_features) for layer in layers]
        stem = (visual.avgpool, visual.conv3.out_channels)
        embedding = ending("proj", visual, embed_dim, depth=1 + len(stages))
        return {"block": stage_points([stem, *stages]), "proj": [embedding]}, None, ""
    if isinstance(visual, VisionTransformer) and visual.pool_type != "none":
        activation = str(visual.transformer.resblocks[0].mlp.gelu)
        return _vit_points(visual, embed_dim), _plain_vit(visual), activation
    raise ConfigError(f"image towers of type {type(visual).__name__!r} are not supported.")


def _vit_points(visual: Any, embed_dim: int) -> Points:
    blocks, width = visual.transformer.resblocks, visual.transformer.width
    late_norm = visual.final_ln_after_pool and visual.pool_type != "tok"
    end = ending(
        "ln_post",
        visual.ln_post,
        visual.ln_post.normalized_shape[0],
        len(blocks),
        pooled=late_norm or visual.attn_pool is not None,
    )
    return {
        "block": token_points("block", blocks, width),
        "ln_2": token_points("ln_2", (block.ln_2 for block in blocks), width),
        "ln_post": [end],
        "proj": [ending("proj", visual, embed_dim, len(blocks))],
    }


def _plain_vit(visual: Any) -> "ViT | None":
    from featstore.backbones.vit_blocks import ViT

    blocks = [_plain_block(block) for block in visual.transformer.resblocks]
    plain = visual.attn_pool is None and visual.pool_type == "tok" and visual.proj is not None
    if not plain or None in blocks:
        return None
    return ViT(
        embed=visual._embeds,
        blocks=[block for block in blocks if block is not None],
        final_norm=visual.ln_post,
        project=lambda pooled: pooled @ visual.proj,
    )


def _plain_block(block: Any) -> "Block | None":
    """Return the parts of a block if it does what `vit_blocks.advance` does, and None if not."""
    from open_clip.transformer import ResidualAttentionBlock
    from torch import nn

    from featstore.backbones.vit_blocks import Block, Linear

    if type(block) is not ResidualAttentionBlock or hasattr(block, "ln_1_kv"):
        return None
    attention = block.attn
    if type(attention) is not nn.MultiheadAttention or attention.in_proj_weight is None:
        return None
    if attention.bias_k is not None or attention.add_zero_attn:
        return None
    mlp = block.mlp
    return Block(
        attention_norm=block.ln_1,
        qkv=Linear(attention.in_proj_weight, attention.in_proj_bias),
        heads=attention.num_heads,
        out=Linear(attention.out_proj.weight, attention.out_proj.bias),
        attention_scale=block.ls_1,
        mlp_norm=block.ln_2,
        expand=Linear(mlp.c_fc.weight, mlp.c_fc.bias),
        activation=mlp.gelu,
        contract=Linear(mlp.c_proj.weight, mlp.c_proj.bias),
        mlp_scale=block.ls_2,
    )
