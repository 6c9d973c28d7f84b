"""Counting who takes what together: the pass over pairs on a CPU does what the operations on other devices do."""

import numpy as np
import torch

from model_server.histories import turns
from model_server.neighbours import ItemNeighbours

CPU = torch.device("cpu")


class BySteps(ItemNeighbours):
    """Counts by the operations that say what counting means, whatever the device."""

    def _count_up(self, source: torch.Tensor, other: torch.Tensor, count: torch.Tensor) -> None:
        for part in turns(source):
            self._add_distinct(source[part], other[part], count[part])


def test_one_pass_over_the_pairs_counts_exactly_what_the_operations_count() -> None:
    rng = np.random.default_rng(3)
    passing, stepping = ItemNeighbours(CPU, width=4), BySteps(CPU, width=4)
    for _ in range(20):
        rows = torch.tensor((60 * rng.random(40) ** 3).astype(np.int64))
        earlier = torch.tensor(rng.integers(-1, 60, (40, 5)))
        for neighbours in (passing, stepping):
            neighbours.add(rows, earlier)
    assert torch.equal(passing.lists.neighbours, stepping.lists.neighbours)
    assert torch.equal(passing.lists.weights, stepping.lists.weights)
    assert int((passing.lists.neighbours >= 0).sum()) > 60  # lists were full: newcomers took places


def test_items_are_counted_in_both_directions_and_not_with_themselves() -> None:
    neighbours = ItemNeighbours(CPU, width=3)
    neighbours.add(torch.tensor([2, 2]), torch.tensor([[7, 2, -1], [7, 9, -1]]))
    assert neighbours.lists.neighbours[2].tolist() == [7, 9, -1]
    assert neighbours.lists.weights[2].tolist() == [2.0, 1.0, 0.0]
    assert (neighbours.lists.neighbours[7, 0], neighbours.lists.weights[9, 0]) == (2, 1.0)
