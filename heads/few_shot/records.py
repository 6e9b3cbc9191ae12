"""What a few-shot study writes down besides its numbers: what was drawn, chosen, and where from."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from heads.evaluation.roles import row_counts
from heads.evaluation.runs import environment
from heads.evaluation.thresholds import ORACLE
from heads.experiments.choosing import half_sentence
from heads.experiments.config import make_heads
from heads.few_shot.choices import VAL
from heads.few_shot.config import FewShotConfig
from heads.few_shot.episodes import Codes, Episode
from heads.few_shot.judging import Rows

if TYPE_CHECKING:
    import xarray as xr


def support_table(
    episodes: Sequence[Episode], groups: Codes, names: Sequence[str], ds: "xr.Dataset"
) -> pd.DataFrame:
    """Return which images were drawn.

    Parameters
    ----------
    episodes
        All episodes.
    groups, names
        The group of every support row, and the names of groups by code.
    ds
        The support rows.

    Returns
    -------
    DataFrame
        ``episode``, ``seed``, ``group``, ``order`` (the support of n shots are those below n),
        ``sample_id`` and ``path``.
    """
    drawn = np.stack([episode.drawn for episode in episodes])
    number, _, order = np.indices(drawn.shape)
    positions, place = np.unique(drawn.ravel(), return_inverse=True)
    own = ds.isel(sample=positions)
    return pd.DataFrame(
        {
            "episode": number.ravel(),
            "seed": np.array([episode.seed for episode in episodes])[number.ravel()],
            "group": np.asarray(names, dtype=object)[groups[drawn.ravel()]],
            "order": order.ravel(),
            "sample_id": own["sample_id"].values[place],
            "path": own["path"].values[place],
        }
    )


def study_record(
    config: FewShotConfig, rows: Mapping[str, Rows], layers: Sequence[str]
) -> dict[str, Any]:
    """Return where the numbers came from, and what was chosen on what.

    Parameters
    ----------
    config
        What was asked for.
    rows
        The rows of each role.
    layers
        Names of what the heads saw.

    Returns
    -------
    dict
        JSON types.
    """
    attributes = rows["query"].features.attrs
    counts = {role: row_counts(own.features) for role, own in rows.items()}
    return {
        "seed": config.seed,
        "selection": config.selection,
        "store": {
            "path": attributes["store"],
            **{name: attributes[name] for name in ("features", "view", "fingerprint", "layers")},
        },
        "rows": counts,
        "chosen": [*_sentences(config, layers), *_left_out(counts["query"])],
        **environment(),
    }


def _sentences(config: FewShotConfig, layers: Sequence[str]) -> list[str]:
    """Say what was chosen on which rows."""
    last = config.seed + config.episodes - 1
    found = [
        f"support: {config.shots} shots per {config.per} in {config.episodes} episodes, seeds "
        f"{config.seed} to {last}; no query or validation row is one of them, a copy of one or "
        "aligned with one",
        *_half_sentences(config),
    ]
    if config.val is not None:
        found.append("threshold val: best balanced accuracy on the validation rows, per episode")
    if len(layers) == 1:
        return [*found, f"layer {layers[0]}: the only one, not chosen on any rows"]
    best = f"layer {{}}: best of {len(layers)} by {config.select_by}, per episode, {{}}"
    if config.val is not None:
        found.append(best.format(VAL, "on the validation rows"))
    if config.selection == "oracle":
        found.append(best.format(ORACLE, "on the very query it is reported on: an upper bound"))
    if config.val is None:
        found.append("no validation rows: a layer picked from the tables is picked on the query")
    return found


def _half_sentences(config: FewShotConfig) -> list[str]:
    """Say what the threshold 0.5 is; of which heads, where they differ in that."""
    names: dict[str, list[str]] = {}
    for name, kind in config.heads.items():
        (head,) = make_heads(kind, [{}], config.seed)
        names.setdefault(half_sentence(head, validated=False), []).append(name)
    if len(names) == 1:
        return list(names)
    return [f"{sentence} ({', '.join(of)})" for sentence, of in names.items()]


def _left_out(counts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say which datasets of the query cannot be reported."""
    names = [group["dataset"] for group in counts if not (group["n_real"] and group["n_fake"])]
    return [f"not reported, as they lack real or fake images: {', '.join(names)}"] if names else []
