"""The report of a run for people: what was trained on what, what was chosen on what, how it did."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from heads.evaluation.metrics import RANKING_METRICS, THRESHOLD_METRICS
from heads.evaluation.table_text import as_markdown
from heads.evaluation.thresholds import ORACLE

if TYPE_CHECKING:
    from heads.evaluation.runs import Run

NOTES = """\
Every number is an estimate with its 95 % bootstrap interval over test images; aligned pairs, and
the rows of one image in several datasets, are resampled together. The intervals do not cover the
choice of training images or seeds. An image is called fake when its score is above the threshold.
`tpr_at_1pct_fpr` is the largest share of fakes found by a threshold that calls at most 1 % of the
real images fake; with fewer than 100 real images that means none. `MEAN` rows are unweighted means
over the rows named; they count an image of several datasets once."""

ORACLE_NOTE = f"""\
Numbers named {ORACLE} were chosen on the very images they are computed from: an upper bound, as
many published tables report it, not what to expect on new images."""


def report(run: "Run") -> str:
    """Write a run as Markdown.

    Parameters
    ----------
    run
        The run.

    Returns
    -------
    str
        The text of ``report.md``.
    """
    record, store = run.record, run.record["store"]
    thresholds: Mapping[str, float] = record["thresholds"]
    names = [*thresholds, *([ORACLE] if record["selection"] == "oracle" else [])]
    parts = [
        f"# {type(run.head).__name__} on {store['features']} ({store['view']})",
        f"`{record['command']}`, {record['started']}, {record['seconds']:.1f} s",
        "## Rows",
        rows_table(record["rows"]),
        f"{len(store['layers'])} layers: {_listed(store['layers'])}.",
        "## What was chosen, and on what",
        "\n".join(f"- {sentence}" for sentence in record["chosen"]),
        "## Ranking",
        as_markdown(run.metrics, list(RANKING_METRICS)),
    ]
    for name in names:
        value = f" (score > {thresholds[name]:.4g})" if name in thresholds else ""
        parts.append(f"## Decisions at the threshold {name}{value}")
        parts.append(as_markdown(run.metrics, [f"{metric}@{name}" for metric in THRESHOLD_METRICS]))
    parts += [NOTES, *([ORACLE_NOTE] if ORACLE in names else [])]
    parts += ["![ROC curves](roc.png)", "![Scores](scores.png)", "## Origin", _origin(run)]
    return "\n\n".join(parts) + "\n"


def rows_table(rows: Mapping[str, Any]) -> str:
    """Write which rows had which role as Markdown.

    Parameters
    ----------
    rows
        For each role its counts, see `heads.evaluation.roles.row_counts`.

    Returns
    -------
    str
        Lines of a pipe table.
    """
    lines = ["| role | split | dataset | n_real | n_fake |", "| --- | --- | --- | ---: | ---: |"]
    for role, groups in rows.items():
        lines += [
            f"| {role} | {g['split']} | {g['dataset']} | {g['n_real']} | {g['n_fake']} |"
            for g in groups
        ]
    return "\n".join(lines)


def _listed(names: list[str], most: int = 6) -> str:
    """Return names in a line, leaving out the middle of a long list."""
    shown = names if len(names) <= most else [*names[: most - 1], "…", names[-1]]
    return ", ".join(shown)


def _origin(run: "Run") -> str:
    """Return where the features came from and what computed the numbers."""
    record, store = run.record, run.record["store"]
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    return "\n".join(
        [
            f"- store `{store['path']}`, fingerprint `{store['fingerprint']}`",
            f"- head parameters {run.head.get_params()}",
            f"- seed {record['seed']}",
            f"- Python {record['python']} on {record['platform']}; {versions}",
        ]
    )
