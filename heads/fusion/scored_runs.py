"""Scores of several heads on the same images, matched by what identifies an image."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featstore.errors import ConfigError
from heads.evaluation.runs import read_run

KEY = ["dataset", "split", "path", "sample_id"]
"""What identifies a row of scores: an image where it stands in its dataset."""

NEEDED = {*KEY, "generator", "label", "pair", "score"}
"""Columns that a file of scores has at least."""

UNKNOWN = {"path": "unknown", "features": "unknown", "view": "unknown", "fingerprint": "unknown"}
"""What is known of the origin of a file of scores."""


class ScoredRun(NamedTuple):
    """What one head left behind.

    ``scores`` and ``validation`` are frames as from `heads.evaluation.scoring.score`, ``store`` is
    where the features came from, ``trained_on`` what was learned from or chosen on.
    """

    name: str
    scores: pd.DataFrame
    store: Mapping[str, Any]
    validation: pd.DataFrame | None = None
    trained_on: pd.DataFrame | None = None


def read_scored(path: str) -> ScoredRun:
    """Read the scores of a run, or a file of scores.

    Parameters
    ----------
    path
        Folder of a training or an evaluation, or a Parquet file with the columns `NEEDED`.

    Returns
    -------
    ScoredRun
        Of a file, without validation rows.

    Raises
    ------
    StoreNotFoundError
        If there is no run there.
    SchemaError
        If a file of the run is missing or damaged.
    ConfigError
        If the file cannot be read, a column is missing, a score is not finite, or a label is
        neither 0 nor 1.
    """
    if Path(path).suffix != ".parquet":
        run = read_run(path)
        return ScoredRun(path, run.scores, run.record["store"], run.validation, run.trained_on)
    try:
        scores = pd.read_parquet(path)
    except (OSError, ValueError) as err:
        raise ConfigError(f"scores must be a Parquet file, got {path!r}: {err}") from err
    if missing := sorted(NEEDED - set(scores)):
        raise ConfigError(
            f"a file of scores must have the columns {sorted(NEEDED)}, got {path!r} without "
            f"{missing}; write it with 'heads.evaluation.score'."
        )
    _require_sound(scores, path)
    return ScoredRun(path, scores, UNKNOWN)


def _require_sound(scores: pd.DataFrame, path: str) -> None:
    """Refuse a file of scores that no rule could fuse."""
    values = {
        name: pd.to_numeric(scores[name], errors="coerce").to_numpy(np.float64)
        for name in ("score", "label", "pair")
    }
    sound = {
        "score": ("a finite number", np.isfinite(values["score"])),
        "label": ("0 (real) or 1 (fake)", np.isin(values["label"], (0, 1))),
        "pair": ("the number of a pair, -1 for none", values["pair"] == np.round(values["pair"])),
    }
    for name, (what, is_sound) in sound.items():
        if len(wrong := np.flatnonzero(~is_sound)):
            found = str(scores[name].iloc[wrong[0]])
            raise ConfigError(
                f"{name!r} of every row in a file of scores must be {what}, got {found!r} in row "
                f"{wrong[0]} of {path!r}, and {len(wrong)} such rows; leave them out, or write it "
                f"with 'heads.evaluation.score'."
            )


def aligned(frames: Mapping[str, pd.DataFrame]) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """Bring the scores of several heads into the same order.

    Parameters
    ----------
    frames
        Frames of scores by the name of their run, at least one; rows in any order.

    Returns
    -------
    samples : DataFrame
        What is known of each image, in the order of the first frame.
    scores : numpy.ndarray
        Shape (n_samples, n_frames), float64.

    Raises
    ------
    ConfigError
        If the frames are not of the same images, an image is there twice, or its label differs.

    Examples
    --------
    >>> row = {"dataset": "a", "split": "test", "generator": "real", "label": 0, "pair": -1}
    >>> first = pd.DataFrame([{**row, "path": p, "sample_id": p, "score": 1.0} for p in "xy"])
    >>> second = first[::-1].assign(score=[2.0, 3.0])
    >>> aligned({"one": first, "other": second})[1]
    array([[1., 3.],
           [1., 2.]])
    """
    (name, first), *others = frames.items()
    keys = _keys(first, name)
    columns = [first["score"].to_numpy(np.float64)]
    for other, frame in others:
        place = _keys(frame, other).get_indexer(keys)
        if len(frame) != len(first) or (place < 0).any():
            raise _mismatch(keys, _keys(frame, other), name, other)
        matched = frame.iloc[place]
        if (matched["label"].to_numpy() != first["label"].to_numpy()).any():
            raise ConfigError(
                f"an image must have one label, got different ones in {name!r} and {other!r}; "
                f"score the same store."
            )
        columns.append(matched["score"].to_numpy(np.float64))
    samples = first.drop(columns=["score", "probability"], errors="ignore")
    return samples.reset_index(drop=True), np.column_stack(columns)


def _keys(frame: pd.DataFrame, name: str) -> pd.MultiIndex:
    """Return what identifies each row of a frame."""
    keys = pd.MultiIndex.from_frame(frame[KEY].astype(str))
    if not keys.is_unique:
        raise ConfigError(
            f"an image must have one score in a run, got {keys.duplicated().sum()} rows of "
            f"{name!r} that repeat one; fuse runs on one selection."
        )
    return keys


def _mismatch(keys: pd.MultiIndex, found: pd.MultiIndex, name: str, other: str) -> ConfigError:
    """Return what to say of frames of different images."""
    lacking, extra = keys.difference(found), found.difference(keys)
    example = dict(zip(KEY, [*lacking, *extra][0], strict=True))
    return ConfigError(
        f"runs to be fused must have scored the same images, got {len(lacking)} of {name!r} that "
        f"{other!r} lacks and {len(extra)} the other way round, such as {example['path']!r} of "
        f"dataset {example['dataset']!r}, split {example['split']!r}; evaluate both on the same "
        f"rows."
    )
