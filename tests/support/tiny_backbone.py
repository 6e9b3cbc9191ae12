"""A backbone small enough to run thousands of times: simple statistics of the pixels."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.protocol import Features
from featstore.images.preprocess import Preprocess
from featstore.layers import Layer

SIDE, WIDTH, N_LAYERS = 16, 8, 3


class TinyBackbone:
    """Sums of pixels over strips; ``model`` is a delay per batch in milliseconds."""

    def __init__(self, model: str = "", weights: str = "", **_: Any) -> None:
        self.name = "tiny"
        self._delay = float(model or 0) / 1000
        self.preprocess = Preprocess(crop=SIDE)
        self.layers = [Layer(f"block.{i}", "block", i, WIDTH) for i in range(N_LAYERS)]
        self.layers.append(Layer("proj", "proj", N_LAYERS, 4, "proj"))

    def describe(self) -> dict[str, Any]:
        return {"family": "tiny", "side": SIDE}

    def submit(self, pixels: NDArray[np.uint8]) -> Callable[[], Features]:
        time.sleep(self._delay)
        strips = pixels.reshape(len(pixels), WIDTH, -1).astype(np.float32).mean(axis=2)
        cls = np.stack([strips * (i + 1) for i in range(N_LAYERS)], axis=1)
        return lambda: {"cls": cls, "proj": cls[:, :1, :4]}
