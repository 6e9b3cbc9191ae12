"""Pictures of studies: what is drawn, and that no text covers another."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from support.study_scores import simulated_scores

from continual.plots import MOST, most_telling, plot_matrices, plot_over_time
from continual.summary import matrices, over_time

SMALL = simulated_scores().query("learner != 'replay'")
MIDDLE = simulated_scores(
    ("progan", "sdv4", "GAGAvatar", "nersemble", "NHA", "midjourney", "wukong", "vqdm"),
    n_orders=1,
    selections=("hgr", "random", "herding", "k_center", "reservoir", "relevance_only", "leverage"),
)
LARGE = pd.concat(
    simulated_scores(
        base=base,
        n_orders=1,
        keeps=("0.005", "0.01"),
        heads=("lambda_x=300, lambda_y=1100", "lambda_x=900, lambda_y=560"),
    )
    for base in ("sdv4", "progan")
)
STUDIES = {"small": SMALL, "middle": MIDDLE, "large": LARGE}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    figures = []
    save = Figure.savefig

    def keep(figure: Figure, *arguments: Any, **options: Any) -> None:
        save(figure, *arguments, **options)
        figures.append(figure)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def _shown(text: Text) -> bool:
    return text.get_visible() and bool(text.get_text().strip())


@pytest.fixture
def boxes(monkeypatch: pytest.MonkeyPatch) -> dict[Text, Bbox]:
    """Where every text is drawn."""
    found: dict[Text, Bbox] = {}
    draw = Text.draw

    def record(text: Text, renderer: Any) -> None:
        draw(text, renderer)
        found[text] = text.get_window_extent(renderer)

    monkeypatch.setattr(Text, "draw", record)
    return found


@pytest.mark.parametrize("plot", [plot_matrices, plot_over_time])
@pytest.mark.parametrize("study", STUDIES)
def test_pictures__no_text_covers_another(
    tmp_path: Path, boxes: dict[Text, Bbox], plot: Any, study: str
) -> None:
    plot(STUDIES[study], "accuracy", tmp_path / "p.png")
    height, width, _ = imread(tmp_path / "p.png").shape
    shown = [(text.get_text(), box) for text, box in boxes.items() if _shown(text)]
    assert len(shown) > 10
    words, edges = [text for text, _ in shown], np.array([box.extents for _, box in shown])
    low, high = edges[:, None, :2], edges[:, None, 2:]
    covered = ((low < high.swapaxes(0, 1)) & (high > low.swapaxes(0, 1))).all(2)
    pairs = np.argwhere(np.triu(covered, 1))
    assert [(words[i], words[j]) for i, j in pairs] == []
    assert (edges[:, :2] >= 0).all()
    assert (edges[:, 2:] <= [width, height]).all()


def test_plot_matrices__cells_are_the_means(tmp_path: Path, drawn: list[Figure]) -> None:
    plot_matrices(SMALL, "accuracy", tmp_path / "p.png")
    for axes, R in zip(drawn[0].axes, matrices(SMALL, "accuracy").values(), strict=False):
        assert [x.get_text() for x in axes.texts] == [f"{value:.2f}" for value in R.ravel()]
        np.testing.assert_array_equal(axes.images[0].get_array(), R)
    assert [axes.get_title() for axes in drawn[0].axes[:2]] == ["joint", "fine_tune"]


def test_plot_matrices__missing_scores_are_dots(tmp_path: Path, drawn: list[Figure]) -> None:
    unseen = SMALL["accuracy"].where(SMALL["accuracy"] > 0.65)
    plot_matrices(SMALL.assign(accuracy=unseen), "accuracy", tmp_path / "p.png")
    assert [x.get_text() for x in drawn[0].axes[0].texts].count("·") == 3


def test_plot_matrices__equal_scores_are_readable(tmp_path: Path, drawn: list[Figure]) -> None:
    plot_matrices(SMALL.assign(accuracy=1.0), "accuracy", tmp_path / "p.png")
    assert {x.get_color() for x in drawn[0].axes[0].texts} == {"black"}
    image = drawn[0].axes[0].images[0]
    assert image.norm(1.0) == 1


def test_plot_over_time__lines_are_the_means(tmp_path: Path, drawn: list[Figure]) -> None:
    plot_over_time(SMALL, "accuracy", tmp_path / "p.png")
    found = over_time(SMALL, "accuracy").groupby("learner", sort=False)["score"]
    for line, (learner, scores) in zip(drawn[0].axes[0].lines, found, strict=True):
        assert line.get_label() == learner
        np.testing.assert_array_equal(line.get_ydata(), scores)


def test_plot_over_time__a_panel_for_each_base(tmp_path: Path, drawn: list[Figure]) -> None:
    plot_over_time(LARGE, "accuracy", tmp_path / "p.png")
    assert [axes.get_title() for axes in drawn[0].axes] == ["sdv4", "progan"]
    assert [len(axes.lines) for axes in drawn[0].axes] == [MOST, MOST]


@pytest.mark.parametrize("plot", [plot_matrices, plot_over_time])
def test_pictures__ways_left_out_are_counted(
    tmp_path: Path, drawn: list[Figure], plot: Any
) -> None:
    scores = simulated_scores(n_orders=1, heads=[f"w={w}" for w in range(4)])
    plot(scores, "accuracy", tmp_path / "p.png")
    words = [x.get_text() for x in drawn[0].findobj(Text)]
    assert any(word.endswith("4 more ways not drawn") for word in words)


def test_most_telling__every_learner_and_selection_comes_before_the_next_best() -> None:
    scores = simulated_scores(keeps=("1", "2", "3"), heads=("v", "w"))
    ways = most_telling(scores, "accuracy", 5)
    kinds = [way[1:3] for way in ways]
    assert kinds[:1] == [("joint", "")]
    assert set(kinds) == {
        ("joint", ""),
        ("replay", "hgr"),
        ("replay", "random"),
        ("fine_tune", ""),
    }
    assert len(most_telling(scores, "accuracy")) == MOST


def test_most_telling__every_learner_is_there_however_many_selections_are_better() -> None:
    selections = [f"s{i}" for i in range(2 * MOST)]
    scores = simulated_scores(n_orders=1, seeds=[0], selections=selections)
    found = {way[1] for way in most_telling(scores, "accuracy")}
    assert found == {"joint", "replay", "fine_tune"}
