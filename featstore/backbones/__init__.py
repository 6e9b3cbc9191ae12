"""Frozen networks that turn pixels into features; one class per family, looked up in `BACKBONES`.

A backbone name is ``family:model[/weights]``, for instance ``open_clip:ViT-L-14-quickgelu/openai``,
``timm:vit_tiny_patch16_224/weights.safetensors`` or plain ``residual``. Heavy libraries are
imported when a backbone is made, not here.
"""

from typing import Any

from featstore.backbones.openclip import OpenCLIPBackbone
from featstore.backbones.protocol import Backbone, Features, Layer
from featstore.backbones.residual import ResidualBackbone
from featstore.backbones.timm_models import TimmBackbone
from featstore.errors import ConfigError, unknown_name

__all__ = ["BACKBONES", "Backbone", "Features", "Layer", "make_backbone"]

BACKBONES: dict[str, Any] = {
    "open_clip": OpenCLIPBackbone,
    "timm": TimmBackbone,
    "residual": ResidualBackbone,
}


def make_backbone(
    name: str, *, taps: tuple[str, ...] = (), precision: str = "fp32", device: str = "cpu"
) -> Backbone:
    """Load a backbone.

    Parameters
    ----------
    name
        ``family:model[/weights]``; weights are a pretrained tag of the family or a local file, and
        ``random`` or ``random-<seed>`` stand for random initialisation.
    taps
        What is read of every block; the family's default if empty.
    precision
        ``"fp32"``, ``"bf16"`` or ``"fp16"``.
    device
        ``"cpu"`` or a CUDA device.

    Returns
    -------
    Backbone
        Ready for `Backbone.submit`.

    Raises
    ------
    ConfigError
        If the family, model, weights, tap, precision or device does not exist.

    Examples
    --------
    >>> [layer.name for layer in make_backbone("residual:64").layers][:2]
    ['scale.0', 'scale.1']
    """
    family, _, rest = name.partition(":")
    model, _, weights = rest.partition("/")
    if family not in BACKBONES:
        raise ConfigError(unknown_name("backbone family", family, BACKBONES))
    chosen = {"taps": taps} if taps else {}
    backbone: Backbone = BACKBONES[family](
        model, weights, precision=precision, device=device, **chosen
    )
    return backbone
