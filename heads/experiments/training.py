"""A training or an evaluation from its configuration to its run folder.

What was chosen (threshold, hyper-parameters) is chosen on validation rows and written down with the
rows it was chosen on; rows that are reported may have had no part in it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import featstore
from featstore.config import to_mapping
from featstore.errors import ConfigError, FeatstoreError, SchemaError, unknown_name
from heads.evaluation.events import require_tensorboard
from heads.evaluation.metrics import columns
from heads.evaluation.roles import (
    require_disjoint,
    row_counts,
    trained_on,
)
from heads.evaluation.runs import (
    TRAINED_ON,
    Run,
    environment,
    read_run,
    write_run,
)
from heads.evaluation.scoring import score_many
from heads.evaluation.tables import metric_table
from heads.evaluation.whole_folder import require_free
from heads.experiments.choosing import HALF, Choice, choose
from heads.experiments.config import (
    EvalConfig,
    HeadConfig,
    Names,
    RowsConfig,
    TrainConfig,
    check_settings,
    make_heads,
)
from heads.experiments.grids import grid_points, point_layers
from heads.experiments.selecting import require_one_split, select_roles, select_rows
from heads.fitting import fit_many
from heads.origins import require_same_features

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["EvalConfig", "HeadConfig", "RowsConfig", "TrainConfig", "run_eval", "run_train"]

Progress = Callable[[int, int], None]


def run_train(config: TrainConfig, *, progress: Progress | None = None) -> Run:
    """Train a head on the store, choose on validation rows, report on test rows.

    Parameters
    ----------
    config
        What to do.
    progress
        Called with the rows read in the current pass and the rows of a pass.

    Returns
    -------
    Run
        What was written to ``config.output``.

    Raises
    ------
    ConfigError
        If the configuration is illegal, rows that are reported were trained or chosen on, or the
        head cannot be trained on these rows.
    StoreExistsError
        If the output folder exists and may not be replaced.

    Notes
    -----
    A grid is trained together: the store is read as often as for one head.

    After an interruption the same configuration goes on from the last epoch, whose state is kept in
    ``.<output>.checkpoint`` beside the output until training is over. Heads with an exact solver
    begin anew.
    """
    clock = _Clock()
    _check_output(config)
    if config.select_by not in (known := columns(HALF)):
        raise ConfigError(unknown_name("number in 'select_by'", config.select_by, known))
    points = grid_points(config.grid)
    heads = make_heads(config.head, points, config.seed)
    if len(points) > 1 and config.val is None:
        raise ConfigError(
            f"a grid of {len(points)} combinations must be chosen on validation rows, got no "
            "'val'; name some."
        )
    data = select_roles(config)
    output = Path(config.output).absolute()
    fit_together(
        config,
        heads,
        point_layers(points),
        data,
        checkpoint=output.with_name(f".{output.name}.checkpoint"),
        progress=progress,
    )
    choice = choose(config, heads, points, data)
    return _report(config, choice, data, clock, trained_on(data))


def fit_together(
    config: TrainConfig,
    heads: Sequence[Any],
    layers: Sequence[Names] | None,
    data: Mapping[str, "xr.Dataset"],
    *,
    checkpoint: Path,
    progress: Progress | None = None,
) -> None:
    """Train heads together, going on from where an interrupted training was.

    Parameters
    ----------
    config
        What is asked for; its memory limit and its head's name are used here.
    heads
        Not yet fitted.
    layers
        What each head sees; everything if None.
    data
        Selections by role: ``train``, and ``val`` where there is one.
    checkpoint
        File for the state after each epoch; its folder is made if absent.
    progress
        Called with the rows read in the current pass and the rows of a pass.

    Raises
    ------
    ConfigError
        If a head cannot be trained on these rows.
    """
    report = None if progress is None else _per_pass(progress, data["train"].sizes["sample"])
    settings: Any = {"checkpoint": checkpoint, "max_memory": config.max_memory, "progress": report}
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    try:
        fit_many(heads, data["train"], data.get("val"), layers=layers, **settings)
    except FeatstoreError:
        raise
    except ValueError as err:
        raise ConfigError(f"head {config.head.name!r}: {err}") from err


def run_eval(config: EvalConfig, *, progress: Progress | None = None) -> Run:
    """Evaluate a trained head on rows of a store.

    Parameters
    ----------
    config
        What to do.
    progress
        Called once, when all rows are scored.

    Returns
    -------
    Run
        What was written to ``config.output``.

    Raises
    ------
    FingerprintError
        If the head was trained on other features than those selected.
    ConfigError
        If the configuration is illegal, or the rows were trained or chosen on, whatever store they
        are in now.
    """
    clock = _Clock()
    _check_output(config)
    trained = read_run(config.run)
    if "train" not in trained.config:
        raise ConfigError(
            f"'run' must be the folder of a training, got {config.run!r}, which is not."
        )
    if trained.trained_on is None:
        raise SchemaError(
            f"the folder of a training must hold {TRAINED_ON!r}, got {config.run!r} without it; "
            "train again."
        )
    origin = trained.record["store"]
    store = featstore.open(config.store or origin["path"])
    features, view = config.features or origin["features"], config.view or origin["view"]
    data = {"test": select_rows(store, config.test, features, view, origin["layers"])}
    require_one_split(data["test"])
    require_same_features(trained.head.origin_, data["test"], "rows to be scored")
    for role, known in trained.trained_on.groupby("role"):
        require_disjoint(data["test"], known, str(role))
    choice = Choice(
        trained.head,
        dict(trained.record["thresholds"]),
        [f"head and thresholds: those of the run {config.run!r}", *trained.record["chosen"]],
    )
    run = _report(config, choice, data, clock)
    if progress is not None:
        progress(len(run.scores), len(run.scores))
    return run


class _Clock:
    """When a run began and how long it has taken."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self.started = datetime.now(UTC).isoformat(timespec="seconds")

    @property
    def seconds(self) -> float:
        return round(time.perf_counter() - self._start, 3)


def _check_output(config: TrainConfig | EvalConfig) -> None:
    """Find out before the work that it is not legal, or its result could not be written."""
    check_settings(config)
    require_free(config.output, config.overwrite)
    if config.tensorboard:
        require_tensorboard()


def _per_pass(progress: Progress, n_rows: int) -> Progress:
    """Translate (pass, rows read in it) into (rows read, rows of a pass)."""
    return lambda _, n_read: progress(n_read, n_rows)


def _report(
    config: TrainConfig | EvalConfig,
    choice: Choice,
    data: Mapping[str, "xr.Dataset"],
    clock: _Clock,
    known: "pd.DataFrame | None" = None,
) -> Run:
    """Score the reported rows, make the table, write the folder."""
    scores = score_many([choice.head], data["test"], max_memory=config.max_memory)[0]
    table = metric_table(
        scores,
        choice.thresholds,
        n_resamples=config.bootstrap,
        rng=config.seed,
        selection=config.selection,
    )
    attributes = data["test"].attrs
    record = {
        "started": clock.started,
        "seconds": clock.seconds,
        "seed": config.seed,
        "selection": config.selection,
        "store": {
            "path": attributes["store"],
            **{name: attributes[name] for name in ("features", "view", "fingerprint")},
            "layers": list(choice.head.origin_["layers"]),
        },
        "rows": {role: row_counts(ds) for role, ds in data.items()},
        "thresholds": choice.thresholds,
        "chosen": choice.sentences,
        **environment(),
    }
    written = to_mapping(replace(config, overwrite=False))
    run = Run(written, choice.head, scores, table, record, choice.validation, choice.grid, known)
    write_run(run, config.output, overwrite=config.overwrite, tensorboard=config.tensorboard)
    return run
