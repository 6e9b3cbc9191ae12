"""From scores to honest tables: scoring, metrics with intervals, thresholds, transfer, run folders.

Thresholds and hyper-parameters are chosen on validation rows; asked to choose on other rows, these
functions refuse, or mark what they chose ORACLE.
"""

from heads.evaluation.bootstrap import bootstrap_intervals
from heads.evaluation.metrics import METRICS
from heads.evaluation.roles import require_disjoint, require_selection_split
from heads.evaluation.scoring import score, score_many
from heads.evaluation.table_text import as_markdown, as_rich
from heads.evaluation.tables import metric_table
from heads.evaluation.thresholds import best_threshold
from heads.evaluation.transfer import plot_matrix, transfer_markdown, transfer_matrix

__all__ = [
    "METRICS",
    "as_markdown",
    "as_rich",
    "best_threshold",
    "bootstrap_intervals",
    "metric_table",
    "plot_matrix",
    "require_disjoint",
    "require_selection_split",
    "score",
    "score_many",
    "transfer_markdown",
    "transfer_matrix",
]
