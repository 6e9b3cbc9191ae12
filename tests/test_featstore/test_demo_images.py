"""The demo's images: fair pairs, split by photograph, equal for equal seeds."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from featstore import demo_images
from featstore.demo_autoencoders import UPSAMPLINGS, reconstruct, train_autoencoder
from featstore.demo_images import make_demo_images
from featstore.errors import FeatstoreError, StoreExistsError

TINY = {"n_steps": 2, "max_tiles": 2}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_demo_images(tmp_path_factory.mktemp("demo") / "images", **TINY)


def contents(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def pairs(root):
    for real in sorted(root.glob("*/*/0_real/*")):
        yield real, real.parents[1] / "1_fake" / real.name


def test_demo_images__have_the_layout_class_folders(made):
    folders = {str(p.parent.relative_to(made.root)) for p in made.root.glob("*/*/*/*")}
    assert folders == {
        f"{split}/{generator}/{label}"
        for split in ("train", "val", "test")
        for generator in ("nearest", "transposed", "pixelshuffle")
        for label in ("0_real", "1_fake")
    }


def test_demo_images__no_photograph_is_in_two_splits(made):
    photographs = [
        {p.name.rsplit("_", 2)[0] for p in (made.root / split).rglob("*.jpg")}
        for split in ("train", "val", "test")
    ]
    assert [len(names) for names in photographs] == [8, 3, 6]
    assert not any(a & b for a, b in combinations(photographs, 2))


def test_demo_images__pairs_agree_in_size_mode_and_codec(made):
    for real, fake in pairs(made.root):
        with Image.open(real) as a, Image.open(fake) as b:
            assert (a.format, a.mode, a.size) == (b.format, b.mode, b.size)
            assert a.size == (128, 128)
            assert a.quantization == b.quantization


def test_demo_images__every_real_tile_has_one_reconstruction(made):
    names = {
        label: {(p.parts[-4], p.parts[-3], p.name) for p in made.root.glob(f"*/*/{label}/*")}
        for label in ("0_real", "1_fake")
    }
    assert names["0_real"] == names["1_fake"]
    assert len(names["0_real"]) == 3 * sum(made.n_pairs.values())


def test_demo_images__real_tiles_are_the_same_under_every_generator(made):
    for real in (made.root / "test/nearest/0_real").iterdir():
        for generator in ("transposed", "pixelshuffle"):
            assert (made.root / "test" / generator / "0_real" / real.name).samefile(real)


def test_demo_images__real_tiles_are_the_photograph(made):
    import skimage

    with Image.open(Path(skimage.__file__).parent / "data/coffee.png") as image:
        photograph = np.asarray(image).astype(float)
    for tile in (made.root / "train/nearest/0_real").glob("coffee_*"):
        row, column = (128 * int(number) for number in tile.stem.split("_")[1:])
        with Image.open(tile) as image:
            difference = np.asarray(image) - photograph[row : row + 128, column : column + 128]
        assert np.abs(difference).mean() < 8  # JPEG of quality 75 or more


def test_demo_images__equal_seeds_give_equal_bytes(made, tmp_path):
    again = make_demo_images(tmp_path / "again", **TINY)
    assert contents(again.root) == contents(made.root)
    assert again[1:] == made[1:]


def test_demo_images__global_random_states_are_left_alone(tmp_path):
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    make_demo_images(tmp_path / "images", **TINY)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_demo_images__copies_where_there_are_no_hard_links(tmp_path, monkeypatch):
    def no_links(source, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(demo_images.os, "link", no_links)
    made = make_demo_images(tmp_path / "images", **TINY)
    assert len(list(made.root.rglob("*.jpg"))) == 2 * 3 * sum(made.n_pairs.values())


def test_demo_images__interruption_leaves_nothing(tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_demo_images(tmp_path / "images", **TINY, progress=interrupt)
    assert not list(tmp_path.iterdir())


def test_demo_images__progress_counts_training_steps(tmp_path):
    seen = []
    make_demo_images(tmp_path / "images", **TINY, progress=lambda *at: seen.append(at))
    assert seen == [(step, 6) for step in range(1, 7)]


def test_demo_images__refuse_an_existing_folder(tmp_path):
    with pytest.raises(StoreExistsError, match="must not exist; delete it"):
        make_demo_images(tmp_path, **TINY)


def test_demo_images__say_how_to_install_the_photographs(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_images, "find_spec", lambda name: None)
    with pytest.raises(FeatstoreError, match=r'pip install "featstore\[demo\]"'):
        make_demo_images(tmp_path / "images", **TINY)


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_autoencoder__learns_to_reconstruct(rng, upsampling):
    y, x = np.mgrid[:64, :64]
    crops = np.stack(
        [
            127 + 100 * np.sin(x / a + y / b)[..., None] * [1, 0.9, 0.8]
            for a, b in rng.uniform(4, 9, (4, 2))
        ]
    ).astype(np.uint8)
    errors = []
    for n_steps in (2, 40):
        network = train_autoencoder(crops, upsampling, seed=0, n_steps=n_steps)
        errors.append(np.square(reconstruct(network, crops).astype(float) - crops).mean())
    assert errors[1] < errors[0] / 10


def test_reconstruct__keeps_grey_images_grey(rng):
    crops = np.repeat(rng.integers(0, 256, (2, 64, 64, 1)), 3, axis=3).astype(np.uint8)
    crops[1, 0, 0] = 1, 2, 3
    network = train_autoencoder(crops, "nearest", seed=0, n_steps=2)
    grey, coloured = reconstruct(network, crops)
    assert (grey == grey[..., :1]).all()
    assert not (coloured == coloured[..., :1]).all()
