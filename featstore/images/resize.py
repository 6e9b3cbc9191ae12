"""Pillow's antialiased 8-bit resize, only where the crop keeps it: the same bits, sooner.

The algorithm is convolution resampling in two passes, each of which replaces the samples along one
axis by weighted means. The weights are the interpolation filter, stretched by the scale when the
image shrinks, normalised and rounded to 22 fractional bits; every pass rounds to 8 bits. What a
pass does not need for the crop is not computed, and the columns are combined as rows of strips of
the transposed image, so that all arithmetic runs along contiguous memory.
"""

from math import ceil
from typing import Literal

import numpy as np
import PIL
from numba import boolean, float64, int32, int64, njit, types, uint8
from numpy.typing import NDArray

FRACTION_BITS = 22
STRIP_ROWS = 128
"""Rows transposed at once: a strip of a photograph then stays in the second-level cache."""
PILLOW_CHOOSES_ORDER = int(PIL.__version__.split(".")[0]) >= 13
"""Older versions always combine columns before rows; the 8-bit rounding between shows it."""

_PIXELS = types.Array(uint8, 2, "C", readonly=True)
_STARTS = int32[::1]
_WEIGHTS = int32[:, ::1]


@njit(float64(float64, boolean), nogil=True, cache=True)
def _filter(x: float, cubic: bool) -> float:
    """Cubic convolution of radius 2 with a = -1/2 (Keys, 1981), or the triangle of radius 1."""
    if not cubic:
        return max(1.0 - x, 0.0)
    if x < 1.0:
        return (1.5 * x - 2.5) * x * x + 1.0
    if x < 2.0:
        return (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
    return 0.0


@njit(types.Tuple((_STARTS, _WEIGHTS))(int64, int64, int64, int64, boolean), nogil=True, cache=True)
def _weights(
    n_in: int, n_out: int, first: int, last: int, cubic: bool
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Weights of the outputs `first` to `last` of an axis resized from `n_in` to `n_out`.

    Row i of the table weighs the inputs from ``starts[i]`` on. All rows are equally long and stay
    inside the input; places outside the filter weigh nothing.
    """
    scale = n_in / n_out
    stretch = max(scale, 1.0)
    support = (2.0 if cubic else 1.0) * stretch
    taps = min(n_in, 2 * ceil(support) + 1)
    starts = np.empty(last - first, np.int32)
    table = np.zeros((last - first, taps), np.int32)
    real = np.empty(taps)
    for i in range(last - first):
        centre = (first + i + 0.5) * scale
        low = max(int(centre - support + 0.5), 0)
        high = min(int(centre + support + 0.5), n_in)
        starts[i] = min(low, n_in - taps)
        total = 0.0
        for j in range(low, high):
            weight = _filter(abs((j - centre + 0.5) * (1.0 / stretch)), cubic)
            real[j - low] = weight
            total += weight
        for j in range(low, high):
            scaled = real[j - low] / total * (1 << FRACTION_BITS)
            table[i, j - starts[i]] = int(scaled - 0.5 if scaled < 0 else scaled + 0.5)
    return starts, table


@njit((_PIXELS, _STARTS, _WEIGHTS, uint8[:, ::1]), nogil=True, cache=True)
def _combine_rows(
    rows: NDArray[np.uint8],
    starts: NDArray[np.int32],
    weights: NDArray[np.int32],
    out: NDArray[np.uint8],
) -> None:
    """Write the weighted means of rows, rounded and clipped to 8 bits, into the rows of `out`."""
    length = rows.shape[1]
    # 255 times the sum of absolute weights (below 1.3) fits 31 bits.
    sums = np.empty(length, np.int32)
    for i in range(weights.shape[0]):
        sums[:] = 1 << (FRACTION_BITS - 1)
        for tap in range(weights.shape[1]):
            weight = weights[i, tap]
            row = rows[starts[i] + tap]
            for j in range(length):
                sums[j] += np.int32(weight) * np.int32(row[j])
        for j in range(length):
            out[i, j] = min(max(sums[j] >> FRACTION_BITS, 0), 255)


@njit((_PIXELS, _STARTS, _WEIGHTS, uint8[:, ::1]), nogil=True, cache=True)
def _combine_columns(
    rows: NDArray[np.uint8],
    starts: NDArray[np.int32],
    weights: NDArray[np.int32],
    out: NDArray[np.uint8],
) -> None:
    """Do the same to pixels (three bytes) within every row, by strips of the transposed image."""
    first = starts.min()
    n_columns = starts.max() + weights.shape[1] - first
    for top in range(0, rows.shape[0], STRIP_ROWS):
        n_rows = min(STRIP_ROWS, rows.shape[0] - top)
        strip = np.empty((n_columns, 3 * n_rows), np.uint8)
        for y in range(n_rows):
            for x in range(n_columns):
                for c in range(3):
                    strip[x, 3 * y + c] = rows[top + y, 3 * (first + x) + c]
        combined = np.empty((weights.shape[0], 3 * n_rows), np.uint8)
        _combine_rows(strip, starts - first, weights, combined)
        for y in range(n_rows):
            for x in range(weights.shape[0]):
                for c in range(3):
                    out[top + y, 3 * x + c] = combined[x, 3 * y + c]


def resize_box(
    pixels: NDArray[np.uint8],
    size: tuple[int, int],
    box: tuple[int, int, int, int],
    interpolation: Literal["bicubic", "bilinear"],
) -> NDArray[np.uint8]:
    """Resize an RGB image as Pillow does and return one box of the result.

    Parameters
    ----------
    pixels
        Image of shape (height, width, 3), C-contiguous; may be read-only.
    size
        Width and height in pixels of the whole resized image, positive.
    box
        Left, top, right and bottom of the wanted part, in pixels of the resized image, inside it.
    interpolation
        Filter; both are antialiased when the image shrinks.

    Returns
    -------
    ndarray of uint8
        Shape (bottom - top, right - left, 3), bit-equal to
        ``Image.fromarray(pixels).resize(size, interpolation).crop(box)`` of the installed Pillow.

    Notes
    -----
    O(rows read × columns kept × taps), without the GIL; the weights take
    8 × (input side / output side) × (box side) × 4 bytes at most.

    References
    ----------
    Keys, *Cubic convolution interpolation for digital image processing*, IEEE TASSP 1981; the
    resampling of Pillow and pillow-simd is described in the latter's README. Since Pillow 13 the
    rows are combined first where that shrinks the image much more (python-pillow/Pillow#9549).

    Examples
    --------
    >>> grey = np.full((4, 6, 3), 128, np.uint8)
    >>> resize_box(grey, (3, 2), (1, 0, 3, 2), "bicubic")[..., 0]
    array([[128, 128],
           [128, 128]], dtype=uint8)
    """
    height, width = pixels.shape[:2]
    left, top, right, bottom = box
    cubic = interpolation == "bicubic"
    columns = _weights(width, size[0], left, right, cubic)
    starts, weights = _weights(height, size[1], top, bottom, cubic)
    image = pixels.reshape(height, 3 * width)
    out = np.empty((bottom - top, 3 * (right - left)), np.uint8)
    if PILLOW_CHOOSES_ORDER and height - size[1] > max(2 * (width - size[0]), 0):
        between = np.empty((bottom - top, 3 * width), np.uint8)
        _combine_rows(image, starts, weights, between)
        _combine_columns(between, *columns, out)
    else:
        first, last = starts.min(), starts.max() + weights.shape[1]
        between = np.empty((last - first, 3 * (right - left)), np.uint8)
        _combine_columns(image[first:last], *columns, between)
        _combine_rows(between, starts - first, weights, out)
    return out.reshape(bottom - top, right - left, 3)
