"""Train × test tables: one head per training dataset, each reported on every test dataset."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

import featstore
from featstore.config import to_mapping
from featstore.display import table_text
from featstore.errors import StoreExistsError
from featstore.subset import match
from heads.evaluation.runs import Run, read_run
from heads.evaluation.table_text import cell
from heads.evaluation.transfer import (
    metric_of,
    plot_matrix,
    transfer_markdown,
    transfer_matrix,
)
from heads.evaluation.whole_folder import require_free
from heads.experiments.config import TrainConfig, check_settings
from heads.experiments.training import run_train

TABLE = "transfer.csv"


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

    Raises
    ------
    ConfigError
        If the configuration is illegal; see also `heads.experiments.training.run_train`.
    StoreExistsError
        If the output folder holds something else, and may not be replaced.

    Notes
    -----
    After an interruption the same configuration goes on: trainings that are finished are read.
    """
    check_settings(config)
    datasets = _datasets(config)
    output = Path(config.output)
    if not _is_begun(output, datasets):
        require_free(output, config.overwrite)
    runs = {}
    for number, dataset in enumerate(datasets):
        own = replace(
            config,
            train=replace(config.train, dataset=dataset),
            val=None if config.val is None else replace(config.val, dataset=dataset),
            output=str(output / dataset),
        )
        runs[dataset] = _finished(own) or run_train(own)
        progress(number + 1, len(datasets))
    scores = {dataset: run.scores for dataset, run in runs.items()}
    table = transfer_matrix(
        scores,
        metric=config.select_by,
        by=("dataset",),
        n_resamples=config.bootstrap,
        rng=config.seed,
    )
    (output / "transfer.md").write_text(transfer_markdown(table) + "\n")
    plot_matrix(table, output / "transfer.png")
    table.to_csv(output / TABLE, index=False)  # the last: what has it is finished
    return Transfer(table, runs)


def _is_begun(output: Path, datasets: list[str]) -> bool:
    """Return whether a folder holds nothing but trainings of a transfer that was interrupted."""
    if not output.is_dir():
        return False
    names = {path.name for path in output.iterdir()} - {"transfer.md", "transfer.png"}
    started = tuple(f".{dataset}." for dataset in datasets)
    return all(name in datasets or name.startswith(started) for name in names)


def _finished(config: TrainConfig) -> Run | None:
    """Return the run of an interrupted transfer; None if this training was not finished."""
    if config.overwrite or not Path(config.output).exists():
        return None
    run = read_run(config.output)
    if run.config != to_mapping(config):
        raise StoreExistsError(
            f"a transfer is continued with the same configuration, got {config.output!r}, which "
            "was made with another; choose another 'output', or ask for it to be replaced."
        )
    return run


def _datasets(config: TrainConfig) -> list[str]:
    """Return the names of the datasets to train on."""
    wanted = config.features
    keys = [k for k in featstore.open(config.store).groups() if wanted in (None, k.features)]
    match("view", config.view, [key.view for key in keys])
    keys = [key for key in keys if key.view == config.view]
    splits = match("split", config.train.split, [key.split for key in keys])
    known = {key.dataset for key in keys if key.split in splits}
    return match("dataset", config.train.dataset, sorted(known))
