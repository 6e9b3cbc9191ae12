"""What an attribution study found, and how it is shown."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from featstore.display import table_text
from heads.attribution.head import GeneratorAttribution
from heads.attribution.metrics import Attributed


@dataclass(frozen=True)
class Attribution:
    """An attribution study.

    Parameters
    ----------
    config
        The configuration as YAML types.
    head
        The fitted head.
    samples
        One row per reported image: what is known of it, ``named`` (the nearest known generator),
        ``score`` (its distance) and ``rejected``.
    metrics
        Table of `heads.attribution.metrics.attribution_metrics`.
    confusion
        Table of `heads.attribution.metrics.confusion`.
    record
        Where it came from and what was chosen, as JSON types.
    trained_on
        Images that were learned from or chosen on.
    """

    config: Mapping[str, Any]
    head: GeneratorAttribution
    samples: pd.DataFrame
    metrics: pd.DataFrame
    confusion: pd.DataFrame
    record: Mapping[str, Any]
    trained_on: pd.DataFrame

    def text(self) -> str:
        """Return the outcome for a terminal.

        Returns
        -------
        str
            What was chosen on what, the metrics and the confusion matrix.
        """
        chosen = "".join(f"  {sentence}\n" for sentence in self.record["chosen"])
        matrix = self.confusion.rename_axis("generator").reset_index()
        return (
            f"{table_text(shown(self.metrics))}\n\n{table_text(matrix)}\n\nchosen:\n{chosen}"
            f"written to {self.config['output']}"
        )


def attributed_of(samples: pd.DataFrame) -> Attributed:
    """Return the columns that metrics need.

    Parameters
    ----------
    samples
        One row per image, see `Attribution`.

    Returns
    -------
    Attributed
        The same images.
    """
    return Attributed(
        samples["generator"].astype(str).to_numpy(object),
        samples["named"].to_numpy(object),
        samples["score"].to_numpy(np.float64),
        samples["rejected"].to_numpy(bool),
    )


def shown(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the metrics for people.

    Parameters
    ----------
    metrics
        Table of `heads.attribution.metrics.attribution_metrics`.

    Returns
    -------
    DataFrame
        Columns ``metric``, ``value`` and ``95 %``, as text; ``–`` where undefined.
    """
    rows = [
        {
            "metric": row["metric"],
            "value": f"{row['value']:.3f}" if np.isfinite(row["value"]) else "–",
            "95 %": f"[{row['low']:.3f}, {row['high']:.3f}]" if np.isfinite(row["low"]) else "–",
        }
        for row in metrics.to_dict("records")
    ]
    return pd.DataFrame(rows)
