"""Learning curves: how good a head is after how many images."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from heads.evaluation.thresholds import ORACLE

PANEL = (4.6, 3.8)
"""Width and height of one panel, in inches."""
COLUMNS_AT_MOST = 3
MOST_DOTTED = 6
"""With more curves in a panel, single episodes are not drawn."""
LONGEST_LEGEND = 16
SPREAD = 0.6
"""Room of all curves at one number of shots, in steps from one number to the next."""


def plot_curves(
    chosen: pd.DataFrame, summary: pd.DataFrame, name: str, per: str, path: Path | str
) -> None:
    """Draw the mean of a number over the shots, its 95 % interval, and every episode as a dot.

    Parameters
    ----------
    chosen
        Table from `heads.few_shot.choices.with_choices`.
    summary
        Rows of `heads.few_shot.summary.summarise` to draw: a curve for each head and choice, a
        panel for each dataset.
    name
        The number that is drawn.
    per
        What the shots are counted by.
    path
        PNG file to write.
    """
    from matplotlib.figure import Figure

    panels = list(summary.groupby("dataset", sort=False))
    n_columns = min(len(panels), COLUMNS_AT_MOST)
    n_rows = -(-len(panels) // n_columns)
    figure = Figure(figsize=(PANEL[0] * n_columns, PANEL[1] * n_rows), layout="constrained")
    grid = figure.subplots(n_rows, n_columns, squeeze=False, sharey=True)
    for axes, (dataset, rows) in zip(grid.flat, panels, strict=False):
        _draw_panel(axes, rows, chosen[chosen["dataset"] == dataset], name)
        axes.set_title(str(dataset), fontsize=10)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    columns = -(-len(labels) // LONGEST_LEGEND)
    figure.legend(handles, labels, loc="outside right upper", fontsize=7, ncols=columns)
    figure.supxlabel(f"shots per {per}", fontsize=9)
    figure.supylabel(f"{name}: mean, 95 % interval of the mean, episodes", fontsize=9)
    figure.savefig(path, dpi=150)


def _draw_panel(axes: Any, summary: pd.DataFrame, chosen: pd.DataFrame, name: str) -> None:
    """Draw the curves of one dataset."""
    shots = sorted(summary["shots"].unique())
    curves = list(summary.groupby(["head", "choice"], observed=True, sort=False))
    step = SPREAD / len(curves)
    for number, ((head, choice), rows) in enumerate(curves):
        ordered = rows.sort_values("shots")
        places = np.searchsorted(shots, ordered["shots"]) + (number + 0.5) * step - SPREAD / 2
        colour = _colour(number, len(curves))
        axes.errorbar(
            places,
            ordered[name],
            np.abs(ordered[[f"{name}_low", f"{name}_high"]].sub(ordered[name], axis=0)).T,
            color=colour,
            linestyle="--" if choice == ORACLE else "-",
            marker="o",
            markersize=4,
            markerfacecolor="white" if choice == ORACLE else colour,
            linewidth=1.2,
            capsize=3,
            label=f"{head}, {choice}",
        )
        if len(curves) <= MOST_DOTTED:
            own = chosen[(chosen["head"] == head) & (chosen["choice"] == choice)]
            for n, place in zip(ordered["shots"], places, strict=True):
                values = own.loc[own["shots"] == n, name].to_numpy()
                beside = place + np.linspace(-0.35, 0.35, len(values)) * step
                axes.plot(beside, values, ".", color=colour, alpha=0.3, markersize=3, zorder=0)
    axes.set_xticks(range(len(shots)), [str(n) for n in shots])
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.tick_params(labelsize=8)


def _colour(number: int, n_curves: int) -> Any:
    """Return the colour of a curve: distinct ones for few, a scale for the layers of a backbone."""
    from matplotlib import colormaps

    if n_curves <= MOST_DOTTED:
        return f"C{number}"
    return colormaps["viridis"](number / (n_curves - 1))
