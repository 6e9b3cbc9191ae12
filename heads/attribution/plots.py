"""Pictures of an attribution study: the confusion matrix and the OSCR curve."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from heads.attribution.metrics import Attributed, oscr_curve

DARK = 0.6
"""Share above which a cell is dark, and its number white."""

CELL, LETTER = 0.75, 0.085
"""Width of a cell and of a letter, in inches."""


def plot_confusion(table: pd.DataFrame, known: Any, path: Path | str) -> None:
    """Draw the shares of each generator's images that are attributed to each.

    Parameters
    ----------
    table
        Counts, see `heads.attribution.metrics.confusion`.
    known
        Names of the known generators; a line is drawn below them.
    path
        PNG file to write.
    """
    from matplotlib.figure import Figure

    counts = table.to_numpy(np.float64)
    shares = counts / counts.sum(1, keepdims=True)
    n_rows, n_columns = shares.shape
    names = [
        f"{name}{'' if name in known else ', unknown'} (n={int(n)})"
        for name, n in zip(table.index, counts.sum(1), strict=True)
    ]
    longest = [max(map(len, map(str, labels))) for labels in (names, table.columns)]
    width = CELL * n_columns + LETTER * longest[0] + 2
    height = CELL * 0.7 * n_rows + LETTER * 0.7 * longest[1] + 1
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(shares.shape):
        ink = "white" if shares[row, column] > DARK else "black"
        text = f"{shares[row, column]:.2f}" if counts[row, column] else "·"
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=ink)
    axes.set_xticks(range(n_columns), table.columns, rotation=40, ha="right")
    axes.set_yticks(range(n_rows), names)
    n_known = sum(name in known for name in table.index)
    axes.axvline(n_columns - 1.5, color="black", linewidth=1.5)
    axes.set(xlabel="attributed to", ylabel="made by")
    if n_known < n_rows:
        axes.axhline(n_known - 0.5, color="black", linewidth=1.5)
    figure.colorbar(image, label="share of the row")
    figure.savefig(path, dpi=150)


def plot_oscr(samples: Attributed, known: Any, path: Path | str) -> None:
    """Draw the open-set classification rate curve.

    Parameters
    ----------
    samples
        What a head made of them, known and unknown ones.
    known
        Names of the known generators.
    path
        PNG file to write.
    """
    from matplotlib.figure import Figure

    kept, right = oscr_curve(samples, known)
    figure = Figure(figsize=(5.0, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(kept, right)
    axes.set(
        xlabel="unknown images kept",
        ylabel="known images kept and named right",
        xlim=(0, 1),
        ylim=(0, 1.01),
    )
    axes.set_title(f"OSCR, area {np.trapezoid(right, kept):.3f}", fontsize=10)
    figure.savefig(path, dpi=150)
