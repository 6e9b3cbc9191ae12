"""Fusing the scores of trained heads: from their run folders to one of its own."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from featstore.config import to_mapping
from featstore.errors import ConfigError
from heads.evaluation.roles import require_selection_split, splits_of
from heads.evaluation.runs import Run, environment, write_run
from heads.evaluation.tables import metric_table
from heads.evaluation.thresholds import Selection, best_threshold
from heads.evaluation.whole_folder import require_free
from heads.experiments.choosing import HALF, half_sentence
from heads.experiments.config import check_resampling
from heads.fusion.rules import Rule, RuleFusion, StackedFusion
from heads.fusion.scored_runs import ScoredRun, aligned, read_scored

Scores = tuple[pd.DataFrame, NDArray[np.float64]]
"""What is known of images, and their scores (n_samples, n_runs)."""


@dataclass(frozen=True)
class FusionConfig:
    """Which scores to fuse, and how.

    Parameters
    ----------
    runs
        Folders of trainings or evaluations, or Parquet files of scores, at least two. All must
        have scored the same images; their heads may differ in layers, features and views.
    output
        Folder of the fusion, a run like others.
    rule
        A rule of `heads.fusion.rules.fuse`, or ``stacked`` for a logistic rule fitted on the
        validation rows of the runs.
    C
        Inverse strength > 0 of the penalty of the stacked rule.
    selection
        ``val``; ``oracle`` also shows, marked ORACLE, what the best threshold on the reported rows
        would give.
    seed
        Seed of the bootstrap.
    bootstrap
        Number of resamples behind each interval, at least 100; 0 leaves the intervals out.
    overwrite
        Whether an existing folder is moved aside.
    """

    runs: list[str]
    output: str
    rule: Rule | Literal["stacked"] = "mean_logit"
    C: float = 1.0
    selection: Selection = "val"
    seed: int = 0
    bootstrap: int = 1000
    overwrite: bool = False


def run_fusion(config: FusionConfig, *, progress: Callable[[int, int], None] | None = None) -> Run:
    """Fuse the scores of several heads, and report the fused score.

    Parameters
    ----------
    config
        What to do.
    progress
        Called with the runs read and their number.

    Returns
    -------
    Run
        What was written to ``config.output``; its head maps the scores of the runs, in their order,
        to the fused one.

    Raises
    ------
    ConfigError
        If the configuration is illegal, the runs scored different images, or a stacked rule would
        have to be fitted on other than validation rows, or on reported ones.
    StoreExistsError
        If the output folder exists and may not be replaced.
    """
    started, start = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    check_resampling(config)
    require_free(config.output, config.overwrite)
    if len(config.runs) < 2 or len(set(config.runs)) < len(config.runs):
        raise ConfigError(f"'runs' must name at least two different runs, got {config.runs!r}.")
    runs = []
    for number, path in enumerate(config.runs, 1):
        runs.append(read_scored(path))
        if progress is not None:
            progress(number, len(config.runs))
    test, val = _rows(runs)
    head, sentence = _rule(config, runs, val)
    thresholds, chosen = _thresholds(head, val)
    scores = _fused(head, test)
    table = metric_table(
        scores,
        thresholds,
        n_resamples=config.bootstrap,
        rng=config.seed,
        selection=config.selection,
    )
    record = {
        "started": started,
        "seconds": round(time.perf_counter() - start, 3),
        "seed": config.seed,
        "selection": config.selection,
        "store": _origin(runs),
        "rows": {k: _row_counts(v[0]) for k, v in (("val", val), ("test", test)) if v is not None},
        "thresholds": thresholds,
        "chosen": [sentence, *chosen],
        **environment(),
    }
    written = to_mapping(replace(config, overwrite=False))
    validation = None if val is None else _fused(head, val)
    run = Run(written, head, scores, table, record, validation, None, _trained_on(runs))
    write_run(run, config.output, overwrite=config.overwrite)
    return run


def fit_stack(samples: pd.DataFrame, scores: NDArray[np.float64], C: float = 1.0) -> StackedFusion:
    """Fit the stacked rule on validation rows.

    Parameters
    ----------
    samples
        What is known of the rows: ``split`` and ``label``.
    scores
        Scores of the heads (n_samples, n_heads).
    C
        Inverse strength > 0 of the penalty.

    Returns
    -------
    StackedFusion
        Fitted.

    Raises
    ------
    ConfigError
        If a row is of another split than ``val``: scores of training rows look better than they
        are, and rows that are reported may not decide; or if the rows are of one class.
    """
    require_selection_split(samples, what="the weights of a stacked rule", allowed=["val"])
    try:
        return StackedFusion(C=C).fit(scores, samples["label"].to_numpy())
    except ValueError as err:
        raise ConfigError(f"stacked rule: {err}") from err


def _rows(runs: Sequence[ScoredRun]) -> tuple[Scores, Scores | None]:
    """Return the reported scores and the validation scores, if all runs have some."""
    test = aligned({run.name: run.scores for run in runs})
    if len(splits := splits_of(test[0])) != 1:
        raise ConfigError(f"reported rows must be of one split, got {splits}; fuse one at a time.")
    frames = {run.name: run.validation for run in runs if run.validation is not None}
    if len(frames) < len(runs):
        return test, None
    val = aligned(frames)
    common = val[0]["sample_id"].isin(test[0]["sample_id"].unique())
    if common.any():
        raise ConfigError(
            f"the same image must not be chosen on and reported, got {int(common.sum())} "
            f"validation rows that are, such as {val[0]['path'][common].iloc[0]!r}; name other "
            f"runs."
        )
    return test, val


def _rule(config: FusionConfig, runs: Sequence[ScoredRun], val: Scores | None) -> tuple[Any, str]:
    """Return the fitted rule, and what was chosen on what."""
    if config.rule != "stacked":
        labels = np.array([0, 1])
        head = RuleFusion(rule=config.rule).fit(np.zeros((2, len(runs))), labels)
        return head, f"rule {config.rule} of {len(runs)} runs: named beforehand, not chosen"
    if val is None:
        lacking = [run.name for run in runs if run.validation is None]
        raise ConfigError(
            f"rule 'stacked' must be fitted on validation rows of all runs, got none for "
            f"{lacking}; name folders of trainings with 'val', or another rule."
        )
    stack = fit_stack(*val, config.C)
    weights = ", ".join(f"{w:.3g}" for w in stack.coef_[0])
    return stack, f"weights {weights} of the stacked rule: fitted on {len(val[0])} validation rows"


def _thresholds(head: Any, val: Scores | None) -> tuple[dict[str, float], list[str]]:
    """Return the thresholds, and what was chosen on what."""
    if val is None or val[0]["label"].nunique() < 2:
        nothing = "no validation rows of both classes: nothing was chosen"
        return dict(HALF), [half_sentence(head, validated=True), nothing]
    fused = _fused(head, val)
    threshold = best_threshold(fused["score"].to_numpy(), fused["label"].to_numpy())
    rows = f"{len(fused)} validation rows of the runs"
    sentence = f"threshold val, {threshold:.4g}: best balanced accuracy on the {rows}"
    return {**HALF, "val": threshold}, [half_sentence(head, validated=True), sentence]


def _fused(head: Any, rows: Scores) -> pd.DataFrame:
    """Return a frame of fused scores."""
    samples, scores = rows
    fused = head.decision_function(scores)
    return samples.assign(score=fused, probability=expit(fused))


def _origin(runs: Sequence[ScoredRun]) -> dict[str, Any]:
    """Return where the scores came from, in the words of a run; the layers are the runs."""
    parts = {
        name: ", ".join(dict.fromkeys(str(run.store[name]) for run in runs))
        for name in ("path", "features", "view", "fingerprint")
    }
    parts["features"] = f"the scores of {len(runs)} runs on {parts['features']}"
    return {**parts, "layers": [run.name for run in runs]}


def _row_counts(samples: pd.DataFrame) -> list[Mapping[str, Any]]:
    """Count the real and fake rows of each dataset and split."""
    return [
        {
            "dataset": dataset,
            "split": split,
            "n_real": int((labels == 0).sum()),
            "n_fake": int((labels == 1).sum()),
        }
        for (dataset, split), labels in samples.groupby(["dataset", "split"], observed=True)[
            "label"
        ]
    ]


def _trained_on(runs: Sequence[ScoredRun]) -> pd.DataFrame | None:
    """Return the images that any of the runs learned from or chose on."""
    known = [run.trained_on for run in runs if run.trained_on is not None]
    return pd.concat(known).drop_duplicates(ignore_index=True) if known else None
