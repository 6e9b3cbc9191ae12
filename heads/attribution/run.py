"""An attribution study from its configuration to its folder."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn import config_context

import featstore
from featstore.batches import iter_batches
from featstore.config import to_mapping
from featstore.errors import ConfigError, FeatstoreError
from featstore.subset import match
from heads.attribution.config import AttributionConfig
from heads.attribution.head import GeneratorAttribution
from heads.attribution.metrics import attribution_metrics, confusion
from heads.attribution.study import Attribution, attributed_of
from heads.attribution.writing import write_study
from heads.evaluation.resampling import common_groups
from heads.evaluation.roles import (
    require_disjoint,
    require_selection_split,
    row_counts,
    splits_of,
    trained_on,
)
from heads.evaluation.runs import environment
from heads.evaluation.scoring import BATCH_SIZE, sample_frame
from heads.evaluation.whole_folder import require_free
from heads.experiments.config import check_settings
from heads.fitting import fit

if TYPE_CHECKING:
    import xarray as xr


def run_attribution(
    config: AttributionConfig, *, progress: Callable[[int, int], None] | None = None
) -> Attribution:
    """Learn to tell generators apart, and report it on known and unknown ones.

    Parameters
    ----------
    config
        What to do.
    progress
        Called with the rows read in the current pass and the rows of a pass.

    Returns
    -------
    Attribution
        What was written to ``config.output``.

    Raises
    ------
    ConfigError
        If the configuration is illegal, rows that are reported were trained or chosen on, or the
        test rows hold generators that are neither trained on nor listed as unknown.
    StoreExistsError
        If the output folder exists and may not be replaced.
    """
    started, start = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    check_settings(config)
    require_free(config.output, config.overwrite)
    data = _select_roles(config)
    head = _fitted(config, data, progress)
    samples = attribute(head, data["test"], max_memory=config.max_memory)
    attributed, known = attributed_of(samples), head.classes_
    metrics = attribution_metrics(
        attributed,
        known,
        groups=common_groups(samples),
        n_resamples=config.bootstrap,
        rng=config.seed,
    )
    record = {"started": started, "seconds": round(time.perf_counter() - start, 3)}
    study = Attribution(
        to_mapping(replace(config, overwrite=False)),
        head,
        samples,
        metrics,
        confusion(attributed, known),
        {**record, **_record(config, head, data)},
        trained_on(data),
    )
    write_study(study, config.output, overwrite=config.overwrite)
    return study


def attribute(
    head: GeneratorAttribution, ds: "xr.Dataset", *, max_memory: str | int = "2GB"
) -> pd.DataFrame:
    """Attribute every row of a selection.

    Parameters
    ----------
    head
        A fitted head.
    ds
        A selection of the store.
    max_memory
        Most memory that reading may use.

    Returns
    -------
    DataFrame
        One row per sample: the columns of `heads.evaluation.scoring.sample_frame`, ``named`` (the
        nearest known generator), ``score`` (its squared distance) and ``rejected``.
    """
    n_samples = ds.sizes["sample"]
    named, scores = np.empty(n_samples, object), np.empty(n_samples)
    with config_context(assume_finite=True):  # metrics check the scores
        for batch in iter_batches(ds, BATCH_SIZE, max_memory=max_memory):
            X = batch.X.reshape(len(batch.X), -1)
            named[batch.index], scores[batch.index] = head.predict(X), head.anomaly_scores(X)
    found = {"named": named, "score": scores, "rejected": scores > head.threshold_}
    return sample_frame(ds).assign(**found)


def _fitted(
    config: AttributionConfig,
    data: Mapping[str, "xr.Dataset"],
    progress: Callable[[int, int], None] | None,
) -> GeneratorAttribution:
    """Return a head trained on the known generators."""
    n_rows = data["train"].sizes["sample"]
    head = GeneratorAttribution(shrinkage=config.shrinkage, rejection_rate=config.rejection_rate)
    try:
        return fit(
            head,
            data["train"],
            data.get("val"),
            target="generator",
            max_memory=config.max_memory,
            progress=progress and (lambda _, n_read: progress(n_read, n_rows)),
        )
    except FeatstoreError:
        raise
    except ValueError as err:
        raise ConfigError(f"attribution: {err}") from err


def _record(
    config: AttributionConfig, head: GeneratorAttribution, data: Mapping[str, "xr.Dataset"]
) -> dict[str, Any]:
    """Return where the numbers came from and what was chosen."""
    attributes, known = data["test"].attrs, head.classes_.tolist()
    return {
        "seed": config.seed,
        "store": {
            "path": attributes["store"],
            **{name: attributes[name] for name in ("features", "view", "fingerprint", "layers")},
        },
        "rows": {role: row_counts(ds) for role, ds in data.items()},
        "known": known,
        "unknown": sorted(set(_generators(data["test"])) - set(known)),
        "chosen": _sentences(head, "val" in data),
        **environment(),
    }


def _select_roles(config: AttributionConfig) -> dict[str, "xr.Dataset"]:
    """Select the rows of each role; those to learn from hold known generators only."""
    store = featstore.open(config.store)
    wanted = {"train": config.train, "val": config.val, "test": config.test}
    data = {
        role: store.select(config.features, view=config.view, layer=config.layer, **asdict(rows))
        for role, rows in wanted.items()
        if rows is not None
    }
    names = list(data["test"].attrs["generators"])
    unknown = match("generator", config.unknown, names) if config.unknown else []
    data["train"] = _of(data["train"], [name for name in names if name not in unknown], "train")
    known = _generators(data["train"])
    if "val" in data:
        data["val"] = _of(data["val"], known, "val")
    if strangers := sorted(set(_generators(data["test"])) - {*known, *unknown}):
        raise ConfigError(
            f"generators of test rows must be trained on or listed in 'unknown', got {strangers}, "
            f"which are neither; list them, or select other rows."
        )
    for role in [role for role in data if role != "test"]:
        require_selection_split(data[role], what=f"'{role}'")
        require_disjoint(data["test"], data[role], role)
    if len(found := splits_of(data["test"])) != 1:
        raise ConfigError(
            f"reported rows must be of one split, got {found}; name one in 'test.split'."
        )
    return data


def _generators(ds: "xr.Dataset") -> list[str]:
    """Return the names of the generators that rows come from."""
    names = np.asarray(ds.attrs["generators"], dtype=object)
    return sorted(names[np.unique(ds["generator"].values)])


def _of(ds: "xr.Dataset", generators: Sequence[str], role: str) -> "xr.Dataset":
    """Return the rows of some generators."""
    codes = [list(ds.attrs["generators"]).index(name) for name in generators]
    rows = np.flatnonzero(np.isin(ds["generator"].values, codes))
    if not len(rows):
        raise ConfigError(
            f"'{role}' must hold rows of known generators, got none; name other rows."
        )
    return ds.isel(sample=rows)


def _sentences(head: GeneratorAttribution, validated: bool) -> list[str]:
    """Return what was chosen on what, for people."""
    rows = f"{head.n_threshold_rows_} {'validation' if validated else 'training'} rows"
    how = "estimated on the training rows" if head.shrinkage == "ledoit_wolf" else "given"
    return [
        f"threshold of rejection {head.threshold_:.4g}: rejects {head.rate_:.3g} of {rows} of "
        f"known generators, at most {head.rejection_rate:.3g} wanted",
        f"shrinkage {head.shrinkage_:.4g}: {how}",
    ]
