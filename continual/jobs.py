"""Doing independent things in several processes, here or on a Dask cluster."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from joblib import Parallel, delayed

from featstore.errors import ConfigError


def in_parallel(
    function: Callable[..., Any],
    arguments: Sequence[tuple[Any, ...]],
    *,
    n_jobs: int = 1,
    scheduler: str | None = None,
) -> Iterator[Any]:
    """Call a function with many arguments.

    Parameters
    ----------
    function
        Of a module, so that other processes find it.
    arguments
        Positional arguments of every call.
    n_jobs
        Processes of this machine; -1 for one per core.
    scheduler
        Address of a Dask cluster, such as ``"tcp://10.0.0.1:8786"``, which is used instead. Its
        workers must see the same files, under the same names.

    Yields
    ------
    object
        What the calls return, as they finish.

    Raises
    ------
    ConfigError
        If there is a scheduler, but not the package that speaks with it.
    """
    if scheduler is not None:
        yield from _on_cluster(function, arguments, scheduler)
        return
    calls = (delayed(function)(*own) for own in arguments)
    yield from Parallel(n_jobs=n_jobs, return_as="generator_unordered")(calls)


def _on_cluster(
    function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], scheduler: str
) -> Iterator[Any]:
    """Yield the results of calls on a Dask cluster."""
    try:
        import distributed
    except ImportError as err:
        raise ConfigError(
            "a 'scheduler' needs the package distributed, which is not installed; install "
            "'featstore[cluster]', or leave the scheduler out."
        ) from err
    with distributed.Client(scheduler) as client:
        futures = [client.submit(function, *own, pure=False) for own in arguments]
        for future in distributed.as_completed(futures):
            yield future.result()
            future.release()
