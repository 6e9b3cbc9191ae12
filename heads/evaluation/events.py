"""TensorBoard event files, on request: TensorBoard itself is an optional dependency."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from featstore.errors import ConfigError

SHOWN = ("auroc", "average_precision", "accuracy@0.5")


def require_tensorboard() -> Any:
    """Return the class that writes TensorBoard event files.

    Returns
    -------
    type
        ``tensorboard.summary.Writer``.

    Raises
    ------
    ConfigError
        If TensorBoard is not installed.
    """
    try:
        from tensorboard.summary import Writer
    except ImportError as err:
        raise ConfigError(
            "'tensorboard: true' needs the package tensorboard, which is not installed; run "
            "\"pip install 'featstore[tensorboard]'\" or set it to false."
        ) from err
    return Writer


def write_events(head: Any, metrics: pd.DataFrame, folder: Path) -> None:
    """Write the numbers of a run as TensorBoard event files.

    Parameters
    ----------
    head
        The fitted head; its ``history_`` (n_passes, n_curves), if it has one, is drawn as curves
        named by its ``history_names``; NaN is left out.
    metrics
        Table of `heads.evaluation.tables.metric_table`.
    folder
        Folder of the event files.
    """
    writer = require_tensorboard()(str(folder))
    history = np.asarray(getattr(head, "history_", np.empty((0, 0))))
    names = getattr(head, "history_names", range(history.shape[1]))
    for step, values in enumerate(history, start=1):
        for name, value in zip(names, values, strict=True):
            if not np.isnan(value):
                writer.add_scalar(f"training/{name}", float(value), step)
    for row in metrics.to_dict("records"):
        for name in SHOWN:
            if pd.notna(row[name]):
                writer.add_scalar(f"{name}/{row['dataset']}/{row['generator']}", row[name], 0)
    writer.close()
