"""From a configuration to tasks: the rows of each role, the draws, and what each process does."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

import featstore
from featstore.errors import ConfigError
from heads.evaluation.roles import (
    identities,
    require_disjoint,
    require_selection_split,
    row_counts,
    splits_of,
)
from heads.few_shot.config import FewShotConfig
from heads.few_shot.episodes import (
    Codes,
    Episode,
    Positions,
    apart,
    linked_units,
    plan_episodes,
    require_enough,
)
from heads.few_shot.judging import Rows
from heads.few_shot.running import Task, episodes_at_once
from heads.origins import layer_names

if TYPE_CHECKING:
    import xarray as xr

TOGETHER = "all together"
"""Name in the tables of what a head sees that sees all layers."""


def select_roles(config: FewShotConfig) -> dict[str, Rows]:
    """Select the rows of each role, and find out what is linked with what.

    Parameters
    ----------
    config
        What is asked for.

    Returns
    -------
    dict
        ``support``, ``query`` and, where asked for, ``val``.

    Raises
    ------
    ConfigError
        If the query is of several splits, or rows to choose on are meant for reporting or are
        reported.

    Notes
    -----
    Reads the content ids of all rows, and no feature.
    """
    store = featstore.open(config.store)
    wanted = {"support": config.support or config.query, "query": config.query, "val": config.val}
    data = {
        role: store.select(config.features, view=config.view, layer=config.layer, **asdict(rows))
        for role, rows in wanted.items()
        if rows is not None
    }
    if len(found := splits_of(data["query"])) != 1:
        raise ConfigError(
            f"reported rows must be of one split, got {found}; name one in 'query.split', and "
            "make a study for each."
        )
    if "val" in data:
        require_selection_split(data["val"], what="the layer and the threshold")
        require_disjoint(data["query"], data["val"], "val")
    frames = [identities(ds).assign(dataset=ds["dataset"].values) for ds in data.values()]
    units = dict(zip(data, linked_units(*frames), strict=True))
    if "val" in data:
        _require_apart(data["query"], units["query"], units["val"])
    return {role: Rows(ds, units[role]) for role, ds in data.items()}


def _require_apart(query: "xr.Dataset", units: Positions, validation: Positions) -> None:
    """Refuse query rows that belong together with validation rows by way of other rows."""
    if len(common := np.flatnonzero(~apart(units, validation))):
        path = str(query["path"][common[:1]].values[0])
        raise ConfigError(
            f"rows of the query must not be aligned with copies of validation rows, or the other "
            f"way round, got {len(common)} that are (such as {path!r}); name other rows."
        )


def groups_of(config: FewShotConfig, ds: "xr.Dataset") -> tuple[Codes, list[str]]:
    """Return what the shots are counted by.

    Parameters
    ----------
    config
        What is asked for.
    ds
        The support rows.

    Returns
    -------
    tuple
        The group of every row (n_rows,), and the names of all groups by code.

    Raises
    ------
    ConfigError
        If there are images of one class only.
    """
    if len(np.unique(ds["label"].values)) < 2:
        raise ConfigError(
            f"the support must hold real and fake images, got {row_counts(ds)}; name other rows."
        )
    if config.per == "class":
        return ds["label"].values, ["real", "fake"]
    return ds["generator"].values, list(ds.attrs["generators"])


def draw_all(
    config: FewShotConfig, rows: Mapping[str, Rows], groups: Codes, names: Sequence[str]
) -> list[Episode]:
    """Draw all episodes.

    Parameters
    ----------
    config
        What is asked for.
    rows
        The rows of each role.
    groups, names
        From `groups_of`.

    Returns
    -------
    list of Episode
        Each leaves a query with real and fake images of one dataset.

    Raises
    ------
    ConfigError
        If a group has too few images, or an episode leaves no such query.
    """
    images = pd.factorize(rows["support"].features["sample_id"].values)[0]
    most = max(config.shots)
    require_enough(groups, images, names, most=most, per=config.per)
    episodes = list(
        plan_episodes(groups, images, most=most, n_episodes=config.episodes, seed=config.seed)
    )
    query = rows["query"]
    datasets, labels = query.features["dataset"].values, query.features["label"].values
    for episode in episodes:
        kept = apart(query.units, rows["support"].units[episode.drawn.ravel()])
        real, fake = (set(datasets[kept & (labels == label)]) for label in (0, 1))
        if not real & fake:
            raise ConfigError(
                f"a query needs real and fake images of one dataset, got none in episode "
                f"{episode.number} beside {most} shots per {config.per} and what is linked to "
                "them; ask for fewer 'shots' or name more query rows."
            )
    return episodes


def tasks_of(
    config: FewShotConfig, rows: Mapping[str, Rows], episodes: Sequence[Episode]
) -> Iterator[Task]:
    """Yield the work in pieces, layer by layer.

    Parameters
    ----------
    config
        What is asked for.
    rows
        The rows of each role.
    episodes
        All episodes.

    Yields
    ------
    Task
        As many episodes as memory allows. The pieces do not depend on the number of processes.
    """
    for layer in _layers(config, rows["query"].features):
        seen = {role: Rows(_only(own.features, layer), own.units) for role, own in rows.items()}
        at_once = episodes_at_once(config, seen, len(episodes[0].drawn))
        for start in range(0, len(episodes), at_once):
            yield Task(layer or TOGETHER, seen, episodes[start : start + at_once])


def _layers(config: FewShotConfig, ds: "xr.Dataset") -> list[str | None]:
    """Return what the heads see, one entry for each choice; None stands for all layers."""
    names = layer_names(ds)
    return [*names] if config.each_layer or len(names) == 1 else [None]


def _only(ds: "xr.Dataset", layer: str | None) -> "xr.Dataset":
    """Return a selection with one of its layers."""
    for array, values in ds.data_vars.items():
        axes = [axis for axis in values.dims if str(axis).startswith("layer")]
        if any(layer in values[axis].values for axis in axes):
            return ds[[array]].sel({axis: [layer] for axis in axes})
        if layer == array:
            return ds[[array]]
    return ds
