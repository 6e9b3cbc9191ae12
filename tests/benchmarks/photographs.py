"""JPEG photographs of the usual size, made from the ones that scikit-image and -learn bring."""

import os
from io import BytesIO
from pathlib import Path

import numpy as np
import skimage
from PIL import Image
from sklearn.datasets import load_sample_images

SIZE = (500, 375)
BUNDLED = (
    "astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "ihc.png",
    "motorcycle_left.png", "motorcycle_right.png", "retina.jpg", "rocket.jpg",
)  # fmt: skip


def sources() -> list[Image.Image]:
    """Return the photographs as they come."""
    folder = Path(skimage.__file__).parent / "data"
    images = [Image.open(folder / name).convert("RGB") for name in BUNDLED]
    return images + [Image.fromarray(pixels) for pixels in load_sample_images().images]


def jpegs(n_images: int) -> list[bytes]:
    """Return crops of 500 x 375, quality 90, chroma halved along both sides; no two are equal."""
    rng = np.random.default_rng(0)
    originals = sources()
    return [_encode(_crop(originals[i % len(originals)], rng)) for i in range(n_images)]


def write_class_folders(root: Path, n_images: int, copies: int = 1) -> None:
    """Write ``0_real`` and ``1_fake`` with half of the images each, each under several names."""
    for number, data in enumerate(jpegs(n_images)):
        folder = root / ("0_real", "1_fake")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        first = folder / f"{number:04d}_0.jpg"
        first.write_bytes(data)
        for copy in range(1, copies):
            os.link(first, folder / f"{number:04d}_{copy}.jpg")


def _crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    largest = min(image.width / SIZE[0], image.height / SIZE[1])
    width, height = (int(side * largest * rng.uniform(0.6, 1)) for side in SIZE)
    left, top = rng.integers(image.width - width + 1), rng.integers(image.height - height + 1)
    box = (left, top, left + width, top + height)
    return image.resize(SIZE, Image.Resampling.LANCZOS, box)


def _encode(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "JPEG", quality=90, subsampling="4:2:0")
    return file.getvalue()
