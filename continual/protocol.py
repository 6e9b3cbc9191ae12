"""A study of continual learning: every order, seed, learner, selection and budget, in one table."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy.stats import t

import featstore
from continual.config import METRICS, ContinualConfig, StreamRun, runs_of
from continual.learners import StreamLearner, rows_of
from continual.metrics import continual_metrics
from featstore.config import to_mapping
from featstore.durable import sync_folder, write_bytes, write_json
from featstore.errors import ConfigError, StoreExistsError
from featstore.store import Store
from heads.evaluation.roles import require_disjoint, require_selection_split
from heads.evaluation.runs import environment
from heads.evaluation.scoring import score

Progress = Callable[[int, int], None]

KEYS = ["base", "learner", "selection", "keep"]
EXECUTION = {"output", "overwrite", "n_jobs", "max_memory", "metric"}
"""Keys of a configuration that may change when a study goes on."""
CHANCE = 0.5
"""Score of a domain before any training, for forward transfer."""


@dataclass(frozen=True)
class Continual:
    """What a study found.

    Parameters
    ----------
    scores
        One row per run, step and domain tested: the columns `METRICS`, ``step``, ``learned``,
        ``domain`` and what the run was.
    summary
        One row per way of learning and metric: mean over orders and seeds of each number of
        `continual.metrics.continual_metrics`, and the half width of its 95 % interval.
    metric
        The number shown first.
    output
        The folder.
    """

    scores: pd.DataFrame
    summary: pd.DataFrame
    metric: str
    output: str

    def text(self) -> str:
        """Return the summary of the first metric as Markdown.

        Returns
        -------
        str
            Mean ± half width of the 95 % interval over orders and seeds.
        """
        rows = self.summary[self.summary["metric"] == self.metric]
        numbers = [str(name) for name in rows if f"{name}_half" in rows]
        shown = [*[key for key in KEYS if rows[key].astype(str).ne("").any()], "n"]
        lines = [
            "| " + " | ".join([*shown, *numbers]) + " |",
            "|" + "---|" * (len(shown) + len(numbers)),
        ]
        for row in rows.to_dict("records"):
            cells = [str(row[name]) for name in shown]
            cells += [_cell(row[name], row[f"{name}_half"]) for name in numbers]
            lines.append("| " + " | ".join(cells) + " |")
        title = f"{self.metric}, mean ± 95 % interval over n orders and seeds"
        return "\n".join([title, "", *lines, "", f"written to {self.output}"])


def _cell(mean: float, half: float) -> str:
    """Return a number and its interval."""
    if np.isnan(mean):
        return "–"
    return f"{mean:.3f}" if np.isnan(half) else f"{mean:.3f} ± {half:.3f}"


def run_continual(config: ContinualConfig, *, progress: Progress | None = None) -> Continual:
    """Run a study.

    Parameters
    ----------
    config
        What to do.
    progress
        Called with the runs finished and all runs.

    Returns
    -------
    Continual
        Also written to ``config.output``.

    Raises
    ------
    ConfigError
        If the configuration is illegal, or rows that are reported are learned from.
    StoreExistsError
        If the folder holds another study.

    Notes
    -----
    Every run that is finished is a file in ``runs``; killed at any time, the same call runs only
    the others and gives the same table.
    """
    runs = runs_of(config)
    folder = Path(config.output).absolute()
    _claim(config, folder)
    _check_rows(config, runs)
    left = [run for run in runs if not _file_of(folder, run).exists()]
    n_done = len(runs) - len(left)
    jobs = (delayed(run_stream)(config, run, folder) for run in left)
    for _ in Parallel(n_jobs=config.n_jobs, return_as="generator_unordered")(jobs):
        n_done += 1
        if progress is not None:
            progress(n_done, len(runs))
    scores = pd.concat([pd.read_parquet(_file_of(folder, run)) for run in runs], ignore_index=True)
    summary = summarise(scores)
    write_bytes(folder / "scores.parquet", scores.to_parquet(index=False))
    write_bytes(folder / "summary.csv", summary.to_csv(index=False).encode())
    found = Continual(scores, summary, config.metric, config.output)
    write_bytes(folder / "report.md", (found.text() + "\n").encode())
    sync_folder(folder)
    return found


def run_stream(config: ContinualConfig, run: StreamRun, folder: Path) -> None:
    """Learn one stream and write what it scored.

    Parameters
    ----------
    config
        The study.
    run
        The stream and what learns it.
    folder
        Folder of the study.
    """
    store = featstore.open(config.store)
    learner = StreamLearner(config, run, store)
    rows = []
    for step, domain in enumerate(run.order):
        head = learner.learn(domain)
        for other in dict.fromkeys(run.order):
            rows.append({"step": step, "learned": domain, "domain": other})
            rows[-1].update(_measured(config, store, head, other))
    base = run.order[0] if config.base else ""
    described = {**asdict(run), "order": " → ".join(run.order), "base": base}
    described = {k: "" if v is None else v for k, v in described.items()}
    frame = pd.DataFrame(rows).assign(**{**described, "keep": str(described["keep"])})
    buffer = BytesIO()
    frame.to_parquet(buffer, index=False)
    target = _file_of(folder, run)
    learner.memory.save(target.with_suffix(".memory"))
    write_bytes(target, buffer.getvalue())
    sync_folder(target.parent)


def _measured(config: ContinualConfig, store: Store, head: object, domain: str) -> dict[str, float]:
    """Return all metrics on the test rows of a domain."""
    frame = score(head, rows_of(config, store, [domain], config.test), max_memory=config.max_memory)
    values, labels = frame["score"].to_numpy(), frame["label"].to_numpy()
    found = {name: metric(values, labels) for name, metric in METRICS.items()}
    return {"n_real": int((labels == 0).sum()), "n_fake": int((labels == 1).sum()), **found}


def summarise(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers of continual learning, averaged over orders and seeds.

    Parameters
    ----------
    scores
        As of `Continual`.

    Returns
    -------
    DataFrame
        One row per way of learning and metric: ``n`` runs, the mean of every number and, as
        ``<number>_half``, the half width of its 95 % interval (Student's t over runs; nan of one).
    """
    records = []
    for keys, runs in scores.groupby([*KEYS, "order", "seed"], sort=False):
        domains = list(dict.fromkeys(runs["domain"]))
        learned = runs.drop_duplicates("step")["learned"].map(domains.index).tolist()
        for metric in METRICS:
            R = runs.pivot(index="step", columns="domain", values=metric)[domains].to_numpy()
            named = dict(zip(KEYS, keys, strict=False))
            records.append({**named, "metric": metric, **continual_metrics(R, learned, CHANCE)})
    table = pd.DataFrame(records)
    numbers = [name for name in table if name not in (*KEYS, "metric")]
    grouped = table.groupby([*KEYS, "metric"], sort=False)
    n, error = grouped.size(), grouped[numbers].sem()
    half = error.mul(t.ppf(0.975, np.maximum(n - 1, 1)), axis=0).add_suffix("_half")
    return pd.concat([n.rename("n"), grouped[numbers].mean(), half], axis=1).reset_index()


def _claim(config: ContinualConfig, folder: Path) -> None:
    """Make the folder of a study, or make sure that it is this study's."""
    settings = {k: v for k, v in to_mapping(config).items() if k not in EXECUTION}
    record = folder / "study.json"
    if record.exists():
        if json.loads(record.read_text())["settings"] != json.loads(json.dumps(settings)):
            raise StoreExistsError(
                f"'output' must be free or hold this study, got {config.output!r} with other "
                "settings; choose another folder."
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise StoreExistsError(
            f"'output' must be free or hold this study, got {config.output!r}, which is neither; "
            "choose another folder."
        )
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    write_json(record, {"settings": settings, "environment": environment()})


def _check_rows(config: ContinualConfig, runs: list[StreamRun]) -> None:
    """Refuse to report rows that are learned from."""
    store = featstore.open(config.store)
    domains = sorted({domain for run in runs for domain in run.order})
    learned = rows_of(config, store, domains, config.train)
    require_selection_split(learned, what="the weights of a head")
    require_disjoint(rows_of(config, store, domains, config.test), learned, "train")
    for domain in domains:
        labels = rows_of(config, store, [domain], config.train)["label"].values
        if len(np.unique(labels)) < 2:
            raise ConfigError(
                f"every domain must have real and fake rows, got {domain!r} with labels "
                f"{np.unique(labels).tolist()} only."
            )


def _file_of(folder: Path, run: StreamRun) -> Path:
    """Return where the scores of a run are kept."""
    digest = hashlib.blake2b(json.dumps(asdict(run)).encode(), digest_size=8).hexdigest()
    return folder / "runs" / f"{digest}.parquet"
