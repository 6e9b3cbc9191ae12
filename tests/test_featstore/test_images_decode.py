"""Decoding: the fast path against Pillow alone, Pillow alone against torchvision, odd files."""

import io
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFile
from support.odd_images import (
    PHOTO,
    black_png,
    encode,
    exif_rotated,
    odd_images,
    palette_with_alpha,
    photo,
    png,
)
from torchvision.transforms import CenterCrop, InterpolationMode, Resize

from featstore.errors import UnreadableImageError
from featstore.images import decode as module
from featstore.images.decode import FileFacts, decode, decode_reference, decoder_versions
from featstore.images.preprocess import Preprocess

Decoded = tuple[FileFacts, NDArray[np.uint8]]

CLIP = Preprocess(crop=224, resize_mode="shortest", resize=224)
NATIVE = Preprocess(crop=224)
SMALL = Preprocess(crop=24)
WHOLE = Preprocess(crop=56)
REFUSED_WITHIN_SECONDS = 0.2
"""Decoding 900 million pixels takes seconds; refusing them takes a millisecond."""


def _run(decoder, data: bytes, view: Preprocess) -> Decoded:
    out = np.full((view.crop, view.crop, 3), 99, np.uint8)
    return decoder(data, view, out), out


def _outcome(decoder, data: bytes, view: Preprocess) -> Decoded | str:
    try:
        return _run(decoder, data, view)
    except UnreadableImageError as err:
        return str(err)


def _assert_both_paths_agree(data: bytes, view: Preprocess) -> Decoded | str:
    fast, reference = _outcome(decode, data, view), _outcome(decode_reference, data, view)
    if isinstance(fast, str) or isinstance(reference, str):
        assert fast == reference
        return fast
    assert fast[0] == reference[0]
    np.testing.assert_array_equal(fast[1], reference[1])
    return fast


def _torchvision(data: bytes, view: Preprocess) -> NDArray[np.uint8]:
    image: Image.Image = Image.open(io.BytesIO(data))
    if view.convert == "before":
        image = image.convert("RGB")
    if view.resize_mode != "none":
        size = view.resize if view.resize_mode == "shortest" else (view.resize, view.resize)
        image = Resize(size, InterpolationMode(view.interpolation))(image)
    return np.asarray(CenterCrop(view.crop)(image).convert("RGB"))


SIDES = st.one_of(st.integers(1, 8), st.integers(1, 150))
SAVED = [
    ("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("RGB", "PNG"), ("L", "PNG"), ("P", "PNG"),
    ("1", "PNG"), ("LA", "PNG"), ("RGBA", "PNG"), ("RGBA", "WEBP"), ("RGB", "BMP"),
    ("CMYK", "TIFF"),
]  # fmt: skip


@st.composite
def files(draw) -> bytes:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pixels = rng.integers(0, 256, (draw(SIDES), draw(SIDES), 3), np.uint8)
    mode, file_format = draw(st.sampled_from(SAVED))
    options = {}
    if file_format == "JPEG":
        options["progressive"] = draw(st.booleans())
        options["quality"] = draw(st.sampled_from([30, 75, 95]))
        if mode == "RGB":
            options["subsampling"] = draw(st.sampled_from([0, 1, 2]))
    return encode(Image.fromarray(pixels).convert(mode), file_format, **options)


@st.composite
def views(draw) -> Preprocess:
    mode = draw(st.sampled_from(["none", "shortest", "squash"]))
    return Preprocess(
        crop=draw(st.integers(1, 70)),
        resize_mode=mode,
        resize=0 if mode == "none" else draw(st.integers(1, 70)),
        interpolation=draw(st.sampled_from(["bicubic", "bilinear"])),
        convert=draw(st.sampled_from(["before", "after"])),
    )


@settings(max_examples=150)
@given(files(), views())
def test_decode__equals_reference_and_torchvision(data, view):
    decoded = _assert_both_paths_agree(data, view)
    np.testing.assert_array_equal(decoded[1], _torchvision(data, view))


@pytest.mark.parametrize("view", [CLIP, NATIVE], ids=["shortest", "native"])
def test_decode__equals_reference_on_photographs(shared, view):
    paths = sorted(
        p for p in shared("data/real_vs_generated").rglob("*") if p.suffix in (".JPEG", ".jpg")
    )
    for path in paths[:: len(paths) // 60]:
        assert not isinstance(_assert_both_paths_agree(path.read_bytes(), view), str)


@pytest.mark.parametrize("name", sorted(odd_images()))
def test_decode__paths_agree_on_odd_files(name):
    data, status = odd_images()[name]
    for view in (CLIP, SMALL, Preprocess(crop=9, resize_mode="squash", resize=9, convert="before")):
        assert isinstance(_assert_both_paths_agree(data, view), str) == (status == "unreadable")


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_decode__refuses_a_jpeg_truncated_anywhere(mode, options):
    data = encode(photo(mode).crop((0, 0, 24, 24)), "JPEG", **options)
    for length in range(3, len(data) - 2, 3):  # without its last two bytes it has all its pixels
        assert "truncated" in _assert_both_paths_agree(data[:length], SMALL)


@pytest.mark.parametrize("file_format", ["PNG", "GIF", "WEBP", "BMP", "PPM", "JPEG2000"])
def test_decode__refuses_other_formats_cut_in_half(file_format):
    data = encode(photo(), file_format)
    assert isinstance(_assert_both_paths_agree(data[: len(data) // 2], SMALL), str)


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=100)
@given(
    st.sampled_from(["photo.jpg", "progressive.jpg", "cmyk.jpg", "a.b.PNG", "palette_alpha.png"]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1),
)
def test_decode__of_flipped_bits_agrees_with_the_reference_or_is_refused(name, flips):
    data = bytearray(odd_images()[name][0])
    for place, bit in flips:
        data[int(place * len(data))] ^= 1 << bit
    _assert_both_paths_agree(bytes(data), SMALL)


@pytest.mark.parametrize(
    "file_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "AVIF", "PPM"]
)
def test_decode__reads_the_format_from_the_content(file_format):
    data = encode(photo(), file_format)
    assert _run(decode, data, SMALL)[0] == FileFacts(len(data), 56, 40, file_format)


def test_decode__of_a_sound_jpeg_does_not_decode_with_pillow(monkeypatch):
    monkeypatch.setattr(module, "_load", None)
    for name in ("photo.jpg", "progressive.jpg", "grün 1.jpeg"):
        _run(decode, odd_images()[name][0], SMALL)


def test_decode__refuses_a_bomb_by_its_header():
    data = black_png(30_000)
    started = time.perf_counter()
    for decoder in (decode, decode_reference):
        with pytest.raises(UnreadableImageError, match="30000 x 30000 pixels are more"):
            _run(decoder, data, SMALL)
    assert time.perf_counter() - started < REFUSED_WITHIN_SECONDS


def test_decode__refuses_what_the_resize_would_blow_up():
    data = encode(Image.new("1", (20_000, 1)), "PNG")
    with pytest.raises(UnreadableImageError, match="4480000 x 224 pixels are more than max_pixels"):
        _run(decode, data, CLIP)


def test_decode__of_a_large_image_within_the_limit_does_not_warn():
    """Pillow would warn from 89 478 486 pixels on; here a warning is an error."""
    assert _run(decode, black_png(9_500), SMALL)[0].width == 9_500


def test_decode__leaves_pillows_settings_alone():
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    assert Image.MAX_IMAGE_PIXELS == 89_478_485


def test_decode__takes_the_high_byte_of_16_bits():
    grey = np.arange(56 * 40, dtype=np.uint16).reshape(40, 56) * 29
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in grey)
    pixels = _run(decode, png(56, 40, 16, 0, rows), Preprocess(crop=40))[1]
    np.testing.assert_array_equal(pixels, np.repeat((grey >> 8)[:, 8:48, None], 3, axis=2))


def test_decode__refuses_grey_of_unknown_scale():
    data = encode(Image.fromarray(PHOTO[..., 0].astype(np.float32)), "TIFF")
    with pytest.raises(UnreadableImageError, match="mode 'F'"):
        _run(decode, data, SMALL)


@pytest.mark.parametrize("name", ["animated.gif", "animated.webp"])
def test_decode__takes_the_first_frame(name):
    data = odd_images()[name][0]
    first = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(_run(decode, data, SMALL)[1], first[8:32, 16:40])


def test_decode__does_not_apply_exif_rotation():
    facts, pixels = _run(decode, exif_rotated(), SMALL)
    assert (facts.width, facts.height) == (56, 40)
    np.testing.assert_array_equal(pixels, _run(decode, encode(photo(), "JPEG"), SMALL)[1])


def test_decode__drops_transparency():
    image = palette_with_alpha()
    opaque = np.asarray(image.convert("RGBA"))[..., :3]
    np.testing.assert_array_equal(_run(decode, encode(image, "PNG"), SMALL)[1], opaque[8:32, 16:40])


def test_decode__centres_a_small_image_in_zeros():
    pixels = _run(decode, encode(photo(), "PNG"), WHOLE)[1]
    np.testing.assert_array_equal(pixels[8:48], PHOTO)
    assert not pixels[:8].any()
    assert not pixels[48:].any()


def test_decode__gives_the_same_in_many_threads():
    files = [odd_images()[name][0] for name in ("photo.jpg", "rgba.png", "progressive.jpg")] * 20
    expected = [_run(decode, data, CLIP)[1] for data in files[:3]] * 20
    with ThreadPoolExecutor(8) as pool:
        for (_, pixels), right in zip(
            pool.map(lambda d: _run(decode, d, CLIP), files), expected, strict=True
        ):
            np.testing.assert_array_equal(pixels, right)


def test_decode__refuses_a_wrong_out():
    with pytest.raises(ValueError, match=r"'out' must be uint8 \(24, 24, 3\), got float64"):
        decode(encode(photo(), "PNG"), SMALL, np.empty((24, 24, 3)))


def test_decoder_versions__are_strings():
    assert all(version.count(".") >= 1 for version in decoder_versions().values())
