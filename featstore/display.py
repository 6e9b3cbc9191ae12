"""What the commands print: results as text for people."""

from collections import Counter
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from featstore.extract import Estimate, Summary, Unreadable
    from featstore.layouts import Ignored
    from featstore.verify import Finding

SHOWN = 20


def table_text(table: "pd.DataFrame") -> str:
    """Return a table for the terminal.

    Parameters
    ----------
    table
        Any table; integers are grouped by thousands, numbers stand right.

    Returns
    -------
    str
        Lines without trailing blanks.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rendered = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in table.columns:
        number = table[name].dtype.kind in "iuf"
        rendered.add_column(Text(str(name)), justify="right" if number else "left", overflow="fold")
    for row in table.itertuples(index=False):
        rendered.add_row(*(Text(_cell(value)) for value in row))
    stream = StringIO()
    Console(file=stream, width=None if _terminal() else 160).print(rendered)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines() if line.strip())


def summary_text(summary: "Summary", store: str) -> str:
    """Return what an extraction did.

    Parameters
    ----------
    summary
        Result of `featstore.extract.extract`.
    store
        Path of the store.

    Returns
    -------
    str
        Counts, then every unreadable image with its reason.
    """
    rate = summary.n_extracted / summary.seconds if summary.seconds > 0 else 0.0
    lines = [
        f"{summary.features}: {summary.n_extracted:,} images extracted in {summary.seconds:,.1f} s "
        f"({rate:,.1f} images/s), {summary.n_present:,} already present, "
        f"{len(summary.unreadable):,} unreadable -> {store}"
    ]
    if summary.n_duplicates:
        lines.append(f"{summary.n_duplicates:,} images have the bytes of an earlier one")
    lines += _some("unreadable", [f"{x.path}: {x.reason}" for x in summary.unreadable])
    return "\n".join(lines + _ignored(summary.ignored))


def estimate_text(estimate: "Estimate") -> str:
    """Return what an extraction would cost.

    Parameters
    ----------
    estimate
        Result of `featstore.extract.estimate`.

    Returns
    -------
    str
        Counts, bytes and time. A store may hold more images than the scan finds: never less than
        nothing is left to do.
    """
    present = min(estimate.n_present, estimate.n_images)
    n_bytes, seconds = max(estimate.n_bytes, 0), max(estimate.seconds, 0.0)
    lines = [
        f"{estimate.features}: {estimate.n_images:,} images found, "
        f"{present:,} already present, {estimate.n_images - present:,} to extract",
        f"{size_text(n_bytes)} of features, about {time_text(seconds)}",
    ]
    return "\n".join(lines + _ignored(estimate.ignored) + ["dry run: nothing was written"])


def findings_text(findings: "Sequence[Finding]", repaired: bool) -> str:
    """Return what a verification found.

    Parameters
    ----------
    findings
        Result of `featstore.verify.verify`.
    repaired
        Whether it repaired.

    Returns
    -------
    str
        One line per finding, and what to do.
    """
    if not findings:
        return "all checksums match; no leftovers"
    counts = Counter(finding.kind for finding in findings)
    lines = [", ".join(f"{count} {kind}" for kind, count in counts.items())]
    for f in findings:
        block = f"block {f.block}" if f.block >= 0 else ""
        place = " ".join(part for part in (f.group, block) if part)
        lines.append(f"  {f.kind}: {place}{': ' if place else ''}{f.problem}")
    if counts["damaged"]:
        lines.append(
            "damaged blocks were dropped; run the extraction again to refill them"
            if repaired
            else "run 'featstore verify --repair' to drop damaged blocks, then extract again"
        )
    return "\n".join(lines)


def unreadable_text(unreadable: "Mapping[str, Sequence[Unreadable]]") -> str:
    """Return the images without features, and why.

    Parameters
    ----------
    unreadable
        Feature group to its images.

    Returns
    -------
    str
        One line per image, under a line per group.
    """
    lines: list[str] = []
    for group, images in unreadable.items():
        if images:
            lines.append(f"{group}: {len(images):,} unreadable")
            lines += [f"  {image.path}: {image.reason}" for image in images]
    return "\n".join(lines or ["every image is readable"])


def imported_text(n_rows: int, store: str) -> str:
    """Return what an import did.

    Parameters
    ----------
    n_rows
        Rows imported.
    store
        Path of the store.

    Returns
    -------
    str
        One line.
    """
    return f"{n_rows:,} rows imported -> {store}; 'featstore ls {store}' shows them"


def size_text(n_bytes: float) -> str:
    """Return a number of bytes for people.

    Parameters
    ----------
    n_bytes
        Bytes.

    Returns
    -------
    str
        With a decimal unit.

    Examples
    --------
    >>> size_text(51_200), size_text(5.12e12)
    ('51.2 kB', '5.12 TB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"


def time_text(seconds: float) -> str:
    """Return a time for people.

    Parameters
    ----------
    seconds
        Seconds.

    Returns
    -------
    str
        In the unit that suits it.

    Examples
    --------
    >>> time_text(42), time_text(4000)
    ('42 s', '1.1 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def _ignored(ignored: "Sequence[Ignored]") -> list[str]:
    reasons = Counter(item.reason for item in ignored)
    return [f"{count:,} files ignored: {reason}" for reason, count in reasons.most_common()]


def _some(what: str, items: Sequence[str]) -> list[str]:
    """List items, saying how many more there are."""
    lines = [f"  {what}: {item}" for item in items[:SHOWN]]
    more = len(items) - SHOWN
    return (
        [*lines, f"  … and {more:,} more ('featstore ls STORE --unreadable' lists them)"]
        if more > 0
        else lines
    )


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _terminal() -> bool:
    import sys

    return sys.stdout.isatty()
