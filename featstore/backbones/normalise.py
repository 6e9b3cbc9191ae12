"""Normalisation of 8-bit pixels as a table.

A byte takes 256 values, so normalising an image is a look-up: the same float32 values on every
device, where the compiler of a device may turn a division by 255 into a multiplication.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def normalisation_table(mean: Sequence[float], std: Sequence[float]) -> NDArray[np.float32]:
    """Return what every byte becomes in every channel.

    Parameters
    ----------
    mean, std
        Per channel, of pixels in [0, 1]; `std` positive.

    Returns
    -------
    ndarray of float32, shape (256, n_channels)
        Row v is ``(v / 255 - mean) / std``, each step rounded to float32: bit-equal to
        torchvision's ``ToTensor`` followed by ``Normalize``.

    Examples
    --------
    >>> normalisation_table([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])[[0, 255], 0].tolist()
    [-1.0, 1.0]
    """
    centre: NDArray[np.float32] = np.asarray(mean, np.float32)
    scale: NDArray[np.float32] = np.asarray(std, np.float32)
    levels: NDArray[np.float32] = np.arange(256, dtype=np.float32)[:, None] / np.float32(255)
    return (levels - centre) / scale
