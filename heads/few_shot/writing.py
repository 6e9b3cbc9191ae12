"""The folder of a few-shot study.

::

    runs/few-shot/
      config.yaml       the configuration, complete with defaults
      run.json          store and fingerprint, rows, choices, versions, seed, time
      episodes.parquet  every number of every head, episode, layer and dataset
      support.parquet   the images drawn in each episode
      summary.csv       means over episodes with spread and intervals
      report.md         the same for people; curves.png
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from featstore.durable import write_json
from heads.evaluation.report import ORACLE_NOTE, rows_table
from heads.evaluation.runs import CONFIG, RECORD
from heads.evaluation.thresholds import ORACLE
from heads.evaluation.whole_folder import whole_folder
from heads.few_shot.judging import NEAREST
from heads.few_shot.plots import plot_curves
from heads.few_shot.summary import SHOWN, few_shot_markdown, headline

if TYPE_CHECKING:
    from heads.few_shot.protocol import FewShot

EPISODES, SUPPORT, SUMMARY = "episodes.parquet", "support.parquet", "summary.csv"

NOTES = """\
Numbers are the mean ± the standard deviation over episodes (divisor n - 1) and the 95 % interval of
the mean by Student's t. The interval covers the draw of the support; all episodes share the query,
so it does not cover the choice of query images. A query is all rows but the support, copies of it
and images aligned with it; an aligned image that was not drawn itself is left out of its episode.
With aligned images the query therefore shrinks with the shots; `episodes.parquet` has the numbers
of images. The support of few shots is part of that of more shots in the same episode.
`tpr_at_5pct_fpr` is the largest share of fakes found by a threshold that calls at most 5 % of the
real images fake. `MEAN` rows are unweighted means over datasets."""

NEAREST_NOTE = """\
`tpr_nearest_5pct_fpr` is taken at the corner of the ROC curve nearest to 5 %, which may call more
real images fake, as FiSeR reports it."""


def write_study(study: "FewShot", folder: Path | str, *, overwrite: bool = False) -> Path:
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
        study.episodes.to_parquet(made / EPISODES, index=False)
        study.support.to_parquet(made / SUPPORT, index=False)
        study.summary.to_csv(made / SUMMARY, index=False)
        shown = headline(study.summary)
        drawn = study.config["select_by"], study.config["per"]
        plot_curves(study.episodes, shown, *drawn, made / "curves.png")
        (made / "report.md").write_text(report(study))
    return Path(folder)


def report(study: "FewShot") -> str:
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
    record, config = study.record, study.config
    store = record["store"]
    shown = headline(study.summary)
    parts = [
        f"# {', '.join(config['heads'])} from {_listed(config)} on {store['features']} "
        f"({store['view']})",
        f"`{record['command']}`, {record['started']}, {record['seconds']:.1f} s",
        "## Rows",
        rows_table(record["rows"]),
        "## What was chosen, and on what",
        "\n".join(f"- {sentence}" for sentence in record["chosen"]),
    ]
    for name in (name for name in SHOWN if name in shown):
        parts += [f"## {name}", few_shot_markdown(shown, name)]
    if len(shown) < len(study.summary):
        fixed = study.summary.drop(shown.index)
        parts += ["## Layers chosen, and in how many episodes", few_shot_markdown(shown, "layers")]
        parts += [f"## {config['select_by']} of each layer"]
        parts += [few_shot_markdown(fixed, config["select_by"])]
    parts += ["## Notes", NOTES]
    parts += [ORACLE_NOTE] if ORACLE in set(shown["choice"]) else []
    parts += [NEAREST_NOTE] if NEAREST in shown else []
    parts += ["![Learning curves](curves.png)", "## Origin", _origin(study)]
    return "\n\n".join(parts) + "\n"


def _listed(config: Mapping[str, Any]) -> str:
    """Return how many images were learned from."""
    return f"{', '.join(map(str, config['shots']))} images per {config['per']}"


def _origin(study: "FewShot") -> str:
    """Return where the features came from and what computed the numbers."""
    record, store = study.record, study.record["store"]
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    heads = [f"- head {name}: {head}" for name, head in study.config["heads"].items()]
    return "\n".join(
        [
            f"- store `{store['path']}`, fingerprint `{store['fingerprint']}`",
            *heads,
            f"- Python {record['python']} on {record['platform']}; {versions}",
        ]
    )
