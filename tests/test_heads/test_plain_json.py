"""Values that JSON does not have come back equal."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heads.plain_json import decode, encode

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.integers() | st.just("__tuple__"), inner)
    ),
    max_leaves=8,
)


@given(VALUES)
def test_plain_json__gives_back_equal_values_of_equal_types(value: Any) -> None:
    again = decode(json.loads(json.dumps(encode(value, "value"))))
    assert again == value
    assert repr(again) == repr(value)


@pytest.mark.parametrize("texts", [np.array(["real", "fake"]), np.array(["a", "b"], dtype=object)])
def test_plain_json__gives_back_arrays_of_text(texts: Any) -> None:
    again = decode(json.loads(json.dumps(encode(texts, "classes_"))))
    assert again.dtype == texts.dtype
    np.testing.assert_array_equal(again, texts)


def test_plain_json__turns_numpy_scalars_into_python_ones() -> None:
    assert encode([np.int64(3), np.float32(0.5), np.bool_(True)], "x") == [3, 0.5, True]


def test_plain_json__names_what_cannot_be_encoded() -> None:
    with pytest.raises(TypeError, match="'rng' must be made of numbers, texts"):
        encode([np.random.default_rng(0)], "rng")
