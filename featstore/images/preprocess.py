"""What happens to an image between its file and the backbone, as data.

A `Preprocess` only says what is to be done; `featstore.images.decode` does it. Normalisation is
not here: pixels travel as uint8 and the backbone normalises them.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

MAX_PIXELS = 178_956_970
"""Images with more pixels than this are refused unread (a decompression bomb), as Pillow does."""


@dataclass(frozen=True)
class Preprocess:
    """The geometry of one view of an image.

    Parameters
    ----------
    crop
        Side in pixels of the square that reaches the backbone; a smaller image is padded with
        black, centred, as torchvision's ``CenterCrop`` does.
    resize_mode
        ``"none"`` (native centre crop), ``"shortest"`` (the shorter side becomes `resize`) or
        ``"squash"`` (both sides become `resize`, the aspect ratio is lost).
    resize
        Target side in pixels; 0 with ``resize_mode="none"``.
    interpolation
        Pillow filter of the resize.
    convert
        Whether the image becomes RGB ``"before"`` the resize (timm) or ``"after"`` the crop
        (open_clip). It matters for palette, grey and transparent images.
    max_pixels
        Images with more pixels are unreadable.
    """

    crop: int
    resize_mode: Literal["none", "shortest", "squash"] = "none"
    resize: int = 0
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    convert: Literal["before", "after"] = "after"
    max_pixels: int = MAX_PIXELS

    def describe(self) -> dict[str, Any]:
        """Return what goes into the fingerprint: every field, as JSON types."""
        return asdict(self)
