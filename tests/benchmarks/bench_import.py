"""Time to import the package and to show the help, in fresh interpreters."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.paired import cost, interleave, report

BASE = "import xarray, zarr, dask"
HELP = [str(Path(sys.executable).with_name("featstore")), "--help"]


def test_import() -> None:
    package, command, base = interleave(
        fresh(sys.executable, "-c", "import featstore"),
        fresh(*HELP),
        fresh(sys.executable, "-c", BASE),
        rounds=9,
    )
    report(
        "Starting, fresh interpreters",
        [
            cost(f"import featstore | {BASE}", package, base, wanted="<= 1.2"),
            cost(f"featstore --help | {BASE}", command, base, wanted="<= 1.0"),
        ],
    )


def fresh(*command: str) -> Callable[[], object]:
    return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
