"""The residual backbone as extraction sees it."""

import json

import numpy as np
import pytest

from featstore.backbones.residual import ResidualBackbone
from featstore.errors import ConfigError
from featstore.images.preprocess import Preprocess

DIRECTION = 1e-4
"""Relative and absolute: a transposed image changes the order of the sums of a float32 FFT."""


@pytest.fixture(scope="module")
def backbone():
    return ResidualBackbone("64")


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (5, 64, 64, 3)).astype(np.uint8)


def test_residual__shape_and_layers_agree_with_describe(backbone, images):
    cls = backbone.submit(images)()["cls"]
    assert cls.dtype == np.float32
    assert cls.shape == (5, len(backbone.layers), backbone.layers[0].width)
    assert [layer.name for layer in backbone.layers] == [f"scale.{s}" for s in range(4)]
    assert {layer.array for layer in backbone.layers} == {"cls"}
    assert {layer.tap for layer in backbone.layers} == set(backbone.describe()["taps"])
    per_filter, rings, peaks = 2 * 9 + 4, backbone.describe()["rings"] + 1, 5
    assert cls.shape[2] == len(backbone.describe()["filters"]) * per_filter + rings + peaks


def test_residual__description_is_json_and_names_the_algorithm(backbone):
    description = backbone.describe()
    assert json.loads(json.dumps(description)) == description
    assert description["algorithm"] >= 1
    assert set(description["versions"]) == {"numpy", "scipy"}


def test_residual__rows_do_not_depend_on_the_batch(backbone, images):
    together = backbone.submit(images)()["cls"]
    alone = [backbone.submit(image[None])()["cls"][0] for image in images]
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(backbone.submit(images[::-1])()["cls"], together[::-1])


def test_residual__is_deterministic(backbone, images):
    images.setflags(write=False)
    again = ResidualBackbone("64").submit(images)()["cls"]
    np.testing.assert_array_equal(backbone.submit(images)()["cls"], again)


def test_residual__result_outlives_a_reused_buffer(backbone, images):
    wait = backbone.submit(images)
    expected = backbone.submit(images.copy())()["cls"]
    images[:] = 0
    np.testing.assert_array_equal(wait()["cls"], expected)


def test_residual__empty_batch_has_no_rows(backbone):
    assert backbone.submit(np.zeros((0, 64, 64, 3), np.uint8))()["cls"].shape == (0, 4, 154)


@pytest.mark.parametrize("value", [0, 1, 128, 255])
def test_residual__is_finite_on_constants(backbone, value):
    cls = backbone.submit(np.full((1, 64, 64, 3), value, np.uint8))()["cls"]
    assert np.isfinite(cls).all()


def test_residual__constants_are_all_alike(backbone):
    black, grey = np.zeros((1, 64, 64, 3), np.uint8), np.full((1, 64, 64, 3), 99, np.uint8)
    np.testing.assert_array_equal(backbone.submit(black)()["cls"], backbone.submit(grey)()["cls"])


def test_residual__is_finite_and_fits_half_precision_on_extreme_images(backbone):
    checkerboard = np.indices((64, 64)).sum(axis=0)[..., None] % 2 * np.full(3, 255)
    padded_pixel = np.zeros((64, 64, 3))
    padded_pixel[32, 32] = 255
    stripes = np.zeros((64, 64, 3))
    stripes[::4] = 255
    images = np.stack([checkerboard, padded_pixel, stripes]).astype(np.uint8)
    assert np.isfinite(backbone.submit(images)()["cls"].astype(np.float16)).all()


def test_residual__brightness_does_not_matter(backbone, images):
    dark = images // 2
    np.testing.assert_array_equal(
        backbone.submit(dark)()["cls"], backbone.submit(dark + np.uint8(100))()["cls"]
    )


def test_residual__no_direction_is_preferred(backbone, images):
    np.testing.assert_allclose(
        backbone.submit(images)()["cls"],
        backbone.submit(images.transpose(0, 2, 1, 3))()["cls"],
        rtol=DIRECTION,
        atol=DIRECTION,
    )


def test_residual__default_is_a_native_centre_crop_of_256():
    backbone = ResidualBackbone()
    assert backbone.preprocess == Preprocess(crop=256)
    assert backbone.name == backbone.describe()["model"] == "residual:256"


def test_residual__takes_the_geometry_given():
    preprocess = Preprocess(crop=64, resize_mode="shortest", resize=80)
    assert ResidualBackbone(preprocess=preprocess).preprocess == preprocess


@pytest.mark.parametrize("model", ["63", "32", "68", "-64", "large", "64.0"])
def test_residual__refuses_an_impossible_crop(model):
    with pytest.raises(ConfigError, match=r"multiple of 8 and at least 64, got "):
        ResidualBackbone(model)


def test_residual__refuses_two_crops():
    with pytest.raises(ConfigError, match="'model' and the crop of 'preprocess' must agree"):
        ResidualBackbone("128", preprocess=Preprocess(crop=64))


@pytest.mark.parametrize(
    "setting",
    [{"weights": "openai"}, {"taps": ("block",)}, {"precision": "bf16"}, {"device": "cuda"}],
)
def test_residual__refuses_what_it_does_not_have(setting):
    (name,) = setting
    with pytest.raises(ConfigError, match=f"'residual' has no {name} to choose"):
        ResidualBackbone("64", **setting)


def test_residual__refuses_images_of_another_size(backbone):
    with pytest.raises(ValueError, match=r"must have shape \(n_images, 64, 64, 3\)"):
        backbone.submit(np.zeros((1, 65, 64, 3), np.uint8))
