"""The resize against the installed Pillow's own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from featstore.images import resize
from featstore.images.resize import resize_box

Size = tuple[int, int]
SIDES = st.one_of(st.integers(1, 12), st.integers(1, 400))


def _pixels(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return noise with many extreme values, so that clipping happens."""
    rng = np.random.default_rng(seed)
    return np.clip(rng.normal(128, 160, (height, width, 3)), 0, 255).astype(np.uint8)


def _pillow(pixels: NDArray[np.uint8], *sizes: Size, filter_name: str) -> NDArray[np.uint8]:
    image = Image.fromarray(pixels)
    for size in sizes:
        image = image.resize(size, Image.Resampling[filter_name.upper()])
    return np.asarray(image)


@settings(max_examples=150)
@given(
    st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES), st.sampled_from(["bicubic", "bilinear"]),
    st.tuples(*[st.floats(0, 1)] * 4), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_resize_box__equals_pillow(stored, size, interpolation, corners, seed):
    pixels = _pixels(*stored, seed)
    left, right = sorted(int(corner * size[0]) for corner in corners[:2])
    top, bottom = sorted(int(corner * size[1]) for corner in corners[2:])
    box = (left, top, min(right + 1, size[0]), min(bottom + 1, size[1]))
    box = (min(left, size[0] - 1), min(top, size[1] - 1), *box[2:])
    expected = _pillow(pixels, size, filter_name=interpolation)
    kept = expected[box[1] : box[3], box[0] : box[2]]
    np.testing.assert_array_equal(resize_box(pixels, size, box, interpolation), kept)


@pytest.mark.parametrize(
    ("stored", "size"),
    [
        ((320, 685), (224, 479)),  # more than twice as many rows as columns vanish
        ((320, 512), (224, 320)),  # exactly twice as many
        ((320, 513), (224, 320)),
        ((100, 500), (200, 300)),  # columns grow
        ((100, 500), (200, 501)),  # both grow
        ((500, 100), (224, 224)),
        ((640, 640), (640, 224)),
        ((640, 640), (224, 640)),
    ],
)
def test_resize_box__combines_the_axes_in_the_installed_pillows_order(stored, size):
    pixels = _pixels(*stored)
    expected = _pillow(pixels, size, filter_name="bicubic")
    np.testing.assert_array_equal(resize_box(pixels, size, (0, 0, *size), "bicubic"), expected)


def test_resize_box__combines_columns_first_with_an_older_pillow(monkeypatch):
    monkeypatch.setattr(resize, "PILLOW_CHOOSES_ORDER", False)
    pixels = _pixels(320, 685)
    one_by_one = _pillow(pixels, (224, 685), (224, 479), filter_name="bicubic")
    result = resize_box(pixels, (224, 479), (0, 0, 224, 479), "bicubic")
    np.testing.assert_array_equal(result, one_by_one)


def test_resize_box__of_the_same_size_changes_nothing():
    pixels = _pixels(31, 17)
    np.testing.assert_array_equal(resize_box(pixels, (31, 17), (0, 0, 31, 17), "bicubic"), pixels)


def test_resize_box__halving_bilinearly_weighs_one_three_three_one():
    """The triangle of radius 2 at distances 1.5, 0.5, 0.5, 1.5, away from the border."""
    row = np.array([8, 80, 16, 160, 24, 240], np.uint8)
    pixels = np.ascontiguousarray(np.broadcast_to(row[None, :, None], (2, 6, 3)))
    expected = int((80 + 3 * 16 + 3 * 160 + 24) / 8 + 0.5)
    assert resize_box(pixels, (3, 1), (1, 0, 2, 1), "bilinear")[0, 0, 0] == expected


def test_resize_box__accepts_read_only_pixels():
    pixels = _pixels(20, 30)
    expected = resize_box(pixels, (10, 10), (0, 0, 10, 10), "bicubic")
    pixels.flags.writeable = False
    np.testing.assert_array_equal(resize_box(pixels, (10, 10), (0, 0, 10, 10), "bicubic"), expected)
