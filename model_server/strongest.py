"""Who gave most of a score: of many items at once, the few largest positive shares and their parts of the evidence."""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


def strongest(shares: Floats, most: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """The columns of the ``most`` largest positive shares of each line [n, columns], largest first, of equals the first, and the
    part that each has in the sum of the positive ones.

    The part is 0 where there are not so many, and of a line whose sum is infinite: then the column says nothing. What is no
    number counts for nothing. O(shares most).

    >>> [each.tolist() for each in strongest(np.array([[1.0, -2.0, 3.0]]), 2)]
    [[[2, 0]], [[0.75, 0.25]]]
    """
    columns = np.zeros((len(shares), min(most, shares.shape[1])), np.int64)
    parts = np.zeros(columns.shape)
    _pick(shares, columns, parts)
    return columns, parts


def warm_up() -> None:
    """Compile the kernel, or read it from numba's cache, so that no user's batch waits for it."""
    strongest(np.zeros((1, 1)), 1)


@njit(cache=True, error_model="numpy")
def _pick(shares: Array, columns: Array, parts: Array) -> None:
    """Insert one by one what is larger than the least that is kept; ``columns`` and ``parts`` begin at 0."""
    most = columns.shape[1]
    for n in range(len(shares)):
        kept, named, total = parts[n], columns[n], 0.0
        for column in range(shares.shape[1]):
            share = shares[n, column]
            if not share > 0.0:
                continue
            total += share
            at = most
            while at > 0 and share > kept[at - 1]:
                at -= 1
            for k in range(most - 1, at, -1):
                kept[k], named[k] = kept[k - 1], named[k - 1]
            if at < most:
                kept[at], named[at] = share, column
        for k in range(most):
            kept[k] = kept[k] / total if 0.0 < total < np.inf else 0.0
