"""A folder of files that real collections contain and loaders trip over."""

import io
import struct
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PHOTO = np.random.default_rng(7).integers(0, 256, (40, 56, 3), np.uint8)
"""Noise of 56 x 40 pixels: any mistake in geometry or colour changes it."""


def encode(image: Image.Image, file_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def photo(mode: str = "RGB") -> Image.Image:
    return Image.fromarray(PHOTO).convert(mode)


def png(width: int, height: int, bit_depth: int, colour_type: int, rows: bytes) -> bytes:
    """Assemble a PNG from the uncompressed rows (each with its filter byte)."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def black_png(side: int) -> bytes:
    """Return a bilevel black square; 30 000 pixels a side compress to about 100 kB."""
    return png(side, side, 1, 0, bytes((1 + (side + 7) // 8) * side))


def palette_with_alpha() -> Image.Image:
    image = photo().quantize(16)
    image.info["transparency"] = bytes(range(0, 256, 16))
    return image


def exif_rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: the camera was held sideways.
    return encode(photo(), "JPEG", exif=exif)


@cache
def odd_images() -> dict[str, tuple[bytes, str]]:
    """Return the content and the expected status of each file."""
    jpeg = encode(photo(), "JPEG")
    frames: dict[str, Any] = {"save_all": True, "append_images": [photo().rotate(180)]}
    grey16 = Image.fromarray(PHOTO[..., 0].astype(np.uint16) * 257)
    readable = {
        "photo.jpg": jpeg,
        "UPPER.JPG": jpeg,
        "a.b.PNG": encode(photo(), "PNG"),
        "grün 1.jpeg": encode(photo("L"), "JPEG"),
        "progressive.jpg": encode(photo(), "JPEG", progressive=True),
        "png_named.jpg": encode(photo(), "PNG"),
        "grey16.png": encode(grey16, "PNG"),
        "palette_alpha.png": encode(palette_with_alpha(), "PNG"),
        "grey_alpha.png": encode(photo("LA"), "PNG"),
        "rgba.png": encode(photo("RGBA"), "PNG"),
        "bilevel.png": encode(photo("1"), "PNG"),
        "cmyk.jpg": encode(photo("CMYK"), "JPEG"),
        "animated.gif": encode(photo(), "GIF", **frames),
        "animated.webp": encode(photo(), "WEBP", lossless=True, **frames),
        "exif_rotated.jpg": exif_rotated(),
        "one_pixel.png": encode(photo().crop((0, 0, 1, 1)), "PNG"),
        "sliver.png": encode(photo().crop((0, 0, 56, 1)), "PNG"),
    }
    unreadable = {
        "truncated.jpg": jpeg[: len(jpeg) * 2 // 3],
        "truncated.png": encode(photo(), "PNG")[:2000],
        "empty.png": b"",
        "text.jpg": b"<html>404 Not Found</html>\n",
        "bomb.png": black_png(30_000),
    }
    return {name: (data, "ok") for name, data in readable.items()} | {
        name: (data, "unreadable") for name, data in unreadable.items()
    }


def write_odd_images(folder: Path) -> dict[str, str]:
    """Write the files and a dangling link; return each name's status, "ok" or "unreadable"."""
    files = odd_images()
    for name, (data, _) in files.items():
        (folder / name).write_bytes(data)
    (folder / "dangling.jpg").symlink_to(folder / "gone.jpg")
    return {name: status for name, (_, status) in files.items()} | {"dangling.jpg": "unreadable"}
