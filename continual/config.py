"""What a continual-learning study is asked to do, as data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from heads.evaluation.metrics import accuracy, auroc, average_precision, balanced_accuracy
from heads.experiments.config import HeadConfig, Names

METRICS: Mapping[str, Callable[..., float]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "average_precision": average_precision,
    "auroc": auroc,
}
"""What is measured on the test rows of every domain after every step; accuracies at one half."""


@dataclass(frozen=True)
class ContinualConfig:
    """Domains, what learns them, and in which orders.

    Parameters
    ----------
    store
        The store.
    tails
        Domains whose order varies; one named twice comes twice, each time with other rows.
    head
        What learns; a head with ``warm_start`` goes on from its weights at every step.
    output
        Folder of the study; runs that are finished there are not run again.
    base
        Domains of which each comes first once, for a study of its own; none if left out.
    base_head
        Folder of a ``featstore train`` that has learned the one domain in `base`; the streams
        begin with its head instead of training one.
    domain
        What a domain is: a ``dataset`` of the store, or a ``generator`` with the real images of
        its datasets.
    target
        What is learned: ``label``, real or fake; or ``generator``, which one made an image, so
        that every domain brings a new class.
    train, test
        Splits to learn from and to report.
    features, view, layer
        Features; as for `heads.experiments.config.TrainConfig`.
    learners
        Keys of `continual.learners.LEARNERS`.
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
    learner_params
        Options of learners by name, such as ``{lwf: {weight: 2}}``.
    later_params
        Hyper-parameters of the head that change after the first step.
    order
        ``all`` orders of the tails, or those drawn; the one ``given``; or by ``time``.
    n_orders
        How many orders to draw; all of them if left out.
    time
        The metadata column that says when an image was made, for ``order: time``.
    blur
        Fraction in [0, 1) of the rows of a domain that come with a neighbouring one.
    ratio
        Fakes per real image to learn from, such as 5 for 1:5; as they are if left out.
    seeds
        Seeds of head, selection and stream; every order is run with each.
    vary
        Variants of the study in one table: each entry maps dotted keys of this configuration to
        lists of values, of which all combinations are run, such as
        ``{head.params.lambda_x: [300, 900]}``.
    metric
        The number shown first, a key of `METRICS`.
    n_jobs
        Processes; -1 for one per core.
    scheduler
        Address of a Dask cluster that runs the streams instead.
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
    base_head: str | None = None
    domain: Literal["dataset", "generator"] = "dataset"
    target: Literal["label", "generator"] = "label"
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
    learner_params: dict[str, dict[str, Any]] = field(default_factory=dict)
    later_params: dict[str, Any] = field(default_factory=dict)
    order: Literal["all", "given", "time"] = "all"
    n_orders: int | None = None
    time: str | None = None
    blur: float = 0.0
    ratio: float | None = None
    seeds: list[int] = field(default_factory=lambda: [0])
    vary: list[dict[str, list[Any]]] = field(default_factory=list)
    metric: str = "accuracy"
    n_jobs: int = 1
    scheduler: str | None = None
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
        Seed of head, selection and stream.
    learner
        A key of `continual.learners.LEARNERS`.
    selection, keep
        How rows are kept; None for learners without a memory.
    variant
        Name of the variant of the study; empty for the study as it is.
    """

    order: tuple[str, ...]
    seed: int
    learner: str
    selection: str | None = None
    keep: float | None = None
    variant: str = ""
