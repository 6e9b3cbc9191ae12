"""Nearest rows on a GPU; imports torch."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heads.loop.batch_source import Floats
from heads.loop.devices import torch_device
from heads.neighbours.search import Metric, NearestRows

BLOCK_QUERIES = 4096
"""Queries per product."""


class TorchSearch(NearestRows):
    """Nearest rows where torch computes.

    Parameters
    ----------
    queries, k, metric
        As for `NearestRows`.
    device
        As for `heads.loop.devices.torch_device`.

    Notes
    -----
    Products are float32 proper (no TF32) unless torch is told otherwise.
    """

    def __init__(
        self, queries: Floats, k: int, metric: Metric = "cosine", device: str = "auto"
    ) -> None:
        super().__init__(queries, k, metric)
        self._device = torch_device(device)
        q = self._moved(self.queries)
        self._queries = torch.split(q, BLOCK_QUERIES)
        self._values = [q.new_full((len(part), k), -torch.inf) for part in self._queries]
        self._index = [torch.full_like(kept, -1, dtype=torch.int64) for kept in self._values]

    def _moved(self, array: Floats) -> Tensor:
        return torch.from_numpy(np.require(array, requirements=["C", "W"])).to(self._device)

    def _compare(self, block: Floats, scale: Floats, offset: Floats) -> None:
        rows, scales, offsets = map(self._moved, (block, scale, offset))
        numbers = torch.arange(self.n_rows, self.n_rows + len(block), device=self._device)
        for part, queries in enumerate(self._queries):
            found = torch.addcmul(offsets, queries @ rows.T, scales)
            pool = torch.cat((self._values[part], found), dim=1)
            where = torch.cat((self._index[part], numbers.expand(len(queries), -1)), dim=1)
            place = _largest(pool, self.k)
            self._values[part], self._index[part] = pool.gather(1, place), where.gather(1, place)

    def _found(self) -> tuple[NDArray[np.int64], Floats]:
        index, values = (torch.cat(kept).cpu().numpy() for kept in (self._index, self._values))
        return index, values


def _largest(pool: Tensor, k: int) -> Tensor:
    """Return places (n, k) of the k largest of every row, the first of equal ones first.

    `torch.topk` alone may keep any of equal values at the k-th place.
    """
    kth = pool.topk(k).values[:, -1:]
    above, tied = pool > kth, pool == kth
    wanted = k - above.sum(1, keepdim=True)
    keep = above | (tied & (tied.cumsum(1, dtype=torch.int32) <= wanted))
    places = keep.nonzero()[:, 1].view(len(pool), k)
    order = pool.gather(1, places).argsort(dim=1, descending=True, stable=True)
    return places.gather(1, order)
