"""Showing how far a long job is: a live bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from featstore.display import time_text

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
        ``update(done, total)``; rate and time left are worked out here, anew for every pass
        over the data.
    """
    if not sys.stderr.isatty():
        yield _lines(unit)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[pace]}", markup=False)
    pace = _Pace(unit)
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(unit, total=None, pace=unit)

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, pace=pace.text(done, total))

        yield update


def _lines(unit: str) -> Callable[[int, int], None]:
    """Return an update that writes a line every half a minute."""
    last = time.monotonic()
    pace = _Pace(unit)

    def update(done: int, total: int) -> None:
        nonlocal last
        text = pace.text(done, total)
        now = time.monotonic()
        if now - last < QUIET_SECONDS:
            return
        last = now
        sys.stderr.write(f"{done:,}/{total:,} {text}\n")

    return update


class _Pace:
    """Rate and time left of the current pass; a count that starts again is a new pass."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._start = self._last = time.monotonic()
        self._done, self._complete = 0, False

    def text(self, done: int, total: int) -> str:
        """Take note of the progress and describe it."""
        if done < self._done or self._complete:
            self._start = self._last
        self._last = time.monotonic()
        self._done, self._complete = done, done >= total
        rate = done / max(self._last - self._start, 1e-9)
        left = f", {time_text((total - done) / rate)} left" if rate else ""
        return f"{self._unit}, {rate:,.1f}/s{left}"
