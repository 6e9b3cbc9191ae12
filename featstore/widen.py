"""Rows of float16 to float32 while they are gathered, in one pass over memory.

NumPy widens float16 at about 1 GB/s; compiled bit arithmetic is several times faster, and the
result is the same number for every one of the 65,536 values.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(
    "void(uint16[:,::1], int64[::1], uint32[:,::1], float32[:,::1])", nogil=True, cache=True
)
def _widen(rows: Any, index: Any, bits: Any, values: Any) -> None:
    """Fill ``values``, whose bits are ``bits``, row by row."""
    scale = np.float32(2.0**112)  # the exponent bias of float32 less that of float16
    for i in range(index.shape[0]):
        k = index[i]
        for j in range(rows.shape[1]):
            bits[i, j] = np.uint32((np.uint32(rows[k, j]) & np.uint32(0x7FFF)) << np.uint32(13))
        for j in range(rows.shape[1]):
            values[i, j] *= scale  # exact, and turns subnormal float16 into normal float32
        for j in range(rows.shape[1]):
            half = np.uint32(rows[k, j])
            special = np.uint32((half & np.uint32(0x7C00)) == np.uint32(0x7C00))
            bits[i, j] |= np.uint32(special * np.uint32(0x7F800000))
            bits[i, j] |= np.uint32((half & np.uint32(0x8000)) << np.uint32(16))


def gather_float32(rows: NDArray[np.float16], index: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return ``rows[index].astype(float32)``.

    Parameters
    ----------
    rows
        C-contiguous float16 (n, width).
    index
        Row numbers, int64, each in [0, n).

    Returns
    -------
    ndarray
        Float32 (len(index), width), equal bit for bit to NumPy's conversion but for the payload
        of NaN.

    Notes
    -----
    Releases the GIL. The index is not checked.
    """
    out = np.empty((len(index), rows.shape[1]), np.float32)
    _widen(rows.view(np.uint16), index, out.view(np.uint32), out)
    return out
