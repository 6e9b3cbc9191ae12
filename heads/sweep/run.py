"""Many heads, layers, seeds and parts of the training rows, tried in as few readings as possible.

Members are compared on validation rows; only the one chosen is scored on the test rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from pandas.api.types import is_numeric_dtype, is_object_dtype

import featstore
from featstore.config import to_mapping
from featstore.display import table_text
from featstore.errors import ConfigError
from heads.evaluation.roles import row_counts
from heads.evaluation.scoring import score, score_many
from heads.evaluation.table_text import as_text
from heads.evaluation.tables import metric_table
from heads.evaluation.thresholds import ORACLE, best_threshold
from heads.experiments.choosing import HALF, head_numbers, head_problem
from heads.experiments.selecting import select_roles, select_rows
from heads.experiments.training import fit_together
from heads.sweep.config import Group, Member, SweepConfig, check_sweep, groups_of, members_of
from heads.sweep.folder import Record, SweepFolder
from heads.sweep.rows import drawn, layers_read, require_layers

if TYPE_CHECKING:
    import xarray as xr

Progress = Callable[[int, int], Any]

SHOWN = 20
"""Members in the text of a sweep."""

TRIED = {"heads", "layers", "seeds", "parts"}
EXECUTION = {"output", "overwrite", "n_jobs", "max_members", "max_memory", "bootstrap"}
"""Keys of a configuration that may change between two runs of one sweep."""


@dataclass(frozen=True)
class Sweep:
    """What a sweep found.

    Parameters
    ----------
    table
        One row per member, the best first: what it is, its numbers on the validation rows
        (``val_…``), whether it is ``chosen``, and the ``problem`` of one that cannot be.
    head
        The chosen head.
    test
        Its table on the test rows, see `heads.evaluation.tables.metric_table`.
    select_by
        The number that decided.
    output
        The folder.
    """

    table: pd.DataFrame
    head: Any
    test: pd.DataFrame
    select_by: str
    output: str

    def text(self) -> str:
        """Return the outcome for a terminal.

        Returns
        -------
        str
            The best members, and how the chosen one does on the test rows.
        """
        numbers = [name for name in self.table if str(name).startswith("val_")]
        hidden = [name for name in numbers if name != f"val_{self.select_by}"]
        shown = self.table.drop(columns=[*hidden, "problem", "chosen"]).head(SHOWN).round(4)
        texts = [str(name) for name in shown if not is_numeric_dtype(shown[name])]
        more = len(self.table) - len(shown)
        return "\n".join(
            [
                table_text(shown.assign(**{name: shown[name].fillna("") for name in texts})),
                *([f"and {more} more in table.csv"] if more else []),
                f"the first of {len(self.table)} is chosen, by val_{self.select_by}; "
                "on the test rows:",
                as_text(self.test),
                f"written to {self.output}",
            ]
        )


def run_sweep(config: SweepConfig, *, progress: Progress | None = None) -> Sweep:
    """Train and compare all members of a sweep.

    Parameters
    ----------
    config
        What to try.
    progress
        Called with the members finished and all members.

    Returns
    -------
    Sweep
        Also written to ``config.output``; see `heads.sweep.folder`.

    Raises
    ------
    ConfigError
        If the configuration is illegal, rows that are reported are trained or chosen on, or no
        member can be chosen.
    StoreExistsError
        If the output folder holds something else.

    Notes
    -----
    Members of one part of the rows are trained together, `max_members` at a time, which reads the
    store as often as for one of them. Killed at any time, the same call goes on: finished groups
    are not trained again, and the group that was being trained goes on from its last epoch, if
    there are as many processes as before.
    """
    check_sweep(config)
    members = members_of(config)
    folder = SweepFolder(Path(config.output).absolute(), _rows(config), overwrite=config.overwrite)
    groups = groups_of(config, folder.finished())
    n_done = len(members) - sum(map(len, groups))
    jobs = (delayed(train_group)(config, group, folder) for group in groups)
    for n_trained in Parallel(n_jobs=config.n_jobs, return_as="generator_unordered")(jobs):
        n_done += n_trained
        if progress is not None:
            progress(n_done, len(members))
    return _conclude(config, members, folder)


def _rows(config: SweepConfig) -> dict[str, Any]:
    """Return what identifies the rows and features of a sweep, and the way of choosing."""
    require_layers(config)
    for part in config.parts:
        data = select_roles(config.training(part))
    data["train"] = select_rows(
        featstore.open(config.store), config.train, config.features, config.view, config.layer
    )
    kept = {k: v for k, v in to_mapping(config).items() if k not in TRIED | EXECUTION}
    counts = {role: row_counts(ds) for role, ds in data.items()}
    return {"config": kept, "fingerprint": data["val"].attrs["fingerprint"], "rows": counts}


def train_group(config: SweepConfig, group: Group, folder: SweepFolder) -> int:
    """Train and compare members together, and keep what was found.

    Parameters
    ----------
    config
        The sweep.
    group
        Members of one part of the rows.
    folder
        Where results are kept.

    Returns
    -------
    int
        How many members there are.
    """
    digests = [member.digest for member in group]
    name = blake2b("".join(digests).encode(), digest_size=16).hexdigest()
    training = config.training(group[0].part, layers_read(config, group))
    data = select_roles(training)
    data["train"] = drawn(data["train"], group[0].part)
    heads = [member.make() for member in group]
    layers = [member.layer for member in group]
    fit_together(training, heads, layers, data, checkpoint=folder.checkpoint(name))
    records = _records(config, heads, data)
    best = _best([record[f"val_{config.select_by}"] for record in records])
    kept = None if best is None else heads[best]
    folder.finish(name, dict(zip(digests, records, strict=True)), kept)
    return len(group)


def _records(
    config: SweepConfig, heads: list[Any], data: Mapping[str, "xr.Dataset"]
) -> list[Record]:
    """Return what is found out about trained heads, as JSON types."""
    frames = score_many(heads, data["val"], max_memory=config.max_memory, finite=False)
    records: list[Record] = []
    for head, frame in zip(heads, frames, strict=True):
        problem = head_problem(head, frame)
        numbers = {} if problem else head_numbers(frame)
        records.append(
            {
                "n_features": head.n_features_in_,
                "n_iter": getattr(head, "n_iter_", None),
                f"val_{config.select_by}": None,
                **{f"val_{name}": _or_none(value) for name, value in numbers.items()},
                "problem": problem,
            }
        )
    if config.selection == "oracle":
        tested = score_many(heads, data["test"], max_memory=config.max_memory, finite=False)
        for record, frame in zip(records, tested, strict=True):
            finite = np.isfinite(frame["score"]).all()
            value = head_numbers(frame)[config.select_by] if finite else np.nan
            record[f"{ORACLE}_test_{config.select_by}"] = _or_none(value)
    return records


def _or_none(value: float) -> float | None:
    """Return a number as JSON knows it."""
    return float(value) if np.isfinite(value) else None


def _best(quality: list[float | None]) -> int | None:
    """Return the first of the best; None if there is no number."""
    known = [-np.inf if value is None else value for value in quality]
    return None if np.isneginf(known).all() else int(np.argmax(known))


def _conclude(config: SweepConfig, members: list[Member], folder: SweepFolder) -> Sweep:
    """Choose among all members, report the chosen one, write the tables."""
    finished = folder.finished()
    records = [finished[member.digest] for member in members]
    best = _best([record[f"val_{config.select_by}"] for record in records])
    if best is None:
        reason = records[0]["problem"] or "validation rows lack real or fake ones in every dataset"
        raise ConfigError(
            f"a member of a sweep must have a 'val_{config.select_by}' to be chosen, got none: "
            f"{reason}; change the settings or name other rows."
        )
    table = _table(config, members, records, best)
    folder.write_table(table)
    head = folder.keep_best(records[best]["group"])
    test = _tested(config, head, members[best])
    test.to_csv(folder.path / "test.csv", index=False)
    return Sweep(table, head, test, config.select_by, config.output)


def _table(
    config: SweepConfig, members: list[Member], records: list[Record], best: int
) -> pd.DataFrame:
    """Return one row per member, the best first, equally good ones in the order of the sweep."""
    told = pd.DataFrame([_told(config, member) for member in members])
    for name in filter(lambda name: is_object_dtype(told[name]), told):
        told[name] = [None if value is None else str(value) for value in told[name]]
    found = pd.DataFrame([{k: v for k, v in r.items() if k != "group"} for r in records])
    table = pd.concat([told, found], axis=1).assign(chosen=np.arange(len(members)) == best)
    by = f"val_{config.select_by}"
    table[by] = table[by].astype(float)
    return table.sort_values(by, ascending=False, kind="stable", ignore_index=True)


def _told(config: SweepConfig, member: Member) -> dict[str, Any]:
    """Return what tells a member from the others."""
    layer = config.layer if member.layer is None else member.layer
    names = "all" if layer is None else layer if isinstance(layer, str) else " ".join(layer)
    parts = [to_mapping(part) for part in config.parts]
    told = {
        f"train_{name}": value
        for name, value in to_mapping(member.part).items()
        if any(part[name] != value for part in parts)
    }
    return {"head": member.head, **member.point, "layer": names, **told}


def _tested(config: SweepConfig, head: Any, member: Member) -> pd.DataFrame:
    """Return how the chosen head does on the test rows."""
    training = config.training(member.part, head.origin_["layers"])
    data = select_roles(training)
    validated = score(head, data["val"], max_memory=config.max_memory)
    threshold = best_threshold(validated["score"].to_numpy(), validated["label"].to_numpy())
    return metric_table(
        score(head, data["test"], max_memory=config.max_memory),
        {**HALF, "val": threshold},
        n_resamples=config.bootstrap,
        selection=config.selection,
    )
