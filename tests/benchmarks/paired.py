"""Two sides of one measurement run in turn, and the table that compares them.

The sides alternate A B, B A, A B, … after a warm-up, so that whatever else the machine does hits
both. Ratios are medians over the rounds of the ratio within a round.
"""

import json
import os
import platform
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, NamedTuple

OUT_VARIABLE = "FEATSTORE_BENCH_OUT"
"""Environment variable: a file that the rows are appended to as JSON lines."""

HEADER = ("", "ours", "other", "ratio", "(CPU time)", "wanted", "ok?")


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread: small operations gain nothing from more, and lose much."""
    import torch

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


class Timing(NamedTuple):
    """Seconds of every round of one side: on the clock, and of all its processes together."""

    wall: list[float]
    cpu: list[float]


@dataclass(frozen=True)
class Row:
    """One line of the table; `ratio` and `cpu_ratio` are what `wanted` bounds."""

    name: str
    ours: str
    other: str
    ratio: float
    wanted: str = ""
    cpu_ratio: float | None = None
    judged: float | None = None
    rounds: dict[str, Timing] | None = None

    @property
    def verdict(self) -> str:
        """Whether the wanted ratio is met; empty where none is wanted."""
        if not self.wanted:
            return ""
        sign, bound = self.wanted.split()
        value = self.ratio if self.judged is None else self.judged
        met = value >= float(bound) if sign == ">=" else value <= float(bound)
        return "yes" if met else "NO"

    def cells(self) -> tuple[str, ...]:
        """Return the texts of the line."""
        cpu = "" if self.cpu_ratio is None else f"{self.cpu_ratio:.2f}"
        return self.name, self.ours, self.other, f"{self.ratio:.2f}", cpu, self.wanted, self.verdict


def interleave(*sides: Callable[[], object], rounds: int = 5, warm_up: bool = True) -> list[Timing]:
    """Run the sides in turn; return the seconds of each."""
    timings = [Timing([], []) for _ in sides]
    for side in sides if warm_up else ():
        side()
    for number in range(rounds):
        order = range(len(sides))
        for i in order if number % 2 == 0 else reversed(order):
            wall, cpu = time.perf_counter(), _cpu_seconds()
            sides[i]()
            timings[i].wall.append(time.perf_counter() - wall)
            timings[i].cpu.append(_cpu_seconds() - cpu)
    return timings


def speed(
    name: str,
    ours: Timing,
    other: Timing,
    *,
    amount: float,
    unit: str,
    wanted: str = "",
    judge_cpu: bool = False,
) -> Row:
    """Compare two sides that do the same `amount` of work; a ratio above 1 says ours is faster."""
    ratio, cpu_ratio = (_ratio(getattr(other, k), getattr(ours, k)) for k in Timing._fields)
    own, others = ((t.cpu if judge_cpu else t.wall) for t in (ours, other))
    return Row(
        name,
        f"{amount / median(own):,.4g} {unit}",
        f"{amount / median(others):,.4g} {unit}",
        ratio,
        wanted,
        cpu_ratio,
        cpu_ratio if judge_cpu else ratio,
        {"ours": ours, "other": other},
    )


def cost(name: str, ours: Timing, other: Timing, *, wanted: str = "") -> Row:
    """Compare the seconds of two sides; a ratio below 1 says ours is cheaper."""
    ratio, cpu_ratio = (_ratio(getattr(ours, k), getattr(other, k)) for k in Timing._fields)
    return Row(
        name,
        f"{median(ours.wall):.3f} s",
        f"{median(other.wall):.3f} s",
        ratio,
        wanted,
        cpu_ratio,
        ratio,
        {"ours": ours, "other": other},
    )


def report(title: str, rows: Sequence[Row]) -> None:
    """Print the table and, where asked, append its rows to a file as JSON lines."""
    load = "/".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"\n{title}  [{os.cpu_count()} cores, load {load}]")
    table = [HEADER, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        cells = [line[0].ljust(widths[0])]
        cells += [text.rjust(width) for text, width in zip(line[1:], widths[1:], strict=True)]
        print(" | ".join(cells))
    if target := os.environ.get(OUT_VARIABLE):
        with open(target, "a") as file:
            file.writelines(json.dumps(_record(title, row)) + "\n" for row in rows)


def _record(title: str, row: Row) -> dict[str, Any]:
    rounds = {side: timing._asdict() for side, timing in (row.rounds or {}).items()}
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    return {
        "subject": title,
        **asdict(row),
        "rounds": rounds,
        "ok": row.verdict,
        "load": os.getloadavg(),
        "machine": machine,
        "day": time.strftime("%Y-%m-%d"),
    }


def _ratio(above: Sequence[float], below: Sequence[float]) -> float:
    return median(a / b for a, b in zip(above, below, strict=True))


def _cpu_seconds() -> float:
    """Return the processor time of this process and of those it has waited for."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, who))
