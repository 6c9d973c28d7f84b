"""Items that the same people take: a short list of neighbours per item, counted as people take up new items."""

import torch
from torch import Tensor

from model_server.histories import turns
from model_server.patterns import RowLists


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
        pairs = torch.stack((torch.cat((source, other)), torch.cat((other, source))), 1)
        pairs, count = torch.unique(pairs, dim=0, return_counts=True)
        self.lists.reserve(int(pairs.max()) + 1)
        for part in turns(pairs[:, 0]):
            self._add_distinct(pairs[part, 0], pairs[part, 1], count[part].float())

    def read(self, source: Tensor, target: Tensor, visitors: Tensor, order: Tensor | None = None) -> Tensor:
        """How near the targets int64 [n, m] are to the sources int64 [n, s]: mean cosine of their people, [n, m]; -1: none.

        ``order`` is ``target.argsort(1)``, if it is known already.
        """
        norm = torch.rsqrt(visitors + 3.0)
        inside = source.clamp(min=0)
        near = self.lists.read(source, target, norm[inside], order)
        held = (source >= 0).sum(1, keepdim=True).clamp(min=1)
        return near * norm[target.clamp(min=0)] / held

    def _add_distinct(self, source: Tensor, other: Tensor, count: Tensor) -> None:
        listed, weights = self.lists.neighbours[source], self.lists.weights[source]
        same = listed == other[:, None]
        place = torch.where(same.any(1), same.float().argmax(1), weights.argmin(1))
        self.lists.neighbours[source, place] = other
        self.lists.weights[source, place] += count
