"""The folder of a sweep: what is finished stays finished, whatever happens.

::

    sweeps/rine/
      sweep.json      the rows and features that all results are of
      groups/         results of members trained together, the best head among them, and the
                      checkpoint of those being trained
      table.parquet, .csv, .md     one row per member, the best first
      best/           the chosen head
      test.csv        how it does on the test rows, with intervals
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from featstore.durable import write_json
from featstore.errors import SchemaError, StoreExistsError
from heads import persistence
from heads.evaluation.whole_folder import whole_folder

ROWS, GROUPS, BEST = "sweep.json", "groups", "best"
Record = dict[str, Any]
"""What is known of a finished member, of JSON types."""


class SweepFolder:
    """Results of members, by the digests of the members.

    Parameters
    ----------
    path
        The folder; made if absent.
    rows
        What identifies the rows and features that results are of, of JSON types.
    overwrite
        Whether a sweep of other rows is moved aside.

    Raises
    ------
    StoreExistsError
        If something else is there and must stay.
    """

    def __init__(self, path: Path, rows: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.path, self._groups = path, path / GROUPS
        marker = path / ROWS
        if marker.is_file() and json.loads(marker.read_text()) == json.loads(json.dumps(rows)):
            return
        if not overwrite and marker.is_file():
            raise StoreExistsError(
                f"a sweep is continued with the same rows, features and way of choosing, got "
                f"{str(path)!r}, which holds one of others; choose another 'output', or ask for it "
                "to be replaced (the old one is kept beside it)."
            )
        with whole_folder(path, overwrite=overwrite) as made:
            write_json(made / ROWS, rows)

    def checkpoint(self, group: str) -> Path:
        """Return the file for the state of a group that is being trained."""
        self._groups.mkdir(exist_ok=True)
        return self._groups / f"{group}.checkpoint"

    def finish(self, group: str, records: Mapping[str, Record], best: Any) -> None:
        """Keep the results of a group.

        Parameters
        ----------
        group
            Its name.
        records
            What is known of its members, by digest.
        best
            The best of its heads; None if none can be chosen.
        """
        if best is not None:
            persistence.save(best, self._groups / group, overwrite=True)
        write_json(self._groups / f"{group}.json", dict(records))

    def finished(self) -> dict[str, Record]:
        """Return what is known of finished members, by digest; ``group`` tells where they are.

        Returns
        -------
        dict
            Digest to record.

        Raises
        ------
        SchemaError
            If a file of results is damaged.
        """
        found: dict[str, Record] = {}
        for path in sorted(self._groups.glob("*.json")):
            try:
                records = json.loads(path.read_text())
            except ValueError as err:
                raise SchemaError(
                    f"results of a sweep must be JSON, got {str(path)!r}: {err}; remove it to "
                    "train its members again."
                ) from err
            found |= {name: record | {"group": path.stem} for name, record in records.items()}
        return found

    def keep_best(self, group: str) -> Any:
        """Make the best head of a group that of the sweep, and return it."""
        target = self.path / BEST
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self._groups / group, target)
        return persistence.load(target)

    def write_table(self, table: pd.DataFrame) -> None:
        """Write the table for programs and for people.

        Parameters
        ----------
        table
            One row per member.
        """
        table.to_parquet(self.path / "table.parquet", index=False)
        table.to_csv(self.path / "table.csv", index=False)
        (self.path / "table.md").write_text(markdown(table) + "\n")


def markdown(table: pd.DataFrame) -> str:
    """Write a table as Markdown.

    Parameters
    ----------
    table
        Any table; numbers are rounded to four decimals.

    Returns
    -------
    str
        Lines of a pipe table.

    Examples
    --------
    >>> print(markdown(pd.DataFrame({"head": ["a"], "val_auroc": [0.98765]})))
    | head | val_auroc |
    | --- | --- |
    | a | 0.9877 |
    """
    lines: list[Sequence[str]] = [list(map(str, table.columns)), ["---"] * len(table.columns)]
    lines += [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: Any) -> str:
    """Return a value for people."""
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)
