"""Showing how far a long job is: a live bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

QUIET_SECONDS = 30.0


@contextmanager
def shown(unit: str) -> Iterator[Callable[[int, int], None]]:
    """Show progress on the error stream.

    Parameters
    ----------
    unit
        What is counted, in the plural: ``"images"``.

    Yields
    ------
    callable
        ``update(done, total)``; rate and time left are worked out here.
    """
    if not sys.stderr.isatty():
        yield _lines(unit)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    start = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(unit, total=None, rate=unit)

        def update(done: int, total: int) -> None:
            rate = f"{unit}  {done / max(time.monotonic() - start, 1e-9):,.1f}/s"
            bar.update(task, completed=done, total=total, rate=rate)

        yield update


def _lines(unit: str) -> Callable[[int, int], None]:
    """Return an update that writes a line every half a minute."""
    start = last = time.monotonic()

    def update(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < QUIET_SECONDS:
            return
        last = now
        rate = done / (now - start)
        left = (total - done) / rate if rate else float("inf")
        sys.stderr.write(f"{done:,}/{total:,} {unit}, {rate:,.1f}/s, {left:,.0f} s left\n")

    return update
