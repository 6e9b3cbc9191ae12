"""Frozen networks that turn pixels into features; one class per family, looked up in `BACKBONES`.

A backbone name is ``family:model[/weights]``, for instance ``open_clip:ViT-L-14-quickgelu/openai``,
``timm:vit_tiny_patch16_224/weights.safetensors`` or plain ``residual``. Heavy libraries are
imported when a backbone is made, not here.
"""

from featstore.backbones.protocol import Backbone, Features, Layer

__all__ = ["Backbone", "Features", "Layer"]
