"""The runs of a study: variants, orders, seeds, learners, selections and budgets."""

import json
from collections import Counter
from dataclasses import replace
from itertools import product
from math import isfinite
from typing import Any

import numpy as np
import pandas as pd
import yaml

import featstore
from continual.config import ContinualConfig, StreamRun
from continual.domains import domains_of
from continual.learners import LEARNERS
from continual.measuring import metrics_of
from continual.selection import SELECTIONS, check_selection, n_kept
from continual.streams import in_time, orders
from featstore.config import apply_overrides, from_mapping, to_mapping
from featstore.errors import ConfigError, unknown_name
from featstore.layouts import FAKE
from featstore.schema import METADATA_PREFIX
from heads import HEADS
from heads.experiments.config import make_heads
from heads.experiments.memory import memory_limit

FIXED = {"store", "output", "vary", "seeds", "n_jobs", "scheduler", "overwrite", "metric"}
"""What variants of one study have in common."""


def variants_of(config: ContinualConfig) -> dict[str, ContinualConfig]:
    """Return the variants of a study by name.

    Parameters
    ----------
    config
        The study.

    Returns
    -------
    dict
        Configurations by names such as ``"lambda_x=300, lambda_y=700"``, with the whole of keys
        that end alike; the study itself under the empty name if nothing varies.

    Raises
    ------
    ConfigError
        If a key is not known or must not vary, or a value has the wrong type.

    Examples
    --------
    >>> from heads.experiments.config import HeadConfig
    >>> study = ContinualConfig(
    ...     "s.zarr", ["a", "b"], HeadConfig("hsic_probe"), "out",
    ...     vary=[{"head.params.lambda_x": [1, 2]}, {"ratio": [5]}],
    ... )  # fmt: skip
    >>> list(variants_of(study))
    ['lambda_x=1', 'lambda_x=2', 'ratio=5']
    """
    plain = to_mapping(replace(config, vary=[]))
    found: dict[str, ContinualConfig] = {}
    every = {key for axes in config.vary for key in axes}
    n_alike = Counter(_end(key) for key in every)
    shown = {key: _end(key) if n_alike[_end(key)] == 1 else key for key in every}
    for axes in config.vary:
        if not axes or not all(axes.values()):
            raise ConfigError(f"an entry of 'vary' must name keys with values, got {axes!r}.")
        if wrong := sorted(FIXED & {key.partition(".")[0] for key in axes}):
            raise ConfigError(f"'vary' must not name {sorted(FIXED)}, got {wrong}.")
        for values in product(*axes.values()):
            point = dict(zip(axes, values, strict=True))
            name = ", ".join(f"{shown[key]}={_shown(value)}" for key, value in point.items())
            assignments = [f"{key}={_as_yaml(value)}" for key, value in point.items()]
            changed = apply_overrides(plain, assignments)
            found[name] = from_mapping(ContinualConfig, changed, f"variant {name!r}")
    return found or {"": config}


def _end(key: str) -> str:
    return key.rpartition(".")[2]


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return "+".join(map(_shown, value))
    return value if isinstance(value, str) else json.dumps(value)


def _as_yaml(value: Any) -> str:
    """Return a value as YAML reads it, which takes the ``1e-05`` of JSON for text."""
    return yaml.safe_dump(value, default_flow_style=True)


def runs_of(config: ContinualConfig) -> list[StreamRun]:
    """Return all runs of a study.

    Parameters
    ----------
    config
        The study.

    Returns
    -------
    list of StreamRun
        Of every variant every order with every seed, learner, and, for those with a memory,
        selection and budget.

    Raises
    ------
    ConfigError
        If a name is not known (close matches are named) or a setting is not legal.
    """
    return [run for name, variant in variants_of(config).items() for run in _runs_of(name, variant)]


def _runs_of(variant: str, config: ContinualConfig) -> list[StreamRun]:
    """Return the runs of one variant."""
    check(config)
    runs = []
    for order, seed, learner in product(_orders(config), config.seeds, config.learners):
        if not LEARNERS[learner].has_memory:
            runs.append(StreamRun(order, seed, learner, variant=variant))
            continue
        for selection, keep in product(config.selections, config.keep):
            runs.append(StreamRun(order, seed, learner, selection, keep, variant))
    return runs


def _orders(config: ContinualConfig) -> list[tuple[str, ...]]:
    """Return the orders of all domains, base included."""
    bases: list[str | None] = [*config.base] or [None]
    if config.order == "all":
        drawn = (orders(config.tails, config.n_orders, base=base) for base in bases)
        return [order for own in drawn for order in own]
    tails = tuple(config.tails)
    if config.order == "time":
        tails = _by_time(config)
    return [tails if base is None else (base, *tails) for base in bases]


def _by_time(config: ContinualConfig) -> tuple[str, ...]:
    """Return the tails by the time of their first fake image to learn from that has one."""
    domains = domains_of(config, featstore.open(config.store), config.tails, config.train)
    column = f"{METADATA_PREFIX}{config.time}"
    if column not in domains.ds.coords:
        known = [name for name in map(str, domains.ds.coords) if name.startswith(METADATA_PREFIX)]
        raise ConfigError(
            f"order 'time' needs 'time' to name a metadata column of the store, one of "
            f"{[name.removeprefix(METADATA_PREFIX) for name in known]}, got {config.time!r}."
        )
    times, fake = domains.ds[column].values, domains.ds["label"].values == FAKE
    dated = fake & ~(pd.isna(times) | (times == ""))
    rows = {name: own[dated[own]] for name, own in domains.rows.items()}
    if timeless := [name for name, own in rows.items() if not len(own)]:
        raise ConfigError(
            f"order 'time' needs fake images with {config.time!r} of every domain, got none of "
            f"{timeless}; leave them out, or give their order."
        )
    names = np.concatenate([[name] * len(own) for name, own in rows.items()])
    first = in_time(names.tolist(), times[np.concatenate([*rows.values()])])
    return tuple(sorted(config.tails, key=first.index))


def check(config: ContinualConfig) -> None:
    """Find mistakes before any work is done.

    Parameters
    ----------
    config
        A study without variants.

    Raises
    ------
    ConfigError
        If a name is not known or a setting is not legal.
    """
    for kind, names, known in (
        ("learner", config.learners, LEARNERS),
        ("selection", config.selections, SELECTIONS),
        ("learner", config.learner_params, LEARNERS),
        ("metric", [config.metric], metrics_of(config)),
    ):
        for name in names:
            if name not in known:
                raise ConfigError(unknown_name(kind, name, known))
    for selection, options in config.selection_params.items():
        check_selection(selection, options)
    if overlap := set(config.base) & set(config.tails):
        raise ConfigError(f"'base' and 'tails' must differ, got {sorted(overlap)} in both.")
    for keep in config.keep:
        n_kept(1, keep)
    _check_lists(config)
    _check_numbers(config)
    if config.base_head is not None and len(config.base) != 1:
        raise ConfigError(
            f"'base_head' needs the one domain that it has learned in 'base', got {config.base}."
        )
    _check_head(config)


def _check_lists(config: ContinualConfig) -> None:
    """Find lists that name nothing, or a thing twice, which would count as two runs."""
    needed = {"tails", "seeds", "learners"}
    if any(LEARNERS[name].has_memory for name in config.learners):
        needed |= {"selections", "keep"}
    for key in ("tails", "base", "seeds", "learners", "selections", "keep"):
        values = getattr(config, key)
        if key in needed and not values:
            raise ConfigError(f"{key!r} must name one at least, got {values}.")
        if key != "tails" and len(set(values)) < len(values):
            raise ConfigError(f"{key!r} must name each once, got {values}.")


def _check_numbers(config: ContinualConfig) -> None:
    """Find numbers that are out of range."""
    memory_limit(config.max_memory)
    n_least = 2 * (len(config.tails) + bool(config.base))
    ratio, capacity = config.ratio, config.capacity
    for key, holds, what in (
        ("seeds", min(config.seeds) >= 0, "0 or more"),
        ("memory_batch_size", config.memory_batch_size >= 1, "at least 1"),
        ("n_jobs", config.n_jobs != 0, "a number of processes, or -1"),
        ("blur", 0 <= config.blur < 1, "in [0, 1)"),
        ("ratio", ratio is None or (isfinite(ratio) and ratio > 0), "a finite number > 0"),
        (
            "capacity",
            capacity is None or capacity >= n_least,
            f"at least {n_least}, a row of each domain and class",
        ),
    ):
        if not holds:
            raise ConfigError(f"{key!r} must be {what}, got {getattr(config, key)}.")


def _check_head(config: ContinualConfig) -> None:
    """Find heads that a learner or the target cannot do with."""
    (head,) = make_heads(config.head, [config.later_params], 0)
    for name in config.learners:
        LEARNERS[name].check(config, head)
    if config.target == "generator" and not HEADS[config.head.name].multiclass:
        known = sorted(name for name, kind in HEADS.items() if kind.multiclass)
        raise ConfigError(
            f"target 'generator' needs a head of many classes, one of {known}, got "
            f"{config.head.name!r}."
        )
