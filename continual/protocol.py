"""A study of continual learning: every order, seed, learner, selection and budget, in one table."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import featstore
from continual.config import ContinualConfig, StreamRun
from continual.domains import domains_of
from continual.jobs import in_parallel
from continual.planning import runs_of, variants_of
from continual.running import RUNS, Job, head_digest, images_known, run_stream, train_start
from continual.study import Continual, write_study
from featstore.config import to_mapping
from featstore.durable import write_json
from featstore.errors import ConfigError, SchemaError, StoreExistsError
from heads.evaluation.roles import require_disjoint, require_selection_split
from heads.evaluation.runs import environment
from heads.evaluation.whole_folder import whole_folder

__all__ = ["Continual", "ContinualConfig", "run_continual"]

if TYPE_CHECKING:
    import xarray as xr

Progress = Callable[[int, int], None]

RECORD = "study.json"
EXECUTION = {"output", "overwrite", "n_jobs", "scheduler", "metric"}
"""Keys of a configuration that may change when a study goes on; not ``max_memory``, on which the
order of shuffled rows depends."""


def run_continual(config: ContinualConfig, *, progress: Progress | None = None) -> Continual:
    """Run a study.

    Parameters
    ----------
    config
        What to do.
    progress
        Called with the trainings and runs finished and all of them.

    Returns
    -------
    Continual
        Also written to ``config.output``.

    Raises
    ------
    ConfigError
        If the configuration is illegal, rows that are reported are learned from, or a run failed;
        the others are finished then, but for those that begin with a head that failed.
    StoreExistsError
        If the folder holds another study.
    SchemaError
        If a file of the study is damaged.

    Notes
    -----
    Runs that begin alike share the head that has learned the first step. It, and every run that is
    finished, is a file of the folder; killed at any time, the same call does only the rest and
    gives the same table.
    """
    variants, runs = variants_of(config), runs_of(config)
    rows = {
        name: _checked_rows(variant, [run for run in runs if run.variant == name])
        for name, variant in variants.items()
    }
    folder = Path(config.output).absolute()
    _claim(config, rows, folder)
    here = str(Path(config.store).absolute())  # workers may be elsewhere
    jobs = [Job(replace(variants[run.variant], store=here), run, folder) for run in runs]
    starts = list({job.start: job for job in jobs if job.trains_start}.values())
    n_tried, n_all, problems = 0, len(starts) + len(jobs), []
    n_left = n_all - sum(job.begun for job in starts) - sum(job.file.exists() for job in jobs)
    where: Any = {"n_jobs": config.n_jobs, "scheduler": config.scheduler}
    for function, left in (
        (train_start, (job for job in starts if not job.begun)),
        (run_stream, (job for job in jobs if job.begun and not job.file.exists())),
    ):
        for problem in in_parallel(function, [(job,) for job in left], **where):
            n_tried += 1
            problems += [problem] if problem else []
            if progress is not None:
                progress(n_all - n_left + n_tried, n_all)
    if problems:
        raise ConfigError(
            f"every training and run must succeed, got {len(problems)} of {n_tried} that did not, "
            f"the first: {problems[0]}"
        )
    scores = pd.concat([_read(job.file, pd.read_parquet) for job in jobs], ignore_index=True)
    return write_study(scores, config.metric, folder, _read(folder / RECORD, _record))


def _read(path: Path, read: Callable[[Path], Any]) -> Any:
    """Read one file of a study."""
    try:
        return read(path)
    except (OSError, ValueError) as err:
        raise SchemaError(
            f"every file of a study must be there and whole, got {str(path)!r}: {err}; "
            "remove it if it is a run, or choose another 'output'."
        ) from err


def _record(path: Path) -> dict[str, Any]:
    """Return the record of a study."""
    record = json.loads(path.read_text())
    if not isinstance(record, dict):
        raise ValueError("it must be an object")
    return record


def _claim(config: ContinualConfig, rows: dict[str, Any], folder: Path) -> None:
    """Make the folder of a study, or make sure that it is this study's."""
    settings = {k: v for k, v in to_mapping(config).items() if k not in EXECUTION}
    identity = json.loads(json.dumps({"settings": settings, "rows": rows}))
    record = folder / RECORD
    if record.is_file():
        found = _read(record, _record)
        if {name: found.get(name) for name in identity} == identity:
            return
        if not config.overwrite:
            raise StoreExistsError(
                f"a study goes on with the same settings and rows, got {config.output!r} with "
                "others; choose another 'output', or ask for it to be replaced (the old one is "
                "kept beside it)."
            )
    with whole_folder(folder, overwrite=config.overwrite) as made:
        (made / RUNS).mkdir()
        write_json(made / RECORD, {**identity, "environment": environment()})


def _checked_rows(config: ContinualConfig, runs: list[StreamRun]) -> dict[str, str]:
    """Refuse to report rows that are learned from, and return what identifies all of them."""
    store = featstore.open(config.store)
    names = sorted({domain for run in runs for domain in run.order})
    learned = domains_of(config, store, names, config.train)
    reported = domains_of(config, store, names, config.test)
    require_selection_split(learned.ds, what="the weights of a head")
    require_disjoint(reported.ds, learned.ds, "train")
    digests = {"train": _digest(learned.ds), "test": _digest(reported.ds)}
    if (known := images_known(config)) is not None:
        require_disjoint(reported.ds, known, "base_head")
        _require_learned(known, learned.select(learned.rows[config.base[0]]), config)
        digests["base_head"] = head_digest(config)
    for name, rows in learned.rows.items():
        if len(labels := np.unique(learned.ds["label"].values[rows])) < 2:
            raise ConfigError(
                f"every domain must have real and fake rows, got {name!r} with labels "
                f"{labels.tolist()} only."
            )
    return {"fingerprint": str(learned.ds.attrs["fingerprint"]), **digests}


def _require_learned(known: pd.DataFrame, rows: "xr.Dataset", config: ContinualConfig) -> None:
    """Refuse a head for the first step that has not learned its rows."""
    missing = ~np.isin(rows["sample_id"].values.astype(str), known["sample_id"].astype(str))
    if missing.any():
        raise ConfigError(
            f"'base_head' must have learned the rows of {config.base[0]!r}, got "
            f"{config.base_head!r}, which has not seen {missing.sum()} of {len(missing)}."
        )


def _digest(ds: "xr.Dataset") -> str:
    """Return what identifies images and their labels."""
    digest = hashlib.blake2b(digest_size=8)
    for name, kind in (("sample_id", np.str_), ("label", np.int8), ("generator", np.int64)):
        digest.update(ds[name].values.astype(kind).tobytes())
    return digest.hexdigest()
