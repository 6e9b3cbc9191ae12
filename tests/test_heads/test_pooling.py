"""Pooling of the scores of several views of the same images."""

import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.special import expit

from featstore.errors import ConfigError
from heads.evaluation.pooling import pool_views


def view(scores: list[float], samples: str = "abc") -> pd.DataFrame:
    return pd.DataFrame({"sample_id": list(samples), "score": scores, "label": 0})


def test_pool_views__averages_logits_then_takes_the_sigmoid() -> None:
    pooled = pool_views([view([1.0, 2.0, -3.0]), view([3.0, 0.0, 0.0])])
    assert pooled["score"].tolist() == [2.0, 1.0, -1.5]
    assert_allclose(pooled["probability"], expit([2.0, 1.0, -1.5]), rtol=1e-15)
    assert pooled["label"].tolist() == [0, 0, 0]


def test_pool_views__finds_samples_in_another_order() -> None:
    pooled = pool_views([view([1.0, 2.0, 3.0], "bca"), view([10.0, 20.0, 30.0], "abc")])
    assert pooled["sample_id"].tolist() == ["b", "c", "a"]
    assert pooled["score"].tolist() == [10.5, 16.0, 6.5]


def test_pool_views__takes_files_that_occur_twice() -> None:
    pooled = pool_views([view([1.0, 2.0, 1.0], "aba"), view([4.0, 3.0, 3.0], "baa")])
    assert pooled["score"].tolist() == [2.0, 3.0, 2.0]


def test_pool_views__leaves_its_input_alone() -> None:
    frames = [view([1.0, 2.0, 3.0]), view([3.0, 2.0, 1.0])]
    pool_views(frames)
    assert frames[0]["score"].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("samples", "text"),
    [
        ("abd", r"differ \(in \['c'\]\)"),
        ("aab", r"differ \(in \['c'\]\)"),
        ("ab", "3 in the first and 2"),
    ],
)
def test_pool_views__refuses_other_samples(samples: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        pool_views([view([1.0, 2.0, 3.0]), view([0.0] * len(samples), samples)])


def test_pool_views__refuses_other_repetitions() -> None:
    with pytest.raises(ConfigError, match="repetitions"):
        pool_views([view([1.0, 1.0, 3.0], "aab"), view([0.0] * 3, "abb")])


def test_pool_views__refuses_no_views() -> None:
    with pytest.raises(ConfigError, match="got none"):
        pool_views([])
