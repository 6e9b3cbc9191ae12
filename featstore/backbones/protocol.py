"""What extraction needs of a backbone, whatever its family."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from featstore.images.preprocess import Preprocess
from featstore.layers import Layer

__all__ = ["Backbone", "Features", "Layer"]

Features = Mapping[str, NDArray[np.floating[Any]]]
"""Array name to values: shape (n_images, n_layers of that array, width)."""


class Backbone(Protocol):
    """What extraction needs of a backbone."""

    name: str
    layers: Sequence[Layer]
    preprocess: Preprocess

    def describe(self) -> dict[str, Any]:
        """Return everything that determines the numbers, as JSON types, for the fingerprint."""

    def submit(self, pixels: NDArray[np.uint8]) -> Callable[[], Features]:
        """Start the forward pass of pixels (n_images, crop, crop, 3); calling the result waits."""
