"""Pictures of a study of continual learning: the matrix R of each way, and scores over time."""

from collections.abc import Collection
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd

from continual.summary import Matrix, best_first, matrices, over_time
from continual.ways import WAY, Way, way_names, ways_of

MOST = 12
"""Ways in a picture."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
"""Told apart by colour-blind people (Okabe, Ito, "Color Universal Design", 2008)."""
LINES, MARKERS = ("-", "--"), "os^Dv"
CELL, PANEL = (0.42, 0.3), (4.6, 3.6)
"""Width and height of a number in a matrix, and of the lines of a base, in inches."""
NARROWEST, WIDEST = 2.2, 13.0
"""Width of one matrix at least, and of all of them side by side at most, in inches."""
LETTER, LINE, GAP, BAR = 0.08, 0.15, 0.45, 0.2
"""Width of a letter, height of a line of a title, what is between matrices, and the width of the
scale of colours, in inches."""
SPREAD = 0.6
"""Part of a step over which the ways of one step are spread, side by side."""
SPAN = 0.05
"""Difference of scores that the scale of colours spans at least."""
DARK = 0.5
"""Place in the scale of colours below which a cell is dark, and its number white."""


def most_telling(scores: pd.DataFrame, metric: str, most: int = MOST) -> list[Way]:
    """Return the ways to draw: the best of every learner, then of every selection, then the rest.

    Parameters
    ----------
    scores
        Table of a study.
    metric
        Column whose AA decides.
    most
        How many ways to return at most.

    Returns
    -------
    list of tuple
        Values of `continual.ways.WAY`, the highest AA first, base by base.
    """
    ways = best_first(scores, metric)
    table = pd.DataFrame(ways, columns=WAY)
    kinds = [["base", "learner"], ["base", "learner", "selection"]]
    worse = [table.groupby(kind).cumcount() for kind in kinds]
    rank = np.where(worse[0] == 0, -1, worse[1])
    first = np.argsort(rank, kind="stable")[:most]
    return [ways[i] for i in sorted(first)]


def plot_matrices(scores: pd.DataFrame, metric: str, path: Path | str) -> None:
    """Draw the mean score after every step on every domain, a panel for each way.

    Parameters
    ----------
    scores
        Table of a study.
    metric
        Column to draw.
    path
        PNG file to write; ways beyond `MOST` are left out, and counted.
    """
    from matplotlib.figure import Figure

    every = matrices(scores, metric)
    ways = most_telling(scores, metric)
    drawn = [every[way] for way in ways]
    n_steps, n_domains = np.max([R.shape for R in drawn], axis=0)
    width = max(CELL[0] * n_domains, NARROWEST)
    names = dict(zip(every, way_names(list(every)), strict=True))
    titles = [fill(names[way], int(width / LETTER)) for way in ways]
    height = CELL[1] * n_steps + LINE * max(title.count("\n") + 1 for title in titles)
    n_rows = -(-len(drawn) // max(1, int(WIDEST / (width + GAP))))
    n_columns = -(-len(drawn) // n_rows)
    size = ((width + GAP) * n_columns + 1.2, (height + GAP) * n_rows + 0.8)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(n_rows, n_columns, squeeze=False)
    low, high = (float(f([f(R) for R in drawn])) for f in (np.nanmin, np.nanmax))
    for axes, R, title in zip(grid.flat, drawn, titles, strict=False):
        image = _draw_matrix(axes, R, min(low, high - SPAN), high)
        axes.set_title(title, fontsize=9)
    for axes in list(grid.flat)[len(drawn) :]:
        axes.set_visible(False)
    bar = figure.colorbar(image, ax=grid, fraction=BAR / size[0], aspect=size[1] / BAR)
    bar.set_label(metric, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    title = f"{metric} on each domain after each step"
    note = _left_out(every, ways)
    figure.suptitle(f"{title}; {note}" if note else title, fontsize=10)
    figure.supxlabel("domain, in the order of learning", fontsize=9)
    figure.supylabel("after step", fontsize=9)
    figure.savefig(path, dpi=150)


def plot_over_time(scores: pd.DataFrame, metric: str, path: Path | str) -> None:
    """Draw the mean over the domains learned so far after each step, a line for each way.

    Parameters
    ----------
    scores
        Table of a study.
    metric
        Column to draw.
    path
        PNG file to write; a panel for each base, bars of the 95 % interval over orders and seeds,
        side by side; ways beyond `MOST` are left out, and counted.
    """
    from matplotlib.figure import Figure

    pooled = scores.assign(base="")
    every = ways_of(pooled)
    ways = most_telling(pooled, metric)
    names = dict(zip(every, way_names(every), strict=True))
    panels = list(over_time(scores, metric).groupby("base", sort=False))
    longest = max(len(names[way]) for way in ways)
    width = PANEL[0] * len(panels) + LETTER * longest + 0.9
    height = max(PANEL[1], 0.21 * len(ways) + 0.9)
    figure = Figure(figsize=(width, height), layout="constrained")
    (grid,) = figure.subplots(1, len(panels), squeeze=False, sharey=True)
    for axes, (base, rows) in zip(grid, panels, strict=True):
        for number, way in enumerate(ways):
            own = rows[(rows[WAY[1:]] == list(way[1:])).all(axis=1)]
            aside = SPREAD * (number - (len(ways) - 1) / 2) / len(ways)
            _draw_line(axes, own, number, names[way], aside)
        steps = np.unique(rows["step"].to_numpy())
        shown = steps[:: -(-len(steps) // 12)]
        axes.set_xticks(shown, shown + 1)
        axes.set_title(str(base), fontsize=9)
        axes.set_xlabel("after step", fontsize=9)
        axes.grid(axis="y", color="0.9", linewidth=0.6)
        axes.tick_params(labelsize=8)
    handles, labels = grid[0].get_legend_handles_labels()
    note = _left_out(every, ways)
    figure.legend(
        handles, labels, loc="outside right upper", fontsize=8, title=note, title_fontsize=8
    )
    grid[0].set_ylabel(f"mean {metric} over the domains\nlearned so far, 95 % interval", fontsize=9)
    figure.savefig(path, dpi=150)


def _draw_matrix(axes: Any, R: Matrix, low: float, high: float) -> Any:
    """Draw one matrix with its numbers."""
    image = axes.imshow(R, cmap="cividis", vmin=low, vmax=high, aspect="auto")
    for step, domain in np.ndindex(R.shape):
        value = R[step, domain]
        ink = "white" if value < low + DARK * (high - low) else "black"
        text = f"{value:.2f}" if np.isfinite(value) else "·"
        axes.text(domain, step, text, ha="center", va="center", fontsize=7.5, color=ink)
    axes.set_xticks(range(R.shape[1]), range(1, R.shape[1] + 1), fontsize=7)
    axes.set_yticks(range(R.shape[0]), range(1, R.shape[0] + 1), fontsize=7)
    axes.tick_params(length=0)
    return image


def _draw_line(axes: Any, rows: pd.DataFrame, number: int, name: str, aside: float) -> None:
    """Draw one way over time with its intervals, a little aside of the steps."""
    colour = COLOURS[number % len(COLOURS)]
    mean, half = rows["score"].to_numpy(), rows["score_half"].fillna(0).to_numpy()
    place = rows["step"].to_numpy() + aside
    ends = np.clip([mean - half, mean + half], 0, 1)
    axes.vlines(place, *ends, color=colour, alpha=0.45, linewidth=1.2)
    axes.plot(
        place,
        mean,
        LINES[number // len(COLOURS) % len(LINES)],
        marker=MARKERS[number % len(MARKERS)],
        markersize=4,
        linewidth=1.4,
        color=colour,
        label=name,
    )


def _left_out(every: Collection[Way], drawn: Collection[Way]) -> str:
    """Return how many ways are not drawn, nothing if all are."""
    left = len(every) - len(drawn)
    return f"{left} more way{'s' if left > 1 else ''} not drawn" if left else ""
