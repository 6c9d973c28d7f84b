"""Items that the same people take: a short list of neighbours per item, counted as people take up new items."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numba import njit
from torch import Tensor

from model_server.histories import turns
from model_server.patterns import RowLists

Array = npt.NDArray[Any]


class ItemNeighbours:
    """For each catalogue row the rows that its people also took, the most frequent ``width`` of them.

    Counting is by Space-Saving (Metwally et al. 2005): a newcomer takes the place of the least frequent and inherits its
    count, so what is really frequent cannot be missed and a count is too high by at most that of the last of the list.

    >>> neighbours = ItemNeighbours(torch.device("cpu"), width=2)
    >>> neighbours.add(torch.tensor([5, 5, 6]), torch.tensor([[1, -1], [1, 2], [1, -1]]))
    >>> neighbours.lists.neighbours[5].tolist(), neighbours.lists.weights[5].tolist()
    ([1, 2], [2.0, 1.0])
    """

    def __init__(self, device: torch.device, width: int = 32) -> None:
        self.lists = RowLists(device, width)

    def add(self, rows: Tensor, earlier: Tensor) -> None:
        """Somebody took up ``rows`` int64 [n] after ``earlier`` int64 [n, m] (-1: none); both directions count. O(n m width)."""
        source = rows[:, None].expand_as(earlier)[earlier >= 0]
        other = earlier[earlier >= 0]
        apart = source != other
        source, other = source[apart], other[apart]
        if not len(source):
            return
        end = int(torch.maximum(source.max(), other.max())) + 1
        self.lists.reserve(end)
        pairs, count = torch.unique(torch.cat((source * end + other, other * end + source)), return_counts=True)
        self._count_up(pairs // end, pairs % end, count.float())

    def read(self, source: Tensor, target: Tensor, visitors: Tensor, order: Tensor | None = None) -> Tensor:
        """How near the targets int64 [n, m] are to the sources int64 [n, s]: mean cosine of their people, [n, m]; -1: none.

        ``order`` is ``target.argsort(1)``, if it is known already.
        """
        norm = torch.rsqrt(visitors + 3.0)
        inside = source.clamp(min=0)
        near = self.lists.read(source, target, norm[inside], order)
        held = (source >= 0).sum(1, keepdim=True).clamp(min=1)
        return near * norm[target.clamp(min=0)] / held

    def _count_up(self, source: Tensor, other: Tensor, count: Tensor) -> None:
        """Count distinct pairs, those of one source in order. On a CPU one pass: a popular source has many turns."""
        if source.device.type == "cpu":
            listed, weights = self.lists.neighbours.numpy(), self.lists.weights.numpy()
            _count_up(source.numpy(), other.numpy(), count.numpy(), listed, weights)
            return
        for part in turns(source):
            self._add_distinct(source[part], other[part], count[part])

    def _add_distinct(self, source: Tensor, other: Tensor, count: Tensor) -> None:
        listed, weights = self.lists.neighbours[source], self.lists.weights[source]
        same = listed == other[:, None]
        place = torch.where(same.any(1), same.float().argmax(1), weights.argmin(1))
        self.lists.neighbours[source, place] = other
        self.lists.weights[source, place] += count


def warm_up() -> None:
    """Compile the kernel, or read it from numba's cache, so that no user's batch waits for it."""
    ItemNeighbours(torch.device("cpu")).add(torch.tensor([0]), torch.tensor([[1]]))


@njit(cache=True)
def _count_up(source: Array, other: Array, count: Array, listed: Array, weights: Array) -> None:
    """What ``_add_distinct`` does, pair by pair."""
    for n in range(len(source)):
        line, weight = listed[source[n]], weights[source[n]]
        place = int(np.argmin(weight))
        for held in range(len(line)):
            if line[held] == other[n]:
                place = held
                break
        line[place] = other[n]
        weight[place] += count[n]
