"""Plots of one run: ROC curves per dataset and histograms of scores."""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve

from heads.evaluation.metrics import auroc

BINS = 30
PANEL = (3.2, 2.6)
"""Width and height of one histogram, in inches."""
COLUMNS_AT_MOST = 4


def plot_roc(scores: pd.DataFrame, path: Path | str) -> None:
    """Draw one ROC curve for every dataset that has both classes.

    Parameters
    ----------
    scores
        Frame from `heads.evaluation.scoring.score`.
    path
        PNG file to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 5.0), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, linestyle=":")
    for name, rows in scores.groupby("dataset", observed=True):
        values, labels = rows["score"].to_numpy(), rows["label"].to_numpy()
        if len(np.unique(labels)) == 2:
            false_alarms, found, _ = roc_curve(labels, values)
            area = auroc(values, labels)
            axes.step(
                false_alarms, found, where="post", label=f"{name}  {area:.2f} (n={len(rows)})"
            )
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(0, 1), ylim=(0, 1.01))
    axes.set_title("ROC; AUROC in the legend", fontsize=10)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", fontsize=8)
    figure.savefig(path, dpi=150)


def plot_scores(scores: pd.DataFrame, path: Path | str) -> None:
    """Draw the scores of real and fake images as histograms, one panel per dataset.

    Parameters
    ----------
    scores
        Frame from `heads.evaluation.scoring.score`.
    path
        PNG file to write.
    """
    from matplotlib.figure import Figure

    groups = list(scores.groupby("dataset", observed=True))
    n_columns = min(len(groups), COLUMNS_AT_MOST)
    n_rows = -(-len(groups) // n_columns)
    figure = Figure(figsize=(PANEL[0] * n_columns, PANEL[1] * n_rows), layout="constrained")
    grid = figure.subplots(n_rows, n_columns, squeeze=False)
    edges = np.histogram_bin_edges(scores["score"].to_numpy(), bins=BINS)
    for axes, (name, rows) in zip(grid.flat, groups, strict=False):
        for label, word, colour in ((0, "real", "tab:blue"), (1, "fake", "tab:orange")):
            own = rows["score"].to_numpy()[rows["label"].to_numpy() == label]
            share = np.full(len(own), 1 / max(len(own), 1))
            text = f"{word} (n={len(own)})"
            axes.hist(own, bins=edges, weights=share, color=colour, alpha=0.55, label=text)
        axes.set_title(str(name), fontsize=9)
        axes.tick_params(labelsize=7)
        axes.legend(fontsize=7)
    for axes in list(grid.flat)[len(groups) :]:
        axes.set_visible(False)
    figure.supxlabel("score", fontsize=9)
    figure.supylabel("share of the class", fontsize=9)
    figure.savefig(path, dpi=150)
