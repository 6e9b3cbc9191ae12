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
        Side in pixels of the square that reaches the backbone, positive; a smaller image is padded
        with zeros (black, or colour 0 of a palette), centred, as torchvision's ``CenterCrop`` does.
    resize_mode
        ``"none"`` (native centre crop), ``"shortest"`` (the shorter side becomes `resize`) or
        ``"squash"`` (both sides become `resize`, the aspect ratio is lost).
    resize
        Target side in pixels, positive; 0 with ``resize_mode="none"``.
    interpolation
        Pillow filter of the resize.
    convert
        Whether the image becomes RGB ``"before"`` the resize (timm) or ``"after"`` the crop
        (open_clip). It matters for palette, grey and transparent images.
    max_pixels
        Images with more pixels, as stored or once resized, are unreadable.

    Raises
    ------
    ValueError
        If `crop` is not positive, or `resize` does not fit `resize_mode`.

    Examples
    --------
    >>> Preprocess(crop=224, resize_mode="shortest", resize=224).resized(500, 375)
    (298, 224)
    """

    crop: int
    resize_mode: Literal["none", "shortest", "squash"] = "none"
    resize: int = 0
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    convert: Literal["before", "after"] = "after"
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if self.crop < 1:
            raise ValueError(f"'crop' must be positive, got {self.crop!r}.")
        if (self.resize_mode == "none") != (self.resize == 0) or self.resize < 0:
            raise ValueError(
                f"'resize' must be 0 with resize_mode='none' and positive otherwise, "
                f"got {self.resize!r} with resize_mode={self.resize_mode!r}."
            )

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Return the size of an image after the resize, before the crop.

        Parameters
        ----------
        width, height
            Size in pixels as stored, positive.

        Returns
        -------
        tuple of int
            Width and height in pixels; the longer side is rounded down, as torchvision does.
        """
        if self.resize_mode == "none":
            return width, height
        if self.resize_mode == "squash":
            return self.resize, self.resize
        longer = int(self.resize * max(width, height) / min(width, height))
        return (self.resize, longer) if width <= height else (longer, self.resize)

    def crop_start(self, side: int) -> int:
        """Return where the crop starts along one side of the resized image.

        Parameters
        ----------
        side
            Length in pixels of that side.

        Returns
        -------
        int
            Offset in pixels, rounded half to even; minus the number of zeros put before the image
            when `side` is smaller than the crop.

        Examples
        --------
        >>> Preprocess(crop=4).crop_start(9), Preprocess(crop=4).crop_start(1)
        (2, -1)
        """
        if side < self.crop:
            return -((self.crop - side) // 2)
        return round((side - self.crop) / 2.0)

    def describe(self) -> dict[str, Any]:
        """Return what goes into the fingerprint: every field, as JSON types."""
        return asdict(self)
