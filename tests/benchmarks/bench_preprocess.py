"""From JPEG bytes to the pixels of the backbone, one thread, against open_clip's own transform."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
from benchmarks.paired import interleave, one_thread, report, speed
from benchmarks.photographs import jpegs
from PIL import Image
from torchvision.transforms import Compose

from featstore.backbones.normalise import normalisation_table
from featstore.images.decode import decode
from featstore.images.preprocess import Preprocess

SIDE = 224
MEAN, STD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
PREPROCESS = Preprocess(crop=SIDE, resize_mode="shortest", resize=SIDE)
COLLECTION = Path(__file__).resolve().parents[3] / "shared/data/real_vs_generated"
MOST = 200


def test_photographs() -> None:
    compare("Preprocessing, photographs of 500 x 375, JPEG 4:2:0, one thread", jpegs(200))


def test_collection() -> None:
    """Real and generated images that may lie beside the repository."""
    paths = [path for path in sorted(COLLECTION.rglob("*")) if path.suffix in (".jpg", ".JPEG")]
    if not paths:
        pytest.skip("the collection is not beside the repository")
    files = [path.read_bytes() for path in paths[:: -(-len(paths) // MOST)]]
    compare(f"Preprocessing, {len(files)} files of a collection, one thread", files)


def compare(title: str, files: list[bytes]) -> None:
    official = open_clip.image_transform(SIDE, is_train=False, mean=MEAN, std=STD).transforms
    geometry, whole = Compose(official[:3]), Compose(official)
    table = np.ascontiguousarray(normalisation_table(MEAN, STD).T)
    pixels = np.empty((SIDE, SIDE, 3), np.uint8)

    def ours(data: bytes) -> Any:
        decode(data, PREPROCESS, pixels)
        return pixels

    def ours_normalised(data: bytes) -> Any:
        square = ours(data)
        return np.stack([table[c].take(square[..., c]) for c in range(3)])

    def theirs(data: bytes) -> Any:
        return np.asarray(geometry(Image.open(BytesIO(data))))

    def theirs_normalised(data: bytes) -> Any:
        return whole(Image.open(BytesIO(data))).numpy()

    for data in files:
        np.testing.assert_array_equal(ours(data), theirs(data))
        np.testing.assert_array_equal(ours_normalised(data), theirs_normalised(data))
    sides = (ours, theirs, ours_normalised, theirs_normalised)
    with one_thread():
        timings = interleave(*(lambda side=side: run(side, files) for side in sides), rounds=5)
    size = {"amount": len(files), "unit": "images/s", "wanted": ">= 1.9", "judge_cpu": True}
    report(
        title,
        [
            speed("decode to uint8 | PIL to uint8", *timings[:2], **size),
            speed("decode + table | PIL + ToTensor + Normalize", *timings[2:], **size),
        ],
    )


def run(side: Any, files: list[bytes]) -> None:
    for data in files:
        side(data)
