"""Which rows an episode learns from, and which it may be judged on."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featstore.errors import ConfigError
from heads.few_shot.episodes import (
    apart,
    fiser_support,
    linked_units,
    plan_episodes,
    require_enough,
)

NAMES = ["real", "sdxl", "glide"]


@st.composite
def archives(draw: st.DrawFn) -> pd.DataFrame:
    """Rows with generators, copies of images, and pairs that may cross generators."""
    n_rows = draw(st.integers(12, 40))
    rows = st.lists(st.integers(0, n_rows), min_size=n_rows, max_size=n_rows)
    images, pairs = draw(rows), draw(rows)
    groups = draw(st.lists(st.integers(0, 2), min_size=n_rows, max_size=n_rows))
    return pd.DataFrame(
        {
            "group": groups,
            "image": images,
            "sample_id": [f"image {i}" for i in images],
            "dataset": draw(st.lists(st.integers(0, 1), min_size=n_rows, max_size=n_rows)),
            "pair": [pair if pair % 3 else -1 for pair in pairs],
        }
    )


def enough(rows: pd.DataFrame) -> int:
    """Return the most shots that every group of the rows has."""
    return int(rows.drop_duplicates(["group", "image"])["group"].value_counts().min())


@given(archives(), st.integers(0, 2**31))
def test_plan_episodes__exact_numbers_of_different_images(rows: pd.DataFrame, seed: int) -> None:
    most = enough(rows)
    groups, images = rows["group"].to_numpy(), rows["image"].to_numpy()
    for episode in plan_episodes(groups, images, most=most, n_episodes=3, seed=seed):
        for shots in range(1, most + 1):
            support = rows.iloc[episode.support(shots)]
            assert support["group"].value_counts().eq(shots).all()
            assert set(support["group"]) == set(rows["group"])
            assert not support.duplicated(["group", "image"]).any()


@given(archives(), st.integers(0, 2**31))
def test_apart__nothing_shared_with_the_support(rows: pd.DataFrame, seed: int) -> None:
    """No copy, no aligned image and no chain of both, found by walking over all rows."""
    groups, images = rows["group"].to_numpy(), rows["image"].to_numpy()
    units, again = linked_units(rows, rows)
    np.testing.assert_array_equal(units, again)
    (episode,) = plan_episodes(groups, images, most=1, n_episodes=1, seed=seed)
    support = episode.support(1)
    linked: set[int] = set()
    grown = set(support.tolist())
    while linked != grown:
        linked = grown
        known = rows.iloc[sorted(linked)]
        images = set(known["sample_id"])
        pairs = {(d, p) for d, p in zip(known["dataset"], known["pair"], strict=True) if p >= 0}
        grown = linked | {
            row.Index
            for row in rows.itertuples()
            if row.sample_id in images or (row.dataset, row.pair) in pairs
        }
    assert set(np.flatnonzero(~apart(units, units[support])).tolist()) == linked


def test_plan_episodes__without_copies_they_are_fiser_s(rng) -> None:
    groups = rng.integers(0, 3, 60)
    episodes = plan_episodes(groups, np.arange(60), most=8, n_episodes=4, seed=11)
    for number, episode in enumerate(episodes):
        assert episode.seed == 11 + number
        for shots in (1, 5, 8):
            expected = fiser_support(groups, shots, 11 + number)
            np.testing.assert_array_equal(episode.support(shots), expected)


@pytest.mark.parametrize("seed", [42, 43])
@pytest.mark.parametrize(("kind", "shots"), [("class", 10), ("source", 5)])
def test_fiser_support__published_rows(shared, kind: str, shots: int, seed: int) -> None:
    path: Path = shared("vectors/fiser.npz")
    with np.load(path) as arrays:
        sources = arrays["fs_src"]
        groups = sources if kind == "source" else (sources != 0).astype(int)
        expected = arrays[f"fs_support_{kind}{shots}_s{seed}"]
    np.testing.assert_array_equal(fiser_support(groups, shots, seed), expected)


def test_fiser_support__too_few_rows() -> None:
    with pytest.raises(ValueError, match=r"got 2 for group 1, which has 1"):
        fiser_support(np.array([0, 0, 1]), 2, 0)


def test_require_enough__names_the_groups_and_what_they_have() -> None:
    groups, images = np.array([0, 0, 1, 1, 1, 2]), np.array([0, 1, 2, 2, 2, 3])
    with pytest.raises(ConfigError, match=r"per generator .* 'sdxl' with 1, 'glide' with 1;"):
        require_enough(groups, images, NAMES, most=2, per="generator")
    require_enough(groups, images, NAMES, most=1, per="generator")
