"""A few-shot study from its configuration to its folder."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from featstore.config import to_mapping
from featstore.display import table_text
from heads.evaluation.whole_folder import require_free
from heads.few_shot.choices import with_choices, with_means
from heads.few_shot.config import FewShotConfig, check_few_shot
from heads.few_shot.planning import draw_all, groups_of, select_roles, tasks_of
from heads.few_shot.records import study_record, support_table
from heads.few_shot.running import Task, run_task
from heads.few_shot.summary import curve_table, headline, summarise
from heads.few_shot.writing import write_study

Progress = Callable[[int, int], Any]


@dataclass(frozen=True)
class FewShot:
    """Everything one study leaves behind.

    Parameters
    ----------
    config
        The configuration as YAML types.
    episodes
        A row for each number of shots, head, choice of layer, episode and dataset of the query, see
        `heads.few_shot.choices.with_choices`.
    summary
        Means over episodes with intervals, see `heads.few_shot.summary.summarise`.
    support
        The images drawn, see `heads.few_shot.records.support_table`.
    record
        Where it came from and what was chosen, as JSON types.
    """

    config: Mapping[str, Any]
    episodes: pd.DataFrame
    summary: pd.DataFrame
    support: pd.DataFrame
    record: Mapping[str, Any]

    def text(self) -> str:
        """Return the outcome for a terminal.

        Returns
        -------
        str
            The number that layers are chosen by, after so many shots; what was chosen on what;
            where everything is.
        """
        chosen = "".join(f"  {sentence}\n" for sentence in self.record["chosen"])
        name = self.config["select_by"]
        table = table_text(curve_table(headline(self.summary), name))
        return f"{name}\n{table}\nchosen:\n{chosen}written to {self.config['output']}"


def run_few_shot(
    config: FewShotConfig, *, progress: Progress = lambda done, total: None
) -> FewShot:
    """Train heads on many draws of a few images, and report them on all other rows.

    Parameters
    ----------
    config
        What to do.
    progress
        Called with the heads trained and scored, and their number.

    Returns
    -------
    FewShot
        What was written to ``config.output``.

    Raises
    ------
    ConfigError
        If the configuration is illegal, there are too few images for the shots, rows are both
        chosen on and reported, or a head cannot be trained on so few rows.
    StoreExistsError
        If the output folder exists and may not be replaced.

    Notes
    -----
    The query is read once for each layer and `heads.few_shot.running.EPISODES_AT_ONCE` episodes,
    all heads together. Of the support only the rows drawn are read. Half of ``max_memory`` is the
    reader's; the other half holds the heads and scores of as many of these episodes as fit, at
    least of one: 8 bytes per head and scored row. Besides, the main process holds the content ids
    of all rows, about 200 bytes for each, and the results, about 200 bytes for each head.
    """
    started, began = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    check_few_shot(config)
    require_free(config.output, config.overwrite)
    rows = select_roles(config)
    groups, names = groups_of(config, rows["support"].features)
    episodes = draw_all(config, rows, groups, names)
    tasks = list(tasks_of(config, rows, episodes))
    layers = list(dict.fromkeys(task.layer for task in tasks))
    results = with_means(_run(config, tasks, progress))
    chosen = with_choices(results, layers, config.select_by, config.selection)
    seconds = round(time.perf_counter() - began, 3)
    study = FewShot(
        config=to_mapping(replace(config, overwrite=False)),
        episodes=chosen,
        summary=summarise(chosen),
        support=support_table(episodes, groups, names, rows["support"].features),
        record={"started": started, "seconds": seconds} | study_record(config, rows, layers),
    )
    write_study(study, config.output, overwrite=config.overwrite)
    return study


def _run(config: FewShotConfig, tasks: Sequence[Task], progress: Progress) -> pd.DataFrame:
    """Run all tasks, in parallel, and return their results in one order."""
    n_heads = np.cumsum(
        [len(task.episodes) * len(config.shots) * len(config.heads) for task in tasks]
    ).tolist()
    progress(0, n_heads[-1])
    work = Parallel(n_jobs=config.n_jobs, return_as="generator")(
        delayed(run_task)(config, task) for task in tasks
    )
    results: list[pd.DataFrame] = []
    for result, n_done in zip(work, n_heads, strict=True):
        results.append(result)
        progress(n_done, n_heads[-1])
    return pd.concat(results, ignore_index=True)
