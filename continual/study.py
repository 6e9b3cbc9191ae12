"""The outcome of a study and the files it is written to."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from continual.config import METRICS
from continual.plots import plot_matrices, plot_over_time
from continual.report import MATRIX, OVER_TIME, report, text
from continual.summary import per_domain, summarise
from featstore.durable import sync_folder, write_bytes


@dataclass(frozen=True)
class Continual:
    """What a study found.

    Parameters
    ----------
    scores
        One row per run, step and domain tested: what the run was, ``step``, the domain ``learned``
        at it, ``seconds`` it took, ``n_memory`` rows kept after it, ``domain``, and the metrics on
        its test rows.
    summary
        Table of `continual.summary.summarise`.
    metric
        The number shown first.
    output
        The folder.
    """

    scores: pd.DataFrame
    summary: pd.DataFrame
    metric: str
    output: str

    def text(self) -> str:
        """Return the outcome for a terminal.

        Returns
        -------
        str
            The first metric of every way of learning, and how ways differ.
        """
        return f"{text(self.scores, self.metric)}\n\nwritten to {self.output}"


def write_study(
    scores: pd.DataFrame, metric: str, folder: Path, record: Mapping[str, Any]
) -> Continual:
    """Write the tables, pictures and report of a study.

    Parameters
    ----------
    scores
        As of `Continual`.
    metric
        The number shown first.
    folder
        Folder of the study.
    record
        Settings and environment.

    Returns
    -------
    Continual
        What was written.
    """
    summary = summarise(scores, list(METRICS))
    write_bytes(folder / "scores.parquet", scores.to_parquet(index=False))
    tables = {"summary": summary, "domains": per_domain(scores, list(METRICS))}
    for name, table in tables.items():
        write_bytes(folder / f"{name}.csv", table.to_csv(index=False).encode())
    plot_matrices(scores, metric, folder / MATRIX)
    plot_over_time(scores, metric, folder / OVER_TIME)
    write_bytes(folder / "report.md", report(scores, metric, record).encode())
    sync_folder(folder)
    return Continual(scores, summary, metric, str(folder))
