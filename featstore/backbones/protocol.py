"""What extraction needs of a backbone, whatever its family."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from featstore.images.preprocess import Preprocess

Features = Mapping[str, NDArray[np.floating[Any]]]
"""Array name to values: shape (n_images, n_layers of that array, width)."""


class Layer(NamedTuple):
    """One row of the ``layer`` axis: where in the network a vector is read.

    ``array`` names the Zarr array it is stored in: ``cls`` for the token or pooled features of one
    width, ``cls_<width>`` when a network has stages of several widths, ``proj`` for the embedding.
    """

    name: str
    tap: str
    depth: int
    width: int
    array: str = "cls"


class Backbone(Protocol):
    """What extraction needs of a backbone."""

    name: str
    layers: Sequence[Layer]
    preprocess: Preprocess

    def describe(self) -> dict[str, Any]:
        """Return everything that determines the numbers, as JSON types, for the fingerprint."""

    def submit(self, pixels: NDArray[np.uint8]) -> Callable[[], Features]:
        """Start the forward pass of pixels (n_images, crop, crop, 3); calling the result waits."""
