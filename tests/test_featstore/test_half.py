"""Rounding to the store's precision."""

import numpy as np
import pytest

from featstore.errors import SchemaError
from featstore.half import to_half

LARGEST = 65504.0
FIRST_TOO_LARGE = 65520.0
"""Half way from the largest finite float16 to the next power of two: it rounds to infinity."""


def test_to_half__every_finite_float16_survives() -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]
    for dtype in (np.float16, np.float32, np.float64):
        np.testing.assert_array_equal(
            to_half(finite.astype(dtype), "x").view(np.uint16), finite.view(np.uint16)
        )


def test_to_half__rounds_to_nearest(rng: np.random.Generator) -> None:
    values = rng.normal(size=1000).astype(np.float32)
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = np.sort(every[np.isfinite(every)].astype(np.float64))
    after = np.clip(np.searchsorted(finite, values), 1, len(finite) - 1)
    best = np.minimum(np.abs(finite[after] - values), np.abs(finite[after - 1] - values))
    np.testing.assert_array_equal(np.abs(to_half(values, "x") - values.astype(np.float64)), best)


def test_to_half__float16_is_not_copied() -> None:
    values = np.ones(3, np.float16)
    assert to_half(values, "x") is values


@pytest.mark.parametrize("dtype", [">f2", ">f4", "<f4"])
def test_to_half__byte_order_and_strides(dtype: str) -> None:
    values = np.arange(12, dtype=dtype).reshape(3, 4)[:, ::2]
    half = to_half(values, "x")
    assert half.dtype == np.dtype("=f2")
    np.testing.assert_array_equal(half, values)


def test_to_half__empty() -> None:
    assert to_half(np.empty((0, 4), np.float32), "x").shape == (0, 4)


@pytest.mark.parametrize("sign", [1, -1])
def test_to_half__limit_of_the_range(sign: int) -> None:
    below = np.nextafter(np.float32(FIRST_TOO_LARGE), np.float32(0)) * np.float32(sign)
    assert to_half(np.array([below]), "x")[0] == sign * LARGEST
    with pytest.raises(SchemaError, match=r"layer 'block.3' .*at most 65504.*got 65520"):
        to_half(np.array([[0, sign * FIRST_TOO_LARGE]], np.float32), "layer 'block.3' of 'a.npy'")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_to_half__not_finite(bad: float, dtype: type) -> None:
    values = np.zeros((4, 5), dtype)
    values[2, 3] = bad
    with pytest.raises(SchemaError, match="must be finite, got 1 of 20 values"):
        to_half(values, "x")
