"""The same calls here, in other processes, and on a cluster."""

import math
import sys
import warnings

import pytest

from continual.jobs import in_parallel
from featstore.errors import ConfigError

NUMBERS = [(n,) for n in range(5)]
EXPECTED = [math.factorial(n) for n in range(5)]


@pytest.mark.usefixtures("fresh_workers")
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_in_parallel__returns_what_the_calls_return(n_jobs: int) -> None:
    assert sorted(in_parallel(math.factorial, NUMBERS, n_jobs=n_jobs)) == sorted(EXPECTED)


def test_in_parallel__says_what_a_cluster_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"install 'featstore\[cluster\]'"):
        list(in_parallel(math.factorial, NUMBERS, scheduler="tcp://127.0.0.1:1"))


def test_in_parallel__on_a_cluster() -> None:
    distributed = pytest.importorskip("distributed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a port that is taken
        cluster = distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
        )
    with cluster:
        found = in_parallel(math.factorial, NUMBERS, scheduler=cluster.scheduler_address)
        assert sorted(found) == sorted(EXPECTED)
        with pytest.raises(ValueError, match="negative"):
            list(in_parallel(math.factorial, [(-1,)], scheduler=cluster.scheduler_address))
