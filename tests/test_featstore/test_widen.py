import numpy as np

from featstore.widen import gather_float32


def test_gather_float32__every_half_equals_numpy():
    halves = np.arange(65_536, dtype=np.uint16).view(np.float16).reshape(256, 256)
    wide = gather_float32(halves, np.arange(256))
    expected = halves.astype(np.float32)
    np.testing.assert_array_equal(wide, expected)  # NaN equals NaN here, payload aside
    np.testing.assert_array_equal(np.signbit(wide), np.signbit(expected))


def test_gather_float32__takes_rows_in_any_order(rng):
    rows = rng.normal(size=(50, 7)).astype(np.float16)
    index = rng.integers(0, 50, 200)
    np.testing.assert_array_equal(gather_float32(rows, index), rows[index].astype(np.float32))
