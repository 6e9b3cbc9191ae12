"""Choosing among trained heads, and a head's threshold, on validation rows alone."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from featstore.errors import ConfigError
from heads.evaluation.metrics import columns
from heads.evaluation.roles import row_counts
from heads.evaluation.scoring import score_many
from heads.evaluation.tables import metric_table
from heads.evaluation.thresholds import AT_HALF, ORACLE, best_threshold
from heads.experiments.config import RowsConfig, TrainConfig
from heads.experiments.grids import LAYER

if TYPE_CHECKING:
    import xarray as xr

HALF = {"0.5": AT_HALF}


@dataclass(frozen=True)
class Choice:
    """The head that was kept and what was chosen for it.

    Parameters
    ----------
    head
        The fitted head.
    thresholds
        Decision thresholds by name.
    sentences
        What was chosen on which rows, for people.
    validation
        Scores of the validation rows.
    grid
        One row per combination of hyper-parameters.
    """

    head: Any
    thresholds: dict[str, float]
    sentences: list[str]
    validation: pd.DataFrame | None = None
    grid: pd.DataFrame | None = None


def choose(
    config: TrainConfig,
    heads: Sequence[Any],
    points: Sequence[Mapping[str, Any]],
    data: Mapping[str, "xr.Dataset"],
) -> Choice:
    """Keep the best of several heads on validation rows, and choose its threshold there.

    Parameters
    ----------
    config
        What was asked for.
    heads
        Fitted heads.
    points
        The hyper-parameters in which they differ.
    data
        Selections by role; without ``val`` there must be one head.

    Returns
    -------
    Choice
        The first of equally good heads. Its grid shows, for ``selection: oracle``, the quality on
        the test rows too, marked ORACLE; nothing is chosen by it.

    Raises
    ------
    ConfigError
        If no dataset has real and fake validation rows, or no head has finite scores: a head whose
        training diverged is listed with its ``problem`` and never chosen.
    """
    if "val" not in data:
        nothing = "no validation rows: no threshold and no hyper-parameter was chosen"
        return Choice(heads[0], dict(HALF), [half_sentence(heads[0], validated=False), nothing])
    frames = score_many(heads, data["val"], max_memory=config.max_memory, finite=False)
    problems = [head_problem(head, frame) for head, frame in zip(heads, frames, strict=True)]
    quality = [head_quality(frame, config.select_by) for frame in frames]
    best = _best(config, quality, problems, data["val"])
    kept = frames[best]
    threshold = best_threshold(kept["score"].to_numpy(), kept["label"].to_numpy())
    rows = f"{len(kept)} validation rows ({_in_words(config.val)})"
    sentences = [
        half_sentence(heads[best], validated=True),
        f"threshold val, {threshold:.4g}: best balanced accuracy on {rows}",
    ]
    if hasattr(heads[best], "selected_epoch_"):
        epoch = f"epoch {heads[best].selected_epoch_} of {heads[best].n_iter_}"
        sentences.append(f"{epoch}: kept by the head, which saw only training rows and these")
    if len(heads) == 1:
        return Choice(heads[0], {**HALF, "val": threshold}, sentences, kept)
    sentences.append(
        f"hyper-parameters {dict(points[best])}: best of {problems.count('')} by "
        f"{config.select_by}, mean over datasets ({quality[best]:.4f}), on the same rows"
    )
    grid = pd.DataFrame(points)
    if LAYER in grid:
        grid[LAYER] = [" ".join(head.origin_["layers"]) for head in heads]
    grid[f"val_{config.select_by}"] = quality
    grid["chosen"] = np.arange(len(heads)) == best
    grid["problem"] = problems
    if config.selection == "oracle":
        tested = score_many(heads, data["test"], max_memory=config.max_memory, finite=False)
        name = f"{ORACLE}_test_{config.select_by}"
        grid[name] = [head_quality(frame, config.select_by) for frame in tested]
    return Choice(heads[best], {**HALF, "val": threshold}, sentences, kept, grid)


def half_sentence(head: Any, *, validated: bool) -> str:
    """Say what the threshold 0.5 of a head is.

    Parameters
    ----------
    head
        A head, fitted or not.
    validated
        Whether it saw validation rows in training.

    Returns
    -------
    str
        For people.

    Examples
    --------
    >>> from heads import LogisticProbe
    >>> half_sentence(LogisticProbe(), validated=True)
    'threshold 0.5: a probability of one half, not chosen on any rows'
    """
    if not getattr(head, "one_class", False):
        return "threshold 0.5: a probability of one half, not chosen on any rows"
    rows = head.selection if validated else "training"
    direction = ", its direction on validation rows" if head.direction == "validation" else ""
    return (
        f"threshold 0.5: the head's own, set on real {rows} rows, of which at most "
        f"{head.fpr:.3g} may be called fake{direction}"
    )


def _best(
    config: TrainConfig, quality: Sequence[float], problems: Sequence[str], val: "xr.Dataset"
) -> int:
    """Return the first of the best heads among those without a problem."""
    if all(problems):
        raise ConfigError(
            f"a head must have finite scores to be chosen, got {config.head.name!r} whose "
            f"{problems[0]}; lower its learning rate or standardise the features."
        )
    if any(np.isnan(q) and not problem for q, problem in zip(quality, problems, strict=True)):
        raise ConfigError(
            f"choosing by {config.select_by!r} needs real and fake validation rows in one dataset, "
            f"got {row_counts(val)}; name other rows."
        )
    return int(np.nanargmax(quality))


def head_problem(head: Any, scores: pd.DataFrame) -> str:
    """Return why a head cannot be chosen.

    Parameters
    ----------
    head
        A fitted head.
    scores
        Its scores of the validation rows.

    Returns
    -------
    str
        A sentence; empty if it can be chosen.
    """
    if not np.isfinite(getattr(head, "coef_", 0.0)).all():
        return "weights are not finite: its training diverged"
    return "" if np.isfinite(scores["score"]).all() else "scores are not finite"


def head_numbers(scores: pd.DataFrame) -> dict[str, float]:
    """Return all numbers for the scores of a head: the mean over datasets of each.

    Parameters
    ----------
    scores
        Finite scores of one split.

    Returns
    -------
    dict
        `heads.evaluation.metrics.columns`, decisions at the threshold 0.5: the unweighted mean over
        the datasets in which a number is defined; NaN if there is none.
    """
    table = metric_table(scores, HALF, by=("dataset",), n_resamples=0)
    return {name: float(table.iloc[-1][name]) for name in columns(HALF)}


def head_quality(scores: pd.DataFrame, name: str) -> float:
    """Return one number for the scores of a head: the mean over datasets.

    Parameters
    ----------
    scores
        Scores of one split.
    name
        A column of a metric table, decisions at the threshold 0.5.

    Returns
    -------
    float
        The unweighted mean over the datasets in which it is defined; NaN if there is none, or if a
        score is not finite.
    """
    if not np.isfinite(scores["score"]).all():
        return float("nan")
    return head_numbers(scores)[name]


def _in_words(rows: RowsConfig | None) -> str:
    """Describe rows as they were asked for."""
    given = {} if rows is None else asdict(rows)
    return ", ".join(f"{name} {value}" for name, value in given.items() if value)
