"""One stream from its first to its last step, and the head it begins with."""

import hashlib
import json
import secrets
import shutil
import time
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd

import featstore
import heads
from continual.config import ContinualConfig, StreamRun
from continual.domains import domains_of, steps_of
from continual.learners import LEARNERS, FineTune
from continual.measuring import measure
from featstore.config import to_mapping
from featstore.durable import sync_file, sync_folder, write_bytes
from featstore.errors import ConfigError, FeatstoreError
from heads import persistence
from heads.evaluation.runs import HEAD, read_run
from heads.origins import require_same_features

STARTS, RUNS = "starts", "runs"
BEGINNING = (
    "head", "domain", "target", "train", "features", "view", "layer", "blur", "ratio", "max_memory",
)  # fmt: skip
"""Settings on which the head after the first step depends."""
ARROW = " → "
"""Between the domains of an order."""


@dataclass(frozen=True)
class Job:
    """A run and where its results are kept.

    Parameters
    ----------
    config
        The variant of the study.
    run
        The run.
    folder
        Folder of the study.
    """

    config: ContinualConfig
    run: StreamRun
    folder: Path

    @property
    def file(self) -> Path:
        """The scores, a Parquet file that is there once the run is finished."""
        return self.folder / RUNS / f"{_digest(asdict(self.run))}.parquet"

    @property
    def start(self) -> Path | None:
        """The head that has learned the first step, which runs that begin alike share.

        None for learners that do not begin with a head.
        """
        if not LEARNERS[self.run.learner].starts_from_head:
            return None
        if self.config.base_head is not None:
            return Path(self.config.base_head) / HEAD
        order, config = self.run.order, to_mapping(self.config)
        alone = order.count(order[0]) == 1 and not self.config.blur
        settings = {name: config[name] for name in BEGINNING}
        return (
            self.folder / STARTS / _digest([settings, self.run.seed, order[:1] if alone else order])
        )

    @property
    def trains_start(self) -> bool:
        """Whether that head has to be trained."""
        return self.start is not None and self.config.base_head is None

    @property
    def begun(self) -> bool:
        """Whether there is all that the run begins with."""
        return self.start is None or self.start.exists()


def _digest(content: Any) -> str:
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=8).hexdigest()


def train_start(job: Job) -> str | None:
    """Train the head that has learned the first step of a run, and keep it.

    Parameters
    ----------
    job
        One of those that begin so.

    Returns
    -------
    str or None
        What went wrong.
    """
    try:
        learner = _learner(job, FineTune)
        head = learner.learn(steps_of(job.config, job.run, learner.domains)[0])
        assert job.start is not None
        _keep(head, job.start)
    except (FeatstoreError, ValueError) as err:
        return f"{_described(job.run)}: {err}"
    return None


def _keep(head: Any, path: Path) -> None:
    """Save the head that runs begin with."""
    made = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    heads.save(head, made)
    for part in made.iterdir():
        sync_file(part)
    try:
        made.rename(path)
    except OSError:
        shutil.rmtree(made)
        if not path.exists():  # else the same study, run twice at once, was quicker
            raise
    sync_folder(path.parent)


def run_stream(job: Job) -> str | None:
    """Learn one stream and write what it scored.

    Parameters
    ----------
    job
        The run.

    Returns
    -------
    str or None
        What went wrong; nothing is written then.
    """
    try:
        frame, learner = _learned(job)
    except (FeatstoreError, ValueError) as err:
        return f"{_described(job.run)}: {err}"
    buffer = BytesIO()
    frame.to_parquet(buffer, index=False)
    if len(learner.memory):
        learner.memory.save(job.file.with_suffix(".memory"))
    write_bytes(job.file, buffer.getvalue())
    sync_folder(job.file.parent)
    return None


def _described(run: StreamRun) -> str:
    """Return what a run is, for messages."""
    way = " ".join(filter(None, (run.learner, run.selection, run.variant)))
    return f"{way} on {ARROW.join(run.order)}, seed {run.seed}"


def _learned(job: Job) -> tuple[pd.DataFrame, FineTune]:
    """Return the scores after every step, and the learner after the last."""
    config, run = job.config, job.run
    learner = _learner(job, LEARNERS[run.learner], job.start)
    test = domains_of(config, learner.store, run.order, config.test)
    rows: list[dict[str, Any]] = []
    for number, step in enumerate(steps_of(config, run, learner.domains)):
        began = time.perf_counter()
        head = learner.learn(step)
        seconds = time.perf_counter() - began
        known = {"step": number, "learned": step.domain, "seconds": seconds}
        known["n_memory"] = len(learner.memory)
        rows += [{**known, **found} for found in measure(config, head, test)]
    described: dict[str, Any] = {
        "variant": run.variant,
        "base": run.order[0] if config.base else "",
        "order": ARROW.join(run.order),
        "seed": run.seed,
        "learner": run.learner,
        "selection": run.selection or "",
        "keep": "" if run.keep is None else f"{run.keep:g}",
    }
    return pd.DataFrame(rows).assign(**described), learner


def _learner(job: Job, kind: type[FineTune], start: Path | None = None) -> FineTune:
    """Return a learner that has learned nothing yet, or only what a head knows."""
    store = featstore.open(job.config.store)
    domains = domains_of(job.config, store, job.run.order, job.config.train)
    head = None
    if start is not None:
        head = heads.load(start)
        require_same_features(head.origin_, domains.ds, "rows to learn from")
    return kind(job.config, job.run, store, domains, head)


def head_digest(config: ContinualConfig) -> str:
    """Return what identifies the given head, of which streams that went on must begin with one.

    Parameters
    ----------
    config
        A variant of the study that has a ``base_head``.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    record = Path(str(config.base_head), HEAD, persistence.RECORD).read_bytes()
    return hashlib.blake2b(record, digest_size=8).hexdigest()


def images_known(config: ContinualConfig) -> pd.DataFrame | None:
    """Return the images that the given head has learned from, if there is one.

    Parameters
    ----------
    config
        A variant of the study.

    Returns
    -------
    DataFrame or None
        See `heads.evaluation.roles.trained_on`.

    Raises
    ------
    ConfigError
        If the head is of another kind than that of the study, or tells other things apart.
    """
    if config.base_head is None:
        return None
    found = read_run(config.base_head)
    if type(found.head) is not heads.HEADS[config.head.name] or found.trained_on is None:
        raise ConfigError(
            f"'base_head' must be a training of {config.head.name!r}, got {config.base_head!r} "
            f"with {type(found.head).__name__}."
        )
    if (target := found.head.origin_.get("target", "label")) != config.target:
        raise ConfigError(
            f"'base_head' must tell apart what the study does, {config.target!r}, got "
            f"{config.base_head!r} of {target!r}."
        )
    return found.trained_on
