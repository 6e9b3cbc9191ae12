"""`TimmBackbone`: image models of timm, and how their parts are found.

Nothing of timm or torch is imported before a backbone is made.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from featstore.backbones.taps import Points, ending, stage_points, token_points
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


class TimmBackbone(TorchBackbone):
    """An image model of timm, without its classifier.

    A vision transformer is read at its CLS token; one without is averaged over its tokens, and its
    ``ln_post`` is its own pooling. Other models must describe their stages (``feature_info``):
    each is averaged over positions, numbered as ``features_only=True`` numbers them.

    Parameters
    ----------
    model
        As ``timm.list_models()`` spells it, with or without ``.tag``.
    weights
        A pretrained tag; a local file of the model, with or without its classifier; or ``random``
        or ``random-<seed>``. Empty for the tag in `model`, or timm's default.
    taps
        Out of ``block``, ``ln_2`` (``norm2``, in front of each block's MLP) and ``ln_post`` (the
        final norm); if empty, all but ``ln_2``.
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
        network = load_timm(model, weights, preprocess)
        super().__init__(network, taps=taps, precision=precision, device=device)


def load_timm(model: str, weights: str, preprocess: Preprocess | None) -> Network:
    """Load a timm model; the parameters are `TimmBackbone`'s."""
    import timm

    architecture, _, tag = model.partition(".")
    if architecture not in timm.list_models():
        raise ConfigError(unknown_name("timm model", architecture, timm.list_models()))
    names = timm.list_pretrained(f"{architecture}.*")
    tags = [name.partition(".")[2] for name in names]
    default = tag or getattr(timm.get_pretrained_cfg(architecture), "tag", "")
    if tag and tag not in tags:
        raise ConfigError(unknown_name(f"pretrained tag of {architecture!r}", tag, tags))
    source = find_weights(weights, tags, architecture, default)
    if source.kind == "tag":
        tag = source.label
    net = _load(f"{architecture}.{tag}" if tag else architecture, source)
    data: Any = timm.data
    config = data.resolve_model_data_config(net)
    _, height, width = config["input_size"]
    if height != width:
        raise ConfigError(f"the input of model {model!r} must be square, is {(height, width)}.")
    return Network(
        family="timm",
        model=architecture if source.kind == "tag" else model,
        weights=source.label,
        module=net,
        points=trunk_points(net),
        vit=plain_vit(net),
        size=height,
        mean=config["mean"],
        std=config["std"],
        preprocess=preprocess or _preprocess(config, height),
        activation=trunk_activation(net),
        versions={"timm": timm.__version__},
    )


def _load(name: str, source: WeightSource) -> Any:
    """Build a model without classifier and fill it."""
    import timm

    with seeded(source.seed):
        if source.kind == "tag":
            _check_activation(name)
            with downloading(name, source.label):
                return timm.create_model(name, pretrained=True, num_classes=0)
        net: Any = timm.create_model(name, pretrained=False, num_classes=0)
    if source.kind == "file":
        classifier = net.pretrained_cfg.get("classifier") or ()
        heads = (classifier,) if isinstance(classifier, str) else classifier
        state = {
            key: value
            for key, value in read_checkpoint(source.path).items()
            if key.rpartition(".")[0] not in heads
        }
        load_exactly(net, state, source.path)
    return net


def _check_activation(name: str) -> None:
    import timm

    twin = name.replace("_clip_", "_clip_quickgelu_")
    if twin != name and "quickgelu" not in name and twin in timm.list_pretrained():
        raise ConfigError(
            f"the weights of {name!r} must run with the activation they were trained with, "
            f"QuickGELU; use 'timm:{twin}'."
        )


def _preprocess(config: dict[str, Any], size: int) -> Preprocess:
    if config["crop_mode"] == "border" or config["interpolation"] not in ("bicubic", "bilinear"):
        raise ConfigError(
            f"the model must crop by 'center' or 'squash' and resize 'bicubic' or 'bilinear', has "
            f"{config['crop_mode']!r} and {config['interpolation']!r}; give 'preprocess'."
        )
    return Preprocess(
        crop=size,
        resize_mode="squash" if config["crop_mode"] == "squash" else "shortest",
        resize=math.floor(size / config["crop_pct"]),
        interpolation=config["interpolation"],
        convert="before",
    )


def trunk_points(net: Any) -> Points:
    """Return where a timm model can be read.

    Parameters
    ----------
    net
        The model.

    Returns
    -------
    dict of str to list of Point
        For transformers ``block``, ``ln_post`` and, if the blocks are pre-norm, ``ln_2``; for
        others ``block``, the stages.

    Raises
    ------
    ConfigError
        If the model is neither a known transformer nor describes its stages.
    """
    from timm.models import beit, eva, vision_transformer

    if isinstance(net, vision_transformer.VisionTransformer | eva.Eva | beit.Beit):
        pre_norm = vision_transformer.Block | eva.EvaBlock | beit.Block
        return _token_points(net, all(isinstance(block, pre_norm) for block in net.blocks))
    try:
        stages = [(net.get_submodule(info["module"]), info["num_chs"]) for info in net.feature_info]
    except (AttributeError, KeyError) as err:
        raise ConfigError(
            f"timm models must be transformers with a known layout or describe their stages; "
            f"{type(net).__name__!r} does not ({err})."
        ) from err
    channels_last = getattr(net, "output_fmt", "NCHW") == "NHWC"
    return {"block": stage_points(stages, channels_last)}


def _token_points(net: Any, pre_norm: bool) -> Points:
    from torch import nn

    blocks, width = net.blocks, net.embed_dim
    skip = net.num_prefix_tokens if net.cls_token is None else None
    pooled = skip is not None or not isinstance(net.fc_norm, nn.Identity)
    norm = net.fc_norm if pooled else net.norm
    norms = [block.norm2 for block in blocks] if pre_norm else []
    inner = {"ln_2": token_points("ln_2", norms, width, skip)} if norms else {}
    return {
        "block": token_points("block", blocks, width, skip),
        **inner,
        "ln_post": [ending("ln_post", norm, width, len(blocks), pooled)],
    }


def trunk_activation(net: Any) -> str:
    """Return the activation of a timm transformer's MLPs, empty for other models."""
    blocks = getattr(net, "blocks", None)
    return str(getattr(getattr(blocks[0], "mlp", None), "act", "")) if blocks else ""


def plain_vit(net: Any) -> "ViT | None":
    """Return the parts of a timm model that our own forward pass can run, and None of others."""
    from timm.models.vision_transformer import VisionTransformer
    from torch import nn

    from featstore.backbones.vit_blocks import ViT

    if type(net) is not VisionTransformer or net.cls_token is None:
        return None
    blocks = [_plain_block(block) for block in net.blocks]
    if None in blocks or not isinstance(net.fc_norm, nn.Identity):
        return None
    return ViT(
        embed=lambda images: net.norm_pre(net._pos_embed(net.patch_embed(images))),
        blocks=[block for block in blocks if block is not None],
        final_norm=net.norm,
        project=nn.Identity(),
    )


def _plain_block(block: Any) -> "Block | None":
    """Return the parts of a block if it does what `vit_blocks.advance` does, and None if not."""
    import timm
    from timm.models.vision_transformer import Block as TimmBlock
    from torch import nn

    from featstore.backbones.vit_blocks import Block, Linear

    layers: Any = timm.layers
    attention: Any = getattr(block, "attn", None)
    mlp: Any = getattr(block, "mlp", None)
    if type(block) is not TimmBlock or type(attention) is not layers.Attention:
        return None
    unused = (attention.q_norm, attention.k_norm, attention.norm, getattr(mlp, "norm", None))
    if type(mlp) is not layers.Mlp or not all(isinstance(part, nn.Identity) for part in unused):
        return None
    gated = getattr(attention, "gate", None) is not None
    if gated or attention.scale != attention.head_dim**-0.5 or not isinstance(mlp.fc1, nn.Linear):
        return None
    return Block(
        attention_norm=block.norm1,
        qkv=Linear(attention.qkv.weight, attention.qkv.bias),
        heads=attention.num_heads,
        out=Linear(attention.proj.weight, attention.proj.bias),
        attention_scale=block.ls1,
        mlp_norm=block.norm2,
        expand=Linear(mlp.fc1.weight, mlp.fc1.bias),
        activation=mlp.act,
        contract=Linear(mlp.fc2.weight, mlp.fc2.bias),
        mlp_scale=block.ls2,
    )
