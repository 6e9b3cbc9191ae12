"""Training and scoring the heads of many episodes on one layer, reading each block of rows once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn import config_context
from threadpoolctl import threadpool_limits

from featstore.batches import iter_batches
from featstore.errors import ConfigError, FeatstoreError
from heads.experiments.choosing import HALF
from heads.experiments.config import make_heads
from heads.experiments.memory import memory_limit
from heads.few_shot.config import FewShotConfig
from heads.few_shot.episodes import Episode, Positions
from heads.few_shot.judging import Floats, Judged, Rows, by_dataset, validated

EPISODES_AT_ONCE = 25
"""Most episodes that share a reading of the query: then scoring, not reading, takes the time."""
BATCH_SIZE = 4096
BYTES = 8
"""Of a float64."""
KEY = ["shots", "head", "episode"]
"""What a layer is chosen for."""


@dataclass(frozen=True)
class Task:
    """Some episodes on one layer.

    Parameters
    ----------
    layer
        Name of the layer in the tables.
    rows
        ``support``, ``query`` and, where the layer is to be chosen, ``val``.
    episodes
        The episodes.
    """

    layer: str
    rows: Mapping[str, Rows]
    episodes: Sequence[Episode]


class Trial(NamedTuple):
    """One trained head, and the units of the rows it was trained on."""

    shots: int
    name: str
    episode: Episode
    head: Any
    learned: Positions


def episodes_at_once(config: FewShotConfig, rows: Mapping[str, Rows], n_groups: int) -> int:
    """Return how many episodes can be held in half of the memory limit.

    Parameters
    ----------
    config
        What is asked for.
    rows
        As in `Task`.
    n_groups
        Classes or generators that shots are drawn of.

    Returns
    -------
    int
        At least 1 and at most `EPISODES_AT_ONCE`. Held are the support of an episode and, for each
        trained head, its support and its scores, all of them counted as float64.
    """
    n_scored = sum(own.features.sizes["sample"] for role, own in rows.items() if role != "support")
    width = sum(int(np.prod(x.shape[1:])) for x in rows["query"].features.data_vars.values())
    shot = n_groups * width * BYTES
    of_heads = sum(n_scored * BYTES + shots * shot for shots in config.shots) * len(config.heads)
    affordable = memory_limit(config.max_memory) // 2 // (of_heads + max(config.shots) * shot)
    return int(max(1, min(EPISODES_AT_ONCE, affordable)))


def run_task(config: FewShotConfig, task: Task) -> pd.DataFrame:
    """Train and score all heads of a task.

    Parameters
    ----------
    config
        What is asked for.
    task
        Layer, rows and episodes.

    Returns
    -------
    DataFrame
        A row for each number of shots, head, episode and dataset of the query: `KEY`, ``seed``,
        ``layer``, ``dataset``, ``n_real``, ``n_fake``, the numbers of `heads.evaluation.metrics`,
        and with validation rows ``threshold`` and the mean ``val_…`` that layers are chosen by.

    Raises
    ------
    ConfigError
        If a head cannot be trained on so few rows, its scores are not finite, or nothing is left
        to choose on.

    Notes
    -----
    Every role is read once. BLAS runs in one thread: the numbers are those of any machine load,
    and processes do not fight for cores.
    """
    with threadpool_limits(limits=1):
        trials = list(_train(config, task))
        scores = {
            role: _scores(config, task, role, trials) for role in task.rows if role != "support"
        }
        records = [
            record
            for i, trial in enumerate(trials)
            for record in _records(config, task, trial, {k: v[i] for k, v in scores.items()})
        ]
    return pd.DataFrame(records)


def _train(config: FewShotConfig, task: Task) -> Iterator[Trial]:
    """Yield a head for each number of shots, kind and episode; their rows are read together."""
    features, units = task.rows["support"]
    positions = np.unique(np.concatenate([episode.drawn.ravel() for episode in task.episodes]))
    own = features.isel(sample=positions)
    batches = iter_batches(own, BATCH_SIZE, max_memory=memory_limit(config.max_memory) // 2)
    X = np.concatenate([batch.X.reshape(len(batch.X), -1) for batch in batches])
    y = own["label"].values
    generators = np.asarray(own.attrs["generators"])[own["generator"].values]
    for episode, shots in product(task.episodes, config.shots):
        support = episode.support(shots)
        rows = np.searchsorted(positions, support)
        for name, kind in config.heads.items():
            (head,) = make_heads(kind, [{}], episode.seed)
            try:
                head.fit(X[rows], y[rows], groups=generators[rows])
            except FeatstoreError:
                raise
            except ValueError as err:
                raise ConfigError(f"head {name!r}, {shots} shots: {err}") from err
            yield Trial(shots, name, episode, head, units[support])


def _scores(config: FewShotConfig, task: Task, role: str, trials: Sequence[Trial]) -> Floats:
    """Return the decision values (n_trials, n_rows) of all heads in one reading."""
    ds = task.rows[role].features
    scores = np.full((len(trials), ds.sizes["sample"]), np.nan)
    quiet = np.errstate(over="ignore", invalid="ignore")
    with config_context(assume_finite=True), quiet:  # scores are checked instead
        for batch in iter_batches(ds, BATCH_SIZE, max_memory=memory_limit(config.max_memory) // 2):
            X = batch.X.reshape(len(batch.X), -1)
            for own, trial in zip(scores, trials, strict=True):
                own[batch.index] = trial.head.decision_function(X)
    for own, trial in zip(scores, trials, strict=True):
        if len(wrong := np.flatnonzero(~np.isfinite(own))):
            raise ConfigError(
                f"scores must be finite, got {len(wrong)} that are not of head {trial.name!r} on "
                f"layer {task.layer!r}, {trial.shots} shots, episode {trial.episode.number}, first "
                f"row {wrong[0]} of {role!r}; look at that row, or give the head other settings."
            )
    return scores


def _records(
    config: FewShotConfig, task: Task, trial: Trial, scores: Mapping[str, Floats]
) -> Iterator[dict[str, Any]]:
    """Yield the numbers of one head, a record for each dataset of the query."""
    judged = {role: Judged(own, task.rows[role], trial.learned) for role, own in scores.items()}
    known: dict[str, Any] = {
        **dict(zip(KEY, (trial.shots, trial.name, trial.episode.number), strict=True)),
        "seed": trial.episode.seed,
        "layer": task.layer,
    }
    thresholds = dict(HALF)
    if "val" in judged:
        quality, threshold = validated(judged["val"], config.select_by)
        known |= {f"val_{config.select_by}": quality, "threshold": threshold}
        thresholds["val"] = threshold
    for record in by_dataset(judged["query"], thresholds, nearest=config.selection == "oracle"):
        yield known | record
