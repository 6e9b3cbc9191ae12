"""The script that most projects write to extract features: one loop, full token maps, .npy files.

Images come from a `DataLoader` with PIL and open_clip's transform, hooks keep the whole output of
every block in float32, and when all images are done each layer becomes one file and all layers one
packed array beside them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

Forward = Callable[[torch.Tensor], Sequence[np.ndarray]]


class Images(Dataset):
    """Files in sorted order, prepared for the model."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.rglob("*.jpg"))
        self._transform = open_clip.image_transform(224, is_train=False)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Any:
        return self._transform(Image.open(self.paths[number]))


def usual_script(images: Path, out: Path, forward: Forward, batch_size: int, workers: int) -> None:
    """Extract; ``forward`` returns one array (n_images, width) per layer."""
    layers: list[list[np.ndarray]] = []
    for batch in DataLoader(Images(images), batch_size=batch_size, num_workers=workers):
        features = forward(batch)
        layers = layers or [[] for _ in features]
        for rows, values in zip(layers, features, strict=True):
            rows.append(values)
    out.mkdir()
    for number, rows in enumerate(layers):
        np.save(out / f"feature_layer{number}.npy", np.concatenate(rows))
    files = [out / f"feature_layer{number}.npy" for number in range(len(layers))]
    np.save(out / "packed_features.npy", np.concatenate([np.load(file) for file in files], axis=1))


class HookedForward:
    """An open_clip vision transformer whose hooks keep every block's full token map."""

    def __init__(self, visual: torch.nn.Module) -> None:
        self._visual = visual.eval()
        self._maps: dict[int, torch.Tensor] = {}
        for number, module in enumerate([*visual.transformer.resblocks, visual.ln_post]):
            module.register_forward_hook(self._keeper(number))

    def __call__(self, batch: torch.Tensor) -> Sequence[np.ndarray]:
        with torch.no_grad():
            self._visual(batch)
        maps = [self._maps[number] for number in sorted(self._maps)]
        return [kept[:, 0].numpy().copy() if kept.ndim == 3 else kept.numpy() for kept in maps]

    def _keeper(self, number: int) -> Callable[..., None]:
        def keep(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> None:
            self._maps[number] = output.detach().clone()

        return keep
