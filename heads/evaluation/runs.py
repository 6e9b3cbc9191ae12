"""The folder of a run: what was asked for, the head, every score, the tables, and where from.

::

    runs/hsic/
      config.yaml         the configuration, complete with defaults
      run.json            store and fingerprint, rows, thresholds, choices, versions, seed, time
      head/               the fitted head (safetensors and JSON)
      scores.parquet      one row per reported image
      val_scores.parquet  one row per validation image, where there are any
      trained_on.parquet  content ids and pairs of the images learned from or chosen on
      metrics.csv, .json  the table of results
      grid.csv            every hyper-parameter tried, where there was a choice
      report.md           all of it for people; roc.png, scores.png
      tensorboard/        event files, on request
"""

import json
import platform
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from featstore.durable import write_json
from featstore.errors import SchemaError, StoreNotFoundError
from featstore.version import __version__
from heads import persistence
from heads.evaluation.events import write_events
from heads.evaluation.plots import plot_roc, plot_scores
from heads.evaluation.report import report
from heads.evaluation.table_text import as_text
from heads.evaluation.whole_folder import whole_folder

PACKAGES = ("numpy", "scipy", "scikit-learn", "torch", "xarray", "dask", "zarr", "pandas")
HEAD, CONFIG, RECORD = "head", "config.yaml", "run.json"
SCORES, VALIDATION, METRICS = "scores.parquet", "val_scores.parquet", "metrics.csv"
TRAINED_ON, GRID = "trained_on.parquet", "grid.csv"
KEYS = {"store", "rows", "thresholds", "chosen", "selection", "seed"}
"""What a record holds at least."""


@dataclass(frozen=True)
class Run:
    """Everything one training or evaluation leaves behind.

    Parameters
    ----------
    config
        The configuration as YAML types.
    head
        The fitted head.
    scores
        Scores of the reported rows.
    metrics
        Table of `heads.evaluation.tables.metric_table`.
    record
        Where it came from and what was chosen, as JSON types.
    validation
        Scores of the validation rows.
    grid
        One row per combination of hyper-parameters that was tried.
    trained_on
        Images that were learned from or chosen on, see `heads.evaluation.roles.trained_on`;
        None for an evaluation.
    """

    config: Mapping[str, Any]
    head: Any
    scores: pd.DataFrame
    metrics: pd.DataFrame
    record: Mapping[str, Any]
    validation: pd.DataFrame | None = None
    grid: pd.DataFrame | None = None
    trained_on: pd.DataFrame | None = None

    def text(self) -> str:
        """Return the outcome for a terminal: what was chosen on what, and the table.

        Returns
        -------
        str
            Lines of text; the table fits the terminal, if there is one.
        """
        chosen = "".join(f"  {sentence}\n" for sentence in self.record["chosen"])
        return f"{as_text(self.metrics)}\nchosen:\n{chosen}written to {self.config['output']}"


def environment() -> dict[str, Any]:
    """Return what the numbers of a run may depend on besides its configuration.

    Returns
    -------
    dict
        Command, platform, Python and package versions.
    """
    return {
        "command": shlex.join(sys.argv),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {"featstore": __version__, **{name: version(name) for name in PACKAGES}},
    }


def write_run(
    run: Run, folder: Path | str, *, overwrite: bool = False, tensorboard: bool = False
) -> Path:
    """Write a run: the folder appears whole or not at all.

    Parameters
    ----------
    run
        The run.
    folder
        Where to.
    overwrite
        Move an existing folder aside, to ``<folder>.old-1`` and so on, instead of refusing.
    tensorboard
        Also write TensorBoard event files.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    StoreExistsError
        If the folder exists and may not be replaced.
    """
    with whole_folder(folder, overwrite=overwrite) as made:
        _write(run, made)
        if tensorboard:
            write_events(run.head, run.metrics, made / "tensorboard")
    return Path(folder)


def _write(run: Run, folder: Path) -> None:
    """Write all files of a run."""
    (folder / CONFIG).write_text(yaml.safe_dump(dict(run.config), sort_keys=False))
    write_json(folder / RECORD, run.record)
    persistence.save(run.head, folder / HEAD)
    frames = {SCORES: run.scores, VALIDATION: run.validation, TRAINED_ON: run.trained_on}
    for name, frame in frames.items():
        if frame is not None:
            frame.to_parquet(folder / name, index=False)
    if run.grid is not None:
        run.grid.to_csv(folder / GRID, index=False)
    run.metrics.to_csv(folder / METRICS, index=False)
    run.metrics.to_json(folder / "metrics.json", orient="records", indent=1, double_precision=15)
    plot_roc(run.scores, folder / "roc.png")
    plot_scores(run.scores, folder / "scores.png")
    (folder / "report.md").write_text(report(run))


def read_run(folder: Path | str) -> Run:
    """Read a run that `write_run` wrote.

    Parameters
    ----------
    folder
        Its folder.

    Returns
    -------
    Run
        The same run.

    Raises
    ------
    StoreNotFoundError
        If there is no run there.
    SchemaError
        If one of its files is missing or damaged.
    """
    path = Path(folder)
    if not (path / RECORD).is_file():
        raise StoreNotFoundError(
            f"a run folder must hold {RECORD!r}, got {str(path)!r} without it; name the "
            "'output' of a training."
        )
    return Run(
        config=_read(path / CONFIG, _mapping),
        head=_read(path / HEAD, persistence.load),
        scores=_read(path / SCORES, pd.read_parquet),
        metrics=_read(path / METRICS, _table("reason")),
        record=_read(path / RECORD, _record),
        validation=_if_there(path / VALIDATION, pd.read_parquet),
        grid=_if_there(path / GRID, _table("problem")),
        trained_on=_if_there(path / TRAINED_ON, pd.read_parquet),
    )


def _read(path: Path, read: Callable[[Path], Any]) -> Any:
    """Read one file of a run."""
    try:
        return read(path)
    except (OSError, ValueError, yaml.YAMLError) as err:
        raise SchemaError(
            f"every file of a run must be there and whole, got {path.name!r} of "
            f"{str(path.parent)!r}: {err}; make the run again."
        ) from err


def _if_there(path: Path, read: Callable[[Path], Any]) -> Any:
    """Read a file that not every run has."""
    return _read(path, read) if path.exists() else None


def _mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file of keys and values."""
    content = yaml.safe_load(path.read_text())
    if not isinstance(content, dict):
        raise ValueError(f"it must hold keys and values, not {type(content).__name__}")
    return content


def _record(path: Path) -> dict[str, Any]:
    """Read the record of a run."""
    record = json.loads(path.read_text())
    if not isinstance(record, dict) or KEYS - set(record):
        raise ValueError(f"it must be an object with the keys {sorted(KEYS)}")
    return record


def _table(text: str) -> Callable[[Path], pd.DataFrame]:
    """Return a reader of tables in which one column, if there, is text and often empty."""
    return lambda path: pd.read_csv(path, dtype={text: "str"}).fillna({text: ""})
