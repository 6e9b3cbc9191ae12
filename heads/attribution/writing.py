"""The folder of an attribution study.

::

    runs/attribution/
      config.yaml         the configuration, complete with defaults
      run.json            store and fingerprint, rows, choices, versions, seed, time
      head/               the fitted head (safetensors and JSON)
      samples.parquet     one row per reported image: named, score, rejected
      trained_on.parquet  content ids and pairs of the images learned from or chosen on
      metrics.csv         the numbers with intervals
      confusion.csv       counts
      report.md           all of it for people; confusion.png, oscr.png
"""

from pathlib import Path

import pandas as pd
import yaml

from featstore.durable import write_json
from heads import persistence
from heads.attribution.plots import plot_confusion, plot_oscr
from heads.attribution.study import Attribution, attributed_of, shown
from heads.evaluation.runs import CONFIG, HEAD, METRICS, RECORD, TRAINED_ON
from heads.evaluation.whole_folder import whole_folder

NOTES = """\
Intervals are 95 % bootstrap intervals over test images within generators; aligned pairs are
resampled together. Closed-set numbers are of known generators and name one always. `open_auroc`:
unknown images are farther from all known generators than known ones; `oscr`: area under the share
of known images kept and named right over the share of unknown images kept; `known_rejected`,
`unknown_rejected` and `open_accuracy` (right, or rejected as it should be) depend on the
threshold."""


def write_study(study: Attribution, folder: Path | str, *, overwrite: bool = False) -> Path:
    """Write a study: the folder appears whole or not at all.

    Parameters
    ----------
    study
        The study.
    folder
        Where to.
    overwrite
        Move an existing folder aside, to ``<folder>.old-1`` and so on, instead of refusing.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    StoreExistsError
        If the folder exists and may not be replaced.
    """
    with whole_folder(folder, overwrite=overwrite) as made:
        (made / CONFIG).write_text(yaml.safe_dump(dict(study.config), sort_keys=False))
        write_json(made / RECORD, study.record)
        persistence.save(study.head, made / HEAD)
        study.samples.to_parquet(made / "samples.parquet", index=False)
        study.trained_on.to_parquet(made / TRAINED_ON, index=False)
        study.metrics.to_csv(made / METRICS, index=False)
        study.confusion.to_csv(made / "confusion.csv", index_label="generator")
        plot_confusion(study.confusion, study.record["known"], made / "confusion.png")
        if study.record["unknown"]:
            plot_oscr(attributed_of(study.samples), study.head.classes_, made / "oscr.png")
        (made / "report.md").write_text(report(study))
    return Path(folder)


def report(study: Attribution) -> str:
    """Write a study as Markdown.

    Parameters
    ----------
    study
        The study.

    Returns
    -------
    str
        The text of ``report.md``.
    """
    record, store = study.record, study.record["store"]
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    rows = pd.DataFrame(
        [{"role": role, **group} for role, groups in record["rows"].items() for group in groups]
    )
    matrix = study.confusion.rename_axis("generator").reset_index()
    parts = [
        f"# Attribution to {len(record['known'])} generators on {store['features']} "
        f"({store['view']})",
        f"`{record['command']}`, {record['started']}, {record['seconds']:.1f} s",
        f"Known: {', '.join(record['known'])}. Unknown: {', '.join(record['unknown']) or 'none'}.",
        "## Rows",
        _markdown(rows),
        "## What was chosen, and on what",
        "\n".join(f"- {sentence}" for sentence in record["chosen"]),
        "## Metrics",
        _markdown(shown(study.metrics)),
        NOTES,
        "## Confusion",
        _markdown(matrix),
        "![Confusion](confusion.png)",
        *(["![OSCR](oscr.png)"] if record["unknown"] else []),
        "## Origin",
        f"- store `{store['path']}`, fingerprint `{store['fingerprint']}`\n"
        f"- Python {record['python']} on {record['platform']}; {versions}",
    ]
    return "\n\n".join(parts) + "\n"


def _markdown(table: pd.DataFrame) -> str:
    """Return a frame as a pipe table."""
    lines = [table.columns, ["---"] * table.shape[1], *table.astype(str).to_numpy()]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
