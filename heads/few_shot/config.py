"""What a few-shot study is asked to do, as data; the YAML files have these keys."""

from dataclasses import dataclass, field
from typing import Literal

from featstore.errors import ConfigError, unknown_name
from heads.evaluation.metrics import columns
from heads.evaluation.thresholds import Selection
from heads.experiments.choosing import HALF
from heads.experiments.config import HeadConfig, Names, RowsConfig, make_heads
from heads.experiments.memory import memory_limit

Per = Literal["class", "generator"]
"""What the shots are counted by; real images are one generator."""


@dataclass(frozen=True)
class FewShotConfig:
    """What to learn from how few images, and where to report it.

    Parameters
    ----------
    store
        The store.
    heads
        The heads that are compared, by the name they have in the tables.
    query
        Rows to report.
    output
        Folder of the study.
    support
        Rows from which the shots are drawn; those of the query if left out. Whatever was drawn,
        with its copies and its aligned images, is no part of the query of its episode.
    val
        Rows on which the layer and a threshold are chosen, in each episode anew.
    features
        Feature set; may be left out when the store holds one.
    view
        View of all rows.
    layer
        Layers; all if left out.
    each_layer
        Whether a head sees one layer, and there is a head for each; if not, it sees all together.
    shots
        Images per class or generator; one study for each number.
    per
        ``class`` or ``generator``.
    episodes
        Number of draws.
    select_by
        The number that decides among the layers, the mean over datasets.
    selection
        ``val``; ``oracle`` also shows, marked ORACLE, the layer of each episode that is best on
        the query itself, as published tables do, and their TPR at the ROC point nearest to 5 %.
    seed
        Seed of the first episode; each further one has the next. Also the seed of its heads.
    n_jobs
        Processes; -1 for one per core. The result does not depend on it.
    max_memory
        Limit of each process.
    overwrite
        Whether an existing folder is moved aside.
    """

    store: str
    heads: dict[str, HeadConfig]
    query: RowsConfig
    output: str
    support: RowsConfig | None = None
    val: RowsConfig | None = None
    features: str | None = None
    view: str = "clean"
    layer: Names = None
    each_layer: bool = True
    shots: list[int] = field(default_factory=lambda: [5, 10, 20])
    per: Per = "class"
    episodes: int = 100
    select_by: str = "auroc"
    selection: Selection = "val"
    seed: int = 42
    n_jobs: int = 1
    max_memory: str = "2GB"
    overwrite: bool = False


def check_few_shot(config: FewShotConfig) -> None:
    """Find mistakes before any work is done.

    Parameters
    ----------
    config
        What is asked for.

    Raises
    ------
    ConfigError
        If a number, a name or a head is not legal.
    """
    shots = config.shots
    if not shots or min(shots) < 1 or len(set(shots)) < len(shots):
        raise ConfigError(f"'shots' must be different numbers of at least 1, got {shots!r}.")
    for name, least in (("episodes", 1), ("seed", 0)):
        if (number := getattr(config, name)) < least:
            raise ConfigError(f"{name!r} must be {least} or more, got {number}.")
    if config.n_jobs == 0:
        raise ConfigError("'n_jobs' must be a number of processes, or -1 for all cores, got 0.")
    if config.select_by not in (known := columns(HALF)):
        raise ConfigError(unknown_name("number in 'select_by'", config.select_by, known))
    if not config.heads:
        raise ConfigError("'heads' must name at least one head, got none.")
    for name, head in config.heads.items():
        try:
            make_heads(head, [{}], config.seed)
        except ConfigError as err:
            raise ConfigError(f"head {name!r}: {err}") from err
    memory_limit(config.max_memory)
