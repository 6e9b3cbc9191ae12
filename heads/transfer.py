"""Train × test tables: one head per training dataset, each reported on every test dataset."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

import featstore
from featstore.display import table_text
from featstore.subset import match
from heads.evaluation.runs import Run
from heads.evaluation.tables import cell
from heads.evaluation.transfer import (
    metric_of,
    plot_matrix,
    transfer_markdown,
    transfer_matrix,
)
from heads.run_config import RowsConfig, TrainConfig
from heads.training import run_train


@dataclass(frozen=True)
class Transfer:
    """A train × test table and the runs behind it.

    Parameters
    ----------
    table
        Long form, see `heads.evaluation.transfer.transfer_matrix`.
    runs
        Training dataset to its run.
    """

    table: pd.DataFrame
    runs: dict[str, Run]

    def text(self) -> str:
        """Return the table for a terminal.

        Returns
        -------
        str
            A row per training dataset, with 95 % bootstrap intervals.
        """
        metric = metric_of(self.table)
        rows = self.table.to_dict("records")
        cells = self.table.assign(
            cell=[cell(row, metric) for row in rows],
            test=[f"{row['test']} (n={row['n_real']}+{row['n_fake']})" for row in rows],
        )
        wide = cells.pivot(index="train", columns="test", values="cell")
        return table_text(wide.rename_axis(index=r"train \ test").reset_index())


def run_transfer(
    config: TrainConfig, *, progress: Callable[[int, int], Any] = lambda done, total: None
) -> Transfer:
    """Train on each dataset alone and test on all of them.

    Parameters
    ----------
    config
        As for one training; ``train.dataset`` names the datasets (all of the split if left out).
        Validation rows are those of the training dataset, so nothing is chosen on another one.
    progress
        Called with trainings done and trainings to do.

    Returns
    -------
    Transfer
        The table of ``select_by``. ``config.output`` holds it as ``transfer.csv``, ``transfer.md``
        and ``transfer.png``, with a run folder for every training dataset.
    """
    store = featstore.open(config.store)
    known = [key.dataset for key in store.groups() if key.split in _splits(config.train)]
    datasets = match("dataset", config.train.dataset, sorted(known))
    output = Path(config.output)
    runs = {}
    for number, dataset in enumerate(datasets):
        own = replace(
            config,
            train=replace(config.train, dataset=dataset),
            val=None if config.val is None else replace(config.val, dataset=dataset),
            output=str(output / dataset),
        )
        runs[dataset] = run_train(own)
        progress(number + 1, len(datasets))
    scores = {dataset: run.scores for dataset, run in runs.items()}
    table = transfer_matrix(
        scores,
        metric=config.select_by,
        by=("dataset",),
        n_resamples=config.bootstrap,
        rng=config.seed,
    )
    table.to_csv(output / "transfer.csv", index=False)
    (output / "transfer.md").write_text(transfer_markdown(table) + "\n")
    plot_matrix(table, output / "transfer.png")
    return Transfer(table, runs)


def _splits(rows: RowsConfig) -> list[str]:
    return [rows.split] if isinstance(rows.split, str) else list(rows.split)
