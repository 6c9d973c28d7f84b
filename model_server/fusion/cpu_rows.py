"""Which rows are in a list, without the others: on a CPU one pass with a mark per row is cheaper than sorting."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numba import njit
from torch import Tensor

Array = npt.NDArray[Any]


def distinct_rows(found: Tensor, rows: int) -> Tensor:
    """The distinct rows of each line of ``found`` int64 [n, m], ascending, padded with -1 at the left. O(n m log m + rows).

    ``rows`` bounds the rows; raises IndexError for one beyond.

    >>> distinct_rows(torch.tensor([[3, 1, 3, -1], [2, 0, 1, 3]]), 4).tolist()
    [[-1, -1, 1, 3], [0, 1, 2, 3]]
    """
    kept = np.empty(found.shape, np.int32)
    most = _keep_distinct(found.contiguous().numpy(), rows, kept)
    return torch.from_numpy(np.sort(kept[:, :most], axis=1)).long()


@njit(cache=True, error_model="numpy")
def _keep_distinct(found: Array, rows: int, kept: Array) -> int:
    """Write each line's distinct rows in the order in which they come, then -1; how many the longest line has."""
    marked, most = np.zeros(rows, np.bool_), 0
    for n in range(len(found)):
        count = 0
        for m in range(found.shape[1]):
            row = found[n, m]
            if row >= rows:
                raise IndexError("a candidate is not in the catalogue")
            if row >= 0 and not marked[row]:
                marked[row] = True
                kept[n, count] = row
                count += 1
        for m in range(count):
            marked[kept[n, m]] = False
        kept[n, count:] = -1
        most = max(most, count)
    return most


def warm_up() -> None:
    """Compile the kernel, or read it from numba's cache, so that no user's batch waits for it."""
    distinct_rows(torch.tensor([[0, -1]]), 1)
