"""Rounding imported features to float16, refusing those that do not fit."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import SchemaError

_MAGNITUDE, _INFINITY = 0x7FFF, 0x7C00
"""Bits of a float16: all but the sign; at or above the second, a value is infinite or NaN."""


def to_half(values: NDArray[np.floating[Any]], where: str) -> NDArray[np.float16]:
    """Round features to float16, the store's precision, refusing what has no finite float16.

    Parameters
    ----------
    values
        Features of any shape and floating dtype.
    where
        What they are, for the message (``"layer 'block.3'"``).

    Returns
    -------
    ndarray
        The nearest float16 values (IEEE 754, ties to even), same shape; `values` itself where it is
        native float16 already.

    Raises
    ------
    SchemaError
        If a value is NaN or infinite, or so large (65520 and above) that it rounds to infinity.

    Notes
    -----
    Besides the cast one pass over the bits of the result, about 5 % of the cast's time.

    Examples
    --------
    >>> to_half(np.array([0.1, 65504.0]), "layer 'block.0'")
    array([1.00e-01, 6.55e+04], dtype=float16)
    """
    with np.errstate(over="ignore"):
        half = values.astype(np.float16, copy=False)
    if half.size and (half.view(np.uint16) & _MAGNITUDE).max() >= _INFINITY:
        raise SchemaError(_complaint(values, where))
    return half


def _complaint(values: NDArray[np.floating[Any]], where: str) -> str:
    """Say which value does not fit and why."""
    finite = np.isfinite(values)
    if not finite.all():
        return (
            f"{where}: features must be finite, got {np.count_nonzero(~finite)} of {finite.size} "
            "values NaN or infinite; the file is damaged or the network overflowed (try 'fp32')."
        )
    peak = float(np.abs(values).max())
    return (
        f"{where}: features must round to finite float16 (at most 65504 in magnitude), "
        f"got {peak:g}; leave this layer out or scale it before storing."
    )
