"""From the bytes of an image file to the uint8 square that a backbone sees.

`decode_reference` is the definition: Pillow, in the order of open_clip (resize, centre crop, RGB)
or timm (RGB, resize, centre crop). `decode` gives the same bits sooner, with libjpeg-turbo through
simplejpeg and the resize of `featstore.images.resize`. Defined for every file:

* Only the first frame of an animation or of a multi-page file counts; EXIF rotation is not applied;
  colour profiles are ignored; transparency is dropped by Pillow's conversion to RGB.
* 16-bit grey images are reduced to 8 bits by their high byte, as Pillow does with 16-bit colour,
  instead of clipping everything above 255. 32-bit grey has no such scale: unreadable.
* Truncated files are unreadable, unless they lack no pixel but only the end mark; Pillow's
  ``LOAD_TRUNCATED_IMAGES`` is not set. Other damage (a flipped bit in the coded pixels, a cut
  closed by hand) gives what Pillow makes of it.
* A decompression bomb is refused by the size in its header. The header is read with the format's
  own reader, as ``Image.open`` does after sniffing, but without its check against the process-wide
  ``Image.MAX_IMAGE_PIXELS``, whose warning no thread could silence for itself.
* Pillow's TIFF reader may warn (`UserWarning`) of damaged metadata. Warning filters belong to the
  process: a program that wants silence sets one before it starts threads.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import NamedTuple

import numpy as np
import PIL
import simplejpeg
from numpy.typing import NDArray
from PIL import (  # noqa: F401  (a plugin registers its format when imported)
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    features,
)

from featstore.errors import UnreadableImageError
from featstore.images.preprocess import Preprocess
from featstore.images.resize import resize_box

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "AVIF", "PPM")
"""What is recognised, by content and never by name; a picture with several JPEGs is an ``MPO``."""

READER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
    AssertionError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Warning,
)
"""What Pillow's readers raise on damaged bytes; Pillow names no closed set. A `MemoryError` is not
here: the file may be fine on a larger machine. Warnings are, for a process that raises them."""


class FileFacts(NamedTuple):
    """What a file says about itself, before any resize: bytes, pixels, and Pillow's format name."""

    n_bytes: int
    width: int
    height: int
    format: str


def decode(data: bytes, preprocess: Preprocess, out: NDArray[np.uint8]) -> FileFacts:
    """Decode one image into a square of RGB pixels.

    Parameters
    ----------
    data
        The whole file.
    preprocess
        Geometry of the view.
    out
        Array of shape (crop, crop, 3) that receives the pixels; its content is undefined after an
        error.

    Returns
    -------
    FileFacts
        Size and format of the file.

    Raises
    ------
    UnreadableImageError
        If the file is not a complete image of a known format, or has too many pixels. The message
        is the reason.
    ValueError
        If `out` has the wrong shape or dtype.

    Notes
    -----
    Thread-safe; the GIL is released while JPEGs are decoded and pixels resized. Bit-equal to
    `decode_reference`, and raises exactly when that does: whatever libjpeg-turbo merely warns about
    is left to Pillow to judge.

    Examples
    --------
    >>> file = BytesIO()
    >>> Image.new("RGB", (6, 4), (255, 0, 0)).save(file, "PNG")
    >>> out = np.empty((2, 2, 3), np.uint8)
    >>> decode(file.getvalue(), Preprocess(crop=2), out)._replace(n_bytes=0)
    FileFacts(n_bytes=0, width=6, height=4, format='PNG')
    >>> out[0, 0]
    array([255,   0,   0], dtype=uint8)
    """
    _check_out(out, preprocess)
    image = _open(data, preprocess)
    facts = _facts(data, image)
    pixels = _jpeg_pixels(data, image)
    if pixels is None:
        with _reader_errors("pixels"):
            source = _load(image, preprocess)
            if source.mode not in ("L", "RGB"):
                _official(source, preprocess, out)
                return facts
            pixels = np.asarray(source.convert("RGB"))
    _resize_and_crop(pixels, preprocess, out)
    return facts


def decode_reference(data: bytes, preprocess: Preprocess, out: NDArray[np.uint8]) -> FileFacts:
    """Decode as `decode` does, with Pillow alone: the definition of the right pixels.

    Parameters
    ----------
    data
        The whole file.
    preprocess
        Geometry of the view.
    out
        Array of shape (crop, crop, 3) that receives the pixels.

    Returns
    -------
    FileFacts
        Size and format of the file.

    Raises
    ------
    UnreadableImageError
        As `decode`.
    ValueError
        If `out` has the wrong shape or dtype.

    Examples
    --------
    >>> decode_reference(b"hello", Preprocess(crop=1), np.empty((1, 1, 3), np.uint8))
    Traceback (most recent call last):
    featstore.errors.UnreadableImageError: not an image of a known format
    """
    _check_out(out, preprocess)
    image = _open(data, preprocess)
    facts = _facts(data, image)
    with _reader_errors("pixels"):
        _official(_load(image, preprocess), preprocess, out)
    return facts


def decoder_versions() -> dict[str, str]:
    """Return the versions of everything that decides about pixels.

    Returns
    -------
    dict of str
        Pillow, its libjpeg-turbo, and simplejpeg (which brings its own).

    Examples
    --------
    >>> sorted(decoder_versions())
    ['libjpeg_turbo', 'pillow', 'simplejpeg']
    """
    return {
        "pillow": PIL.__version__,
        "libjpeg_turbo": str(features.version("libjpeg_turbo")),
        "simplejpeg": simplejpeg.__version__,
    }


def _check_out(out: NDArray[np.uint8], preprocess: Preprocess) -> None:
    expected = (preprocess.crop, preprocess.crop, 3)
    if out.shape != expected or out.dtype != np.uint8:
        raise ValueError(f"'out' must be uint8 {expected}, got {out.dtype} {out.shape}.")


@contextmanager
def _reader_errors(what: str) -> Iterator[None]:
    try:
        yield
    except UnreadableImageError:
        raise
    except READER_ERRORS as err:
        cause = str(err) or type(err).__name__
        raise UnreadableImageError(f"truncated or damaged {what}: {cause}") from err


def _facts(data: bytes, image: ImageFile.ImageFile) -> FileFacts:
    return FileFacts(len(data), image.width, image.height, str(image.format))


def _open(data: bytes, preprocess: Preprocess) -> ImageFile.ImageFile:
    """Read the header alone and refuse what is too large."""
    if not data:
        raise UnreadableImageError("empty file")
    readers = (Image.OPEN[name] for name in FORMATS)
    factory = next((make for make, accept in readers if accept and accept(data[:16]) is True), None)
    if factory is None:
        raise UnreadableImageError("not an image of a known format")
    with _reader_errors("header"):
        image = factory(BytesIO(data), "")
    for width, height in (image.size, preprocess.resized(*image.size)):
        if width * height > preprocess.max_pixels:
            raise UnreadableImageError(
                f"{width} x {height} pixels are more than max_pixels={preprocess.max_pixels}"
            )
    return image


def _load(image: ImageFile.ImageFile, preprocess: Preprocess) -> Image.Image:
    """Decode the pixels and give them a mode that Pillow converts to RGB without clipping."""
    image.load()
    loaded: Image.Image = image
    if image.mode in ("I", "F"):
        raise UnreadableImageError(f"32-bit grey pixels (mode {image.mode!r}) have no 8-bit scale")
    if image.mode.startswith("I;16"):
        loaded = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    # Conversion to RGB drops transparency anyway, but translates (or warns about) this entry first.
    loaded.info.pop("transparency", None)
    return loaded.convert("RGB") if preprocess.convert == "before" else loaded


def _official(image: Image.Image, preprocess: Preprocess, out: NDArray[np.uint8]) -> None:
    """Resize, crop and convert with Pillow; `crop` fills with zeros beyond the border."""
    size = preprocess.resized(*image.size)
    if size != image.size:
        image = image.resize(size, Image.Resampling[preprocess.interpolation.upper()])
    left, top = (preprocess.crop_start(side) for side in size)
    box = (left, top, left + preprocess.crop, top + preprocess.crop)
    out[:] = np.asarray(image.crop(box).convert("RGB"))


def _jpeg_pixels(data: bytes, image: ImageFile.ImageFile) -> NDArray[np.uint8] | None:
    """Decode a sound grey, YCbCr or RGB JPEG; None leaves anything else to Pillow."""
    if image.format not in ("JPEG", "MPO") or image.mode not in ("L", "RGB"):
        return None
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except ValueError:
        return None
    return pixels if pixels.shape == (image.height, image.width, 3) else None


def _resize_and_crop(
    pixels: NDArray[np.uint8], preprocess: Preprocess, out: NDArray[np.uint8]
) -> None:
    height, width, _ = pixels.shape
    size = preprocess.resized(width, height)
    left, top = (preprocess.crop_start(side) for side in size)
    # The kept part of the resized image, and where it goes: they differ when zeros surround it.
    box_left, box_top = max(left, 0), max(top, 0)
    box = (
        box_left,
        box_top,
        min(left + preprocess.crop, size[0]),
        min(top + preprocess.crop, size[1]),
    )
    if size == (width, height):
        kept = pixels[box_top : box[3], box_left : box[2]]
    else:
        kept = resize_box(pixels, size, box, preprocess.interpolation)
    out[:] = 0
    out[box_top - top : box[3] - top, box_left - left : box[2] - left] = kept
