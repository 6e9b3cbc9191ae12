"""What a training or an evaluation is asked to do, as data; the YAML files have these keys."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Protocol, get_type_hints

from featstore.errors import ConfigError, unknown_name
from featstore.layouts import FAKE, REAL
from featstore.typed_values import Key, convert
from heads.evaluation.thresholds import Selection
from heads.experiments.grids import LAYER
from heads.experiments.memory import memory_limit

Names = str | list[str] | None
"""A name, a glob, a list of them, or nothing for all."""

MIN_RESAMPLES = 100
"""Fewer say nothing about quantiles of 2.5 %."""


@dataclass(frozen=True)
class RowsConfig:
    """Which rows of the store have a role.

    Parameters
    ----------
    split
        The split or splits.
    dataset
        Datasets; every dataset of the split if left out.
    generator
        Generators, ``real`` among them where real images are wanted; all if left out.
    """

    split: str | list[str]
    dataset: Names = None
    generator: Names = None


@dataclass(frozen=True)
class HeadConfig:
    """Which head is trained.

    Parameters
    ----------
    name
        A key of `heads.HEADS`.
    params
        Its hyper-parameters, as in its constructor.
    """

    name: str
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainConfig:
    """What to train on what, and where to report it.

    Parameters
    ----------
    store
        The store.
    head
        The head.
    train, test
        Rows to learn from and rows to report.
    output
        Folder of the run.
    val
        Rows on which thresholds, epochs and hyper-parameters are chosen.
    features
        Feature set; may be left out when the store holds one.
    view
        View of all rows.
    layer
        Layers; all if left out.
    grid
        Hyper-parameters to try: name to list of values; ``layer`` to a list of selections among the
        layers above. All combinations are trained together.
    select_by
        The number that decides among them, the mean over the validation datasets.
    selection
        ``val``; ``oracle`` also shows, marked ORACLE, what choosing on the test rows would give.
    seed
        Seed of the head and of the bootstrap.
    max_memory
        Limit of the reader.
    bootstrap
        Number of resamples behind each interval, at least 100; 0 leaves the intervals out.
    tensorboard
        Whether event files are written.
    overwrite
        Whether an existing folder is moved aside.
    """

    store: str
    head: HeadConfig
    train: RowsConfig
    test: RowsConfig
    output: str
    val: RowsConfig | None = None
    features: str | None = None
    view: str = "clean"
    layer: Names = None
    grid: dict[str, list[Any]] = field(default_factory=dict)
    select_by: str = "auroc"
    selection: Selection = "val"
    seed: int = 0
    max_memory: str = "2GB"
    bootstrap: int = 1000
    tensorboard: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class EvalConfig:
    """Which trained head to evaluate on what.

    Parameters
    ----------
    run
        Folder of a training.
    test
        Rows to report.
    output
        Folder of the evaluation.
    store
        The store; that of the training if left out.
    features
        Feature set; the name it had in training if left out.
    view
        View of the rows; that of the training if left out.
    selection, seed, max_memory, bootstrap, tensorboard, overwrite
        As for `TrainConfig`.
    """

    run: str
    test: RowsConfig
    output: str
    store: str | None = None
    features: str | None = None
    view: str | None = None
    selection: Selection = "val"
    seed: int = 0
    max_memory: str = "2GB"
    bootstrap: int = 1000
    tensorboard: bool = False
    overwrite: bool = False


class Resampling(Protocol):
    """Any configuration with intervals."""

    @property
    def seed(self) -> int:
        """Seed of the bootstrap."""

    @property
    def bootstrap(self) -> int:
        """Number of resamples."""


class Reading(Resampling, Protocol):
    """Any configuration that reads features, too."""

    @property
    def max_memory(self) -> str:
        """Limit of the reader."""


def check_resampling(config: Resampling) -> None:
    """Find mistakes in what intervals are made with.

    Parameters
    ----------
    config
        What is asked for.

    Raises
    ------
    ConfigError
        If the seed or the number of resamples is not legal.
    """
    if config.seed < 0:
        raise ConfigError(f"'seed' must be 0 or more, got {config.seed}.")
    if config.bootstrap != 0 and config.bootstrap < MIN_RESAMPLES:
        raise ConfigError(
            f"'bootstrap' must be at least {MIN_RESAMPLES} resamples, or 0 for no intervals, got "
            f"{config.bootstrap}."
        )


def check_settings(config: Reading) -> None:
    """Find mistakes in numbers before any work is done.

    Parameters
    ----------
    config
        What is asked for.

    Raises
    ------
    ConfigError
        If the seed, the number of resamples or the memory limit is not legal.
    """
    check_resampling(config)
    memory_limit(config.max_memory)


def make_heads(head: HeadConfig, points: Sequence[Mapping[str, Any]], seed: int) -> list[Any]:
    """Construct one head for each combination of a grid.

    Parameters
    ----------
    head
        The head and what all combinations share.
    points
        What differs between them; the layers they see are left to `point_layers`.
    seed
        ``random_state`` of heads that have one and are not given another.

    Returns
    -------
    list of estimators
        Not yet fitted.

    Raises
    ------
    ConfigError
        If the head, a hyper-parameter or a value is not legal; close matches are named.
    """
    from heads import HEADS

    if head.name not in HEADS:
        raise ConfigError(unknown_name("head", head.name, HEADS))
    kind: Any = HEADS[head.name]
    known = kind().get_params()
    points = [{k: v for k, v in point.items() if k != LAYER} for point in points]
    for name in dict.fromkeys([*head.params, *(n for point in points for n in point)]):
        if name not in known:
            raise ConfigError(unknown_name(f"parameter of {head.name!r}", name, known))
    shared = {"random_state": seed} if "random_state" in known else {}
    made = [kind(**_typed(kind, {**shared, **head.params, **point})) for point in points]
    for estimator in made:
        try:
            estimator._validate_params()
        except ValueError as err:
            raise ConfigError(f"'head.params' or 'grid': {err}") from err
        if isinstance(weights := getattr(estimator, "class_weight", None), Mapping):
            _check_class_weight(weights)
    return made


def _check_class_weight(weights: Mapping[Any, Any]) -> None:
    """Refuse weights of classes that no image has, or that are no weights."""
    if set(weights) != {REAL, FAKE}:
        raise ConfigError(
            f"'class_weight' must have the keys {REAL} (real) and {FAKE} (fake), got "
            f"{list(weights)!r}; name both."
        )
    for label, weight in weights.items():
        is_number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
        if not (is_number and isfinite(weight) and weight > 0):
            raise ConfigError(f"'class_weight' of {label} must be a number > 0, got {weight!r}.")


def _typed(kind: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """Convert values as the constructor annotates them; YAML reads ``1e-4`` as text."""
    kinds = get_type_hints(kind.__init__)
    place = Key("head", "params")
    return {
        name: convert(value, kinds.get(name, Any), place.child(name))
        for name, value in params.items()
    }
