"""What a continual-learning study is asked to do, as data, and the runs that come of it."""

from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal

from continual.selection import SELECTIONS
from continual.streams import orders
from featstore.errors import ConfigError, unknown_name
from heads.evaluation.metrics import accuracy, auroc, average_precision, balanced_accuracy
from heads.experiments.config import HeadConfig, Names, make_heads

METRICS = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "average_precision": average_precision,
    "auroc": auroc,
}
"""What is measured on the test rows of every domain after every step; accuracies at one half."""

LEARNERS = ("replay", "nearest_mean", "fine_tune", "joint", "merge")
"""``replay`` trains on the present domain and the memory together; ``nearest_mean`` does too, and
decides by the nearer class mean of present and kept representations (iCaRL's rule); ``fine_tune``
trains on the present domain alone; ``joint`` anew on all domains so far, the upper reference;
``merge`` adds the moments of a closed-form head, which equals ``joint`` without its cost."""

WITH_MEMORY = ("replay", "nearest_mean")


@dataclass(frozen=True)
class ContinualConfig:
    """Domains, what learns them, and in which orders.

    Parameters
    ----------
    store
        The store.
    tails
        Domains whose order varies.
    head
        What learns; a head with ``warm_start`` goes on from its weights at every step.
    output
        Folder of the study; runs that are finished there are not run again.
    base
        Domains of which each comes first once, for a study of its own; none if left out.
    domain
        What a domain is: a ``dataset`` of the store, or a ``generator`` with the real images of
        its datasets.
    train, test
        Splits to learn from and to report.
    features, view, layer
        Features; as for `heads.experiments.config.TrainConfig`.
    learners
        Keys of `LEARNERS`.
    selections
        Selections of rows to keep, for learners with a memory; see `continual.selection`.
    keep
        Fractions in (0, 1) or numbers of rows that are kept of each class of a domain.
    capacity
        Most rows kept of all domains together; no limit if left out.
    selection_params
        Options of selections by name, such as ``{hgr: {lambda_kc: 2}}``.
    memory_batch_size
        Replayed rows per step.
    later_params
        Hyper-parameters of the head that change after the first step.
    n_orders
        How many orders to draw; all of them if left out.
    seeds
        Seeds of head and selection; every order is run with each.
    metric
        The number shown first, a key of `METRICS`.
    n_jobs
        Processes; -1 for one per core.
    max_memory
        Limit of the reader of each process.
    overwrite
        Whether another study in the folder is moved aside.
    """

    store: str
    tails: list[str]
    head: HeadConfig
    output: str
    base: list[str] = field(default_factory=list)
    domain: Literal["dataset", "generator"] = "dataset"
    train: str = "train"
    test: str = "test"
    features: str | None = None
    view: str = "clean"
    layer: Names = None
    learners: list[str] = field(default_factory=lambda: ["replay", "fine_tune", "joint"])
    selections: list[str] = field(default_factory=lambda: ["hgr", "random"])
    keep: list[float] = field(default_factory=lambda: [0.01])
    capacity: int | None = None
    selection_params: dict[str, dict[str, Any]] = field(default_factory=dict)
    memory_batch_size: int = 32
    later_params: dict[str, Any] = field(default_factory=dict)
    n_orders: int | None = None
    seeds: list[int] = field(default_factory=lambda: [0])
    metric: str = "accuracy"
    n_jobs: int = 1
    max_memory: str = "1GB"
    overwrite: bool = False


@dataclass(frozen=True)
class StreamRun:
    """One stream learned once.

    Parameters
    ----------
    order
        Domains in the order in which they are learned.
    seed
        Seed of head and selection.
    learner
        A key of `LEARNERS`.
    selection, keep
        How rows are kept; None for learners without a memory.
    """

    order: tuple[str, ...]
    seed: int
    learner: str
    selection: str | None = None
    keep: float | None = None


def runs_of(config: ContinualConfig) -> list[StreamRun]:
    """Return all runs of a study.

    Parameters
    ----------
    config
        The study.

    Returns
    -------
    list of StreamRun
        Every order with every seed, learner, and, for those with a memory, selection and budget.

    Raises
    ------
    ConfigError
        If a name is not known (close matches are named) or a setting is not legal.
    """
    _check(config)
    bases: list[str | None] = [*config.base] or [None]
    found = [order for base in bases for order in orders(config.tails, config.n_orders, base=base)]
    runs = []
    for order, seed, learner in product(found, config.seeds, config.learners):
        if learner not in WITH_MEMORY:
            runs.append(StreamRun(order, seed, learner))
            continue
        for selection, keep in product(config.selections, config.keep):
            runs.append(StreamRun(order, seed, learner, selection, keep))
    return runs


def _check(config: ContinualConfig) -> None:
    """Find mistakes before any work is done."""
    for kind, names, known in (
        ("learner", config.learners, LEARNERS),
        ("selection", config.selections, [*SELECTIONS, "reservoir"]),
        ("metric", [config.metric], METRICS),
    ):
        for name in names:
            if name not in known:
                raise ConfigError(unknown_name(kind, name, known))
    if overlap := set(config.base) & set(config.tails):
        raise ConfigError(f"'base' and 'tails' must differ, got {sorted(overlap)} in both.")
    if not config.seeds or config.memory_batch_size < 1 or min(config.keep, default=1) <= 0:
        raise ConfigError(
            "'seeds', 'memory_batch_size' and 'keep' must name a seed, at least one row and "
            f"numbers > 0, got {config.seeds}, {config.memory_batch_size} and {config.keep}."
        )
    (head,) = make_heads(config.head, [config.later_params], 0)
    if "merge" in config.learners and not hasattr(head, "merge"):
        raise ConfigError(
            f"learner 'merge' needs a closed-form head such as 'ridge_probe', got "
            f"{config.head.name!r}."
        )
