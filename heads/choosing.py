"""Choosing among trained heads, and a head's threshold, on validation rows alone."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from featstore.errors import ConfigError
from heads.evaluation.roles import row_counts
from heads.evaluation.scoring import score_many
from heads.evaluation.tables import metric_table
from heads.evaluation.thresholds import AT_HALF, ORACLE, best_threshold
from heads.run_config import RowsConfig, TrainConfig

if TYPE_CHECKING:
    import xarray as xr

HALF = {"0.5": AT_HALF}
HALF_SENTENCE = "threshold 0.5: a probability of one half, not chosen on any rows"


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
        If no dataset has real and fake validation rows.
    """
    if "val" not in data:
        nothing = "no validation rows: no threshold and no hyper-parameter was chosen"
        return Choice(heads[0], dict(HALF), [HALF_SENTENCE, nothing])
    frames = score_many(heads, data["val"], max_memory=config.max_memory)
    quality = [head_quality(frame, config.select_by) for frame in frames]
    if np.isnan(quality).any():
        raise ConfigError(
            f"choosing by {config.select_by!r} needs real and fake validation rows in one dataset, "
            f"got {row_counts(data['val'])}; name other rows."
        )
    best = int(np.argmax(quality))
    kept = frames[best]
    threshold = best_threshold(kept["score"].to_numpy(), kept["label"].to_numpy())
    rows = f"{len(kept)} validation rows ({_in_words(config.val)})"
    sentences = [
        HALF_SENTENCE,
        f"threshold val, {threshold:.4g}: best balanced accuracy on {rows}",
    ]
    if hasattr(heads[best], "selected_epoch_"):
        epoch = f"epoch {heads[best].selected_epoch_} of {heads[best].n_iter_}"
        sentences.append(f"{epoch}: kept by the head, which saw only training rows and these")
    if len(heads) == 1:
        return Choice(heads[0], {**HALF, "val": threshold}, sentences, kept)
    sentences.append(
        f"hyper-parameters {dict(points[best])}: best of {len(heads)} by {config.select_by}, mean "
        f"over datasets ({quality[best]:.4f}), on the same rows"
    )
    grid = pd.DataFrame(points)
    grid[f"val_{config.select_by}"] = quality
    grid["chosen"] = np.arange(len(heads)) == best
    if config.selection == "oracle":
        tested = score_many(heads, data["test"], max_memory=config.max_memory)
        name = f"{ORACLE}_test_{config.select_by}"
        grid[name] = [head_quality(frame, config.select_by) for frame in tested]
    return Choice(heads[best], {**HALF, "val": threshold}, sentences, kept, grid)


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
        The unweighted mean over the datasets in which it is defined; NaN if there is none.
    """
    table = metric_table(scores, HALF, by=("dataset",), n_resamples=0)
    return float(table.iloc[-1][name])


def _in_words(rows: RowsConfig | None) -> str:
    """Describe rows as they were asked for."""
    given = {} if rows is None else asdict(rows)
    return ", ".join(f"{name} {value}" for name, value in given.items() if value)
