"""What a sweep is asked to try, as data, and the members that come of it."""

import hashlib
import json
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from joblib import effective_n_jobs

from featstore.config import to_mapping
from featstore.errors import ConfigError, unknown_name
from heads.evaluation.metrics import columns
from heads.evaluation.thresholds import AT_HALF, Selection
from heads.experiments.config import (
    HeadConfig,
    Names,
    RowsConfig,
    TrainConfig,
    check_settings,
    make_heads,
)
from heads.experiments.grids import LAYER, LayerNames, grid_points

SEED = "random_state"


@dataclass(frozen=True)
class SweptHead:
    """One kind of head and what to try of it.

    Parameters
    ----------
    name
        A key of `heads.HEADS`.
    params
        Hyper-parameters that all members share.
    grid
        Hyper-parameters to try: name to list of values.
    """

    name: str
    params: dict[str, Any] = field(default_factory=dict)
    grid: dict[str, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainPart:
    """Which of the training rows some members learn from.

    Parameters
    ----------
    dataset, generator
        Narrow the rows; those of the sweep if left out.
    fraction
        Share of these rows, in (0, 1]; aligned pairs stay whole.
    seed
        Seed of the drawing of the fraction.
    """

    dataset: Names = None
    generator: Names = None
    fraction: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise ConfigError(f"'fraction' must be in (0, 1], got {self.fraction!r}.")


@dataclass(frozen=True)
class SweepConfig:
    """Heads, hyper-parameters, layers, seeds and parts of the training rows to try.

    Parameters
    ----------
    store
        The store.
    heads
        The heads; each is tried with all of its grid, on all of `layers`, with all of `seeds`.
    train, val, test
        Rows to learn from, to choose on, and to report the chosen head on.
    output
        Folder of the sweep. A sweep of the same rows that was begun there is continued: members
        that are finished are not trained again, others may be added.
    layers
        Selections of layers to try, each a name, a glob or a list of them; None for all of `layer`.
    seeds
        Seeds of heads that have one; others are trained once.
    parts
        Parts of the training rows to learn from; all of them if left out.
    features
        Feature set; may be left out when the store holds one.
    view
        View of all rows.
    layer
        Layers that are read; all if left out.
    select_by
        The number that decides, the mean over the validation datasets.
    selection
        ``val``; ``oracle`` also lists, marked ORACLE, how every member does on the test rows.
    max_members
        Most members trained together in one process; bounds memory, and is what an interruption
        may cost of heads that cannot go on from a checkpoint.
    n_jobs
        Processes; -1 for as many as there are cores.
    max_memory
        Limit of the reader of each process.
    bootstrap
        Resamples behind the intervals of the chosen head, at least 100; 0 leaves them out.
    overwrite
        Whether a sweep of other rows in the folder is moved aside.
    """

    store: str
    heads: list[SweptHead]
    train: RowsConfig
    val: RowsConfig
    test: RowsConfig
    output: str
    layers: list[LayerNames] = field(default_factory=lambda: [None])
    seeds: list[int] = field(default_factory=lambda: [0])
    parts: list[TrainPart] = field(default_factory=lambda: [TrainPart()])
    features: str | None = None
    view: str = "clean"
    layer: Names = None
    select_by: str = "auroc"
    selection: Selection = "val"
    max_members: int = 128
    n_jobs: int = 1
    max_memory: str = "2GB"
    bootstrap: int = 1000
    overwrite: bool = False

    def training(self, part: TrainPart, layer: Names = None) -> TrainConfig:
        """Return what the members of one part have in common, as one training.

        Parameters
        ----------
        part
            The part; its fraction is left to whoever selects the rows.
        layer
            Layers to be read; those of the sweep if None.

        Returns
        -------
        TrainConfig
            Its head is the first one of the sweep.
        """
        given = {"dataset": part.dataset, "generator": part.generator}
        narrowed = {name: value for name, value in given.items() if value is not None}
        shared = ("store", "val", "test", "output", "features", "view", "max_memory", "bootstrap")
        return TrainConfig(
            head=HeadConfig(self.heads[0].name),
            train=replace(self.train, **narrowed),
            layer=layer or self.layer,
            **{name: getattr(self, name) for name in shared},
        )


@dataclass(frozen=True)
class Member:
    """One head of a sweep.

    Parameters
    ----------
    head
        Name of the head.
    params
        All hyper-parameters that are given, its seed among them.
    point
        Those in which members differ.
    layer
        The layers it sees.
    part
        The rows it learns from.
    """

    head: str
    params: dict[str, Any]
    point: dict[str, Any]
    layer: LayerNames
    part: TrainPart

    def make(self) -> Any:
        """Return the head, not yet fitted."""
        return make_heads(HeadConfig(self.head, self.params), [{}], seed=0)[0]

    @property
    def digest(self) -> str:
        """Name of the member: 32 hexadecimal digits, equal for equal members of one store."""
        told = {name: value for name, value in to_mapping(self).items() if name != "point"}
        text = json.dumps(told, sort_keys=True, default=str)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


Group = tuple[Member, ...]
"""Members that are trained together: of one part of the rows."""


def check_sweep(config: SweepConfig) -> None:
    """Find mistakes before any work is done.

    Parameters
    ----------
    config
        What is asked for.

    Raises
    ------
    ConfigError
        If nothing is to be tried, or a number or a name is not legal.
    """
    for name in ("heads", "layers", "seeds", "parts"):
        if not getattr(config, name):
            raise ConfigError(f"{name!r} must list something to try, got an empty list.")
    if config.max_members < 1:
        raise ConfigError(f"'max_members' must be at least 1, got {config.max_members}.")
    if config.n_jobs != -1 and config.n_jobs < 1:
        raise ConfigError(f"'n_jobs' must be at least 1, or -1 for all, got {config.n_jobs}.")
    if config.select_by not in (known := columns({"0.5": AT_HALF})):
        raise ConfigError(unknown_name("number in 'select_by'", config.select_by, known))
    for seed in config.seeds:
        check_settings(replace(config.training(config.parts[0]), seed=seed))
    for swept in config.heads:
        if LAYER in swept.grid:
            raise ConfigError("layers to try are named in 'layers' of a sweep, got them in a grid.")


def members_of(config: SweepConfig) -> list[Member]:
    """Return all members.

    Parameters
    ----------
    config
        A legal configuration.

    Returns
    -------
    list of Member
        In the order of parts, heads, layers, hyper-parameters and seeds.

    Raises
    ------
    ConfigError
        If a head or a hyper-parameter is not legal.
    """
    members = [member for part in config.parts for member in _members(config, part)]
    for member in members:
        member.make()
    return members


def groups_of(config: SweepConfig, done: Container[str]) -> list[Group]:
    """Return the members that are not done, in groups that are trained together.

    Parameters
    ----------
    config
        A legal configuration.
    done
        Digests of the members that are finished.

    Returns
    -------
    list of tuple
        Groups of members of one part: at most `max_members`, fewer if there are more processes to
        feed. A sweep that is begun again makes the same groups of what is left.
    """
    groups: list[Group] = []
    for part in config.parts:
        members = list(_members(config, part))
        size = min(config.max_members, -(-len(members) // effective_n_jobs(config.n_jobs)))
        left = [member for member in members if member.digest not in done]
        groups += [tuple(left[i : i + size]) for i in range(0, len(left), size)]
    return groups


def _members(config: SweepConfig, part: TrainPart) -> Iterator[Member]:
    """Yield the members that learn from one part of the rows."""
    for swept in config.heads:
        probe = make_heads(HeadConfig(swept.name, swept.params), [{}], config.seeds[0])[0]
        seeded = SEED in probe.get_params() and not {SEED} & {*swept.params, *swept.grid}
        seeds: Sequence[dict[str, int]] = [{SEED: s} for s in config.seeds] if seeded else [{}]
        for layer in config.layers:
            for point in grid_points(swept.grid):
                for seed in seeds:
                    varied = point | seed
                    yield Member(swept.name, swept.params | varied, varied, layer, part)
