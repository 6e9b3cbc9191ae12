"""The demo's images, made on the spot: real photographs and their reconstructions.

The **real** images are tiles of the photographs that the wheels of scikit-image, scikit-learn and
matplotlib carry (nothing is downloaded), split *by photograph*: no scene is both trained and tested
on. The **generated** images are reconstructions of exactly these tiles by three small
autoencoders, trained here on the training tiles (`featstore.demo_autoencoders`).

Read what comes out with care:

- Every tile has its reconstruction, with the same name, size, colour mode and JPEG quality, so that
  none of these tells the two apart. The quality varies from tile to tile, as it does in the wild.
- An autoencoder mostly loses fine detail. A head that separates such aligned pairs is mostly a
  detector of blur, with some knowledge of upsampling patterns; it says nothing about modern
  generators.
- Size of the autoencoders and range of the qualities were set by looking at the scores of the
  `residual` backbone on the test tiles, so that the task is neither trivial nor hopeless. The
  resulting table shows how the tools work; it is no measurement.
- Six of the photographs were JPEG files before, so that their real tiles were compressed twice.
- Seventeen photographs, among them a retina, a tissue section and the night sky, are few. Tiles of
  one photograph resemble each other, and intervals over tiles are too narrow.
"""

import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featstore.errors import FeatstoreError, StoreExistsError

TILE = 128
MIN_DEVIATION = 4.0
"""Tiles with a smaller standard deviation in grey levels (empty sky, black frames) are left out."""

LOWEST_QUALITY, HIGHEST_QUALITY = 75, 95

PHOTOGRAPHS = {
    "train": (
        "skimage/data/astronaut.png",
        "skimage/data/camera.png",
        "skimage/data/coffee.png",
        "skimage/data/grass.png",
        "skimage/data/ihc.png",
        "skimage/data/motorcycle_left.png",
        "skimage/data/retina.jpg",
        "sklearn/datasets/images/china.jpg",
    ),
    "val": (
        "skimage/data/chelsea.png",
        "skimage/data/gravel.png",
        "skimage/data/rocket.jpg",
    ),
    "test": (
        "matplotlib/mpl-data/sample_data/grace_hopper.jpg",
        "skimage/data/brick.png",
        "skimage/data/coins.png",
        "skimage/data/hubble_deep_field.jpg",
        "skimage/data/moon.png",
        "sklearn/datasets/images/flower.jpg",
    ),
}
"""Split to files, each below the package that carries it."""

README = """\
Images made for featstore's demo; delete the folder at will.

<split>/<generator>/0_real/<photograph>_<row>_<column>.jpg   tile of a photograph
<split>/<generator>/1_fake/<photograph>_<row>_<column>.jpg   the same tile, reconstructed

The real tiles are the same files under every generator. The reconstructions come from small
autoencoders that were trained on the train split, and differ in how they upsample. A head that
separates the two is mostly a detector of blur; it says nothing about modern generators.

The photographs belong to the packages scikit-image, scikit-learn and matplotlib, whose
documentation names authors and licences. china.jpg (danielbuechele) and flower.jpg (vultilion):
Flickr, CC BY 2.0, tiled and recompressed here.

Photographs by split:
"""


class Tile(NamedTuple):
    """One real tile: its file name, its pixels (128, 128, 3) and how it is encoded."""

    name: str
    pixels: NDArray[np.uint8]
    grey: bool
    quality: int


class DemoImages(NamedTuple):
    """What was made: pairs per split, and mean PSNR in dB of each generator's test tiles."""

    root: Path
    n_pairs: dict[str, int]
    psnr: dict[str, float]


def make_demo_images(
    root: Path,
    *,
    seed: int = 0,
    n_steps: int = 250,
    max_tiles: int = 24,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> DemoImages:
    """Write real tiles and three sets of reconstructions in the layout ``class-folders``.

    Parameters
    ----------
    root
        Folder to create; it appears when all is written.
    seed
        Of the autoencoders and of the JPEG qualities.
    n_steps
        Training steps of each autoencoder, at least 2.
    max_tiles
        Most tiles taken of one photograph, evenly spread over it; positive.
    progress
        Called with the training steps done and their total.

    Returns
    -------
    DemoImages
        The folder, the numbers of pairs and the fidelity of the reconstructions.

    Raises
    ------
    FeatstoreError
        If scikit-image is not installed, or a package does not carry its photograph.
    StoreExistsError
        If `root` exists.

    Notes
    -----
    About 25 s of one core and 6 MB. Global random states are left alone. A killed run leaves a
    hidden folder beside `root`.
    """
    if root.exists():
        raise StoreExistsError(f"{str(root)!r} must not exist; delete it or choose another folder.")
    tiles = _tiles_by_split(seed, max_tiles)

    from featstore.demo_autoencoders import UPSAMPLINGS, reconstruct, train_autoencoder

    pixels = {split: np.stack([tile.pixels for tile in tiles[split]]) for split in tiles}
    n_total = len(UPSAMPLINGS) * n_steps
    steps = iter(range(1, n_total + 1))
    psnr = {}
    root.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{root.name}.", dir=root.parent) as temporary:
        real, work = Path(temporary, "real"), Path(temporary, "images")
        for split in tiles:
            _write(real / split, tiles[split], pixels[split])
        for number, generator in enumerate(UPSAMPLINGS):
            network = train_autoencoder(
                pixels["train"],
                generator,
                seed=seed + number,
                n_steps=n_steps,
                on_step=lambda: progress(next(steps), n_total),
            )
            fakes = {split: reconstruct(network, pixels[split]) for split in tiles}
            for split in tiles:
                _write(work / split / generator / "1_fake", tiles[split], fakes[split])
                _link(real / split, work / split / generator / "0_real")
            psnr[generator] = _psnr(pixels["test"], fakes["test"])
        (work / "README.txt").write_text(_readme(), encoding="utf-8")
        work.rename(root)
    return DemoImages(root, {split: len(tiles[split]) for split in tiles}, psnr)


def _tiles_by_split(seed: int, max_tiles: int) -> dict[str, list[Tile]]:
    rng = np.random.default_rng(seed)
    return {
        split: [tile for file in files for tile in _tiles(_locate(file), max_tiles, rng)]
        for split, files in PHOTOGRAPHS.items()
    }


def _locate(file: str) -> Path:
    package, _, rest = file.partition("/")
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise FeatstoreError(
            f"the demo's photographs need the package {package!r}, which is not installed; "
            'run: pip install "featstore[demo]".'
        )
    path = Path(spec.origin).parent / rest
    if not path.exists():
        raise FeatstoreError(
            f"the installed package {package!r} must carry the photograph {rest!r}, but does not; "
            'run: pip install --upgrade "featstore[demo]".'
        )
    return path


def _tiles(path: Path, max_tiles: int, rng: np.random.Generator) -> list[Tile]:
    with Image.open(path) as image:
        grey = image.mode == "L"
        photograph = np.asarray(image.convert("RGB"))
    rows, columns = (side // TILE for side in photograph.shape[:2])
    grid = photograph[: rows * TILE, : columns * TILE].reshape(rows, TILE, columns, TILE, 3)
    places = [
        (row, column)
        for row in range(rows)
        for column in range(columns)
        if grid[row, :, column].mean(2).std() >= MIN_DEVIATION
    ]
    spread = np.linspace(0, len(places) - 1, min(max_tiles, len(places))).round().astype(int)
    return [
        Tile(
            f"{path.stem}_{row}_{column}.jpg",
            grid[row, :, column],
            grey,
            int(rng.integers(LOWEST_QUALITY, HIGHEST_QUALITY + 1)),
        )
        for row, column in (places[i] for i in spread)
    ]


def _write(folder: Path, tiles: list[Tile], pixels: NDArray[np.uint8]) -> None:
    folder.mkdir(parents=True)
    for tile, values in zip(tiles, pixels, strict=True):
        image = Image.fromarray(values).convert("L" if tile.grey else "RGB")
        image.save(folder / tile.name, "JPEG", quality=tile.quality)


def _link(source: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    for file in sorted(source.iterdir()):
        try:
            os.link(file, folder / file.name)
        except OSError:  # a file system without hard links
            shutil.copyfile(file, folder / file.name)


def _psnr(originals: NDArray[np.uint8], fakes: NDArray[np.uint8]) -> float:
    error = np.square(originals.astype(np.float32) - fakes).mean(axis=(1, 2, 3))
    return float(np.mean(10 * np.log10(255**2 / error)))


def _readme() -> str:
    lines = [f"{split}: {', '.join(files)}" for split, files in PHOTOGRAPHS.items()]
    return README + "\n".join(lines) + "\n"
