"""Catching computations that should not happen."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dask


@contextmanager
def max_computes(limit: int) -> Iterator[None]:
    """Fail when dask computes more often than ``limit`` times."""
    count = 0

    def scheduler(dsk: Any, keys: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        assert count <= limit, f"dask computed {count} times, {limit} allowed"
        return dask.get(dsk, keys, **kwargs)

    with dask.config.set(scheduler=scheduler):
        yield
