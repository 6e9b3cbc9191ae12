"""The geometry against torchvision's, on images whose pixels name their place."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import CenterCrop, Resize

from featstore.images.preprocess import Preprocess

SIDES = st.integers(1, 300)


@given(SIDES, SIDES, st.integers(1, 40))
def test_resized__equals_torchvision(width, height, target):
    image = Image.new("1", (width, height))
    preprocess = Preprocess(crop=1, resize_mode="shortest", resize=target)
    assert preprocess.resized(width, height) == Resize(target)(image).size


def test_resized__squash_ignores_the_aspect_ratio():
    assert Preprocess(crop=8, resize_mode="squash", resize=9).resized(30, 500) == (9, 9)


@given(SIDES, st.integers(1, 300))
def test_crop_start__equals_torchvision(side, crop):
    places = np.arange(1, side + 1, dtype=np.int32)
    row = np.asarray(CenterCrop((1, crop))(Image.fromarray(places[None, :])))[0]
    start = Preprocess(crop=crop).crop_start(side)
    expected = [x + 1 if 0 <= x < side else 0 for x in range(start, start + crop)]
    np.testing.assert_array_equal(row, expected)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"crop": 0}, "'crop' must be positive, got 0"),
        ({"crop": 8, "resize": 9}, "'resize' must be 0 .* got 9 with resize_mode='none'"),
        ({"crop": 8, "resize_mode": "squash"}, "got 0 with resize_mode='squash'"),
        ({"crop": 8, "resize_mode": "shortest", "resize": -1}, "got -1"),
    ],
)
def test_preprocess__refuses_impossible_sizes(fields, message):
    with pytest.raises(ValueError, match=message):
        Preprocess(**fields)


def test_describe__is_every_field():
    description = Preprocess(crop=8, resize_mode="squash", resize=9).describe()
    assert Preprocess(**description) == Preprocess(crop=8, resize_mode="squash", resize=9)
