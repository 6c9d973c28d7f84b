"""Which rows are in a list, without the others: on a CPU one pass with a mark per row is cheaper than sorting.

And so is looking up a user's candidates one by one cheaper than putting all lists beside each other first.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from numba import njit
from torch import Tensor

Array = npt.NDArray[Any]
LINE = 64  # numbers: loops over so many, or a multiple, are made of vectors to their end
SIZES, LISTS = 5, 3  # how many squares and lists the kernel is compiled for ahead


class Squares(NamedTuple):
    """Squares of the map, as arrays: the rows [squares, n] in each, which each row is in, the nine around each; -1: none."""

    members: Array
    of_row: Array
    around: Array


class Sources(NamedTuple):
    """Where the candidates of users come from: rows that have something near them, [users], or linked to them, [users, n], and
    what everybody gets, [n], or each on top, [users, n].
    """

    last: Array
    home: Array
    linked: Array
    everybody: Array
    further: Array


def collected_rows(
    sources: Sources, squares: tuple[Squares, ...], at_home: Squares, lists: tuple[Array, ...], rows: int
) -> Tensor:
    """The distinct rows of all sources, int64 [users, n], ascending, padded with -1 at the left; n is a multiple of ``LINE``.

    Near the last row is what is in the nine ``squares`` of each size around it, ``at_home`` likewise; linked is what the
    ``lists`` [rows, n] hold. O(what is looked up + rows). Raises IndexError for a row that is not below ``rows``.
    """
    near = sum(9 * each.members.shape[1] for each in (*squares, at_home))
    linked = sources.linked.shape[1] * sum(each.shape[1] for each in lists)
    most = near + linked + len(sources.everybody) + sources.further.shape[1]
    kept = np.full((len(sources.last), -(-min(most, rows) // LINE) * LINE), -1, np.int32)
    widest = _collect(sources, squares, at_home, lists, rows, kept)
    return torch.from_numpy(np.sort(kept[:, : -(-widest // LINE) * LINE], axis=1)).long()


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


@njit(cache=True, nogil=True, error_model="numpy")
def _collect(sources: Any, squares: Any, at_home: Any, lists: Any, rows: int, kept: Array) -> int:
    """Write each user's distinct rows in the order in which they come, then -1; how many one has at most."""
    marked, widest = np.zeros(rows, np.bool_), 0
    for u in range(len(kept)):
        line, count = kept[u], 0
        for each in squares:
            count = _keep_near(sources.last[u], each, marked, line, count)
        count = _keep_near(sources.home[u], at_home, marked, line, count)
        for row in sources.linked[u]:
            for neighbours in lists:
                if row >= 0:
                    count = _keep_all(neighbours[row], marked, line, count)
        count = _keep_all(sources.everybody, marked, line, count)
        count = _keep_all(sources.further[u], marked, line, count)
        for n in range(count):
            marked[line[n]] = False
        line[count:] = -1
        widest = max(widest, count)
    return widest


@njit(cache=True, error_model="numpy")
def _keep_near(row: int, squares: Any, marked: Array, line: Array, count: int) -> int:
    if not 0 <= row < len(squares.of_row) or squares.of_row[row] < 0:
        return count
    for square in squares.around[squares.of_row[row]]:
        if square >= 0:
            count = _keep_all(squares.members[square], marked, line, count)
    return count


@njit(cache=True, error_model="numpy")
def _keep_all(found: Array, marked: Array, line: Array, count: int) -> int:
    for row in found:
        if row >= len(marked):
            raise IndexError("a candidate is not in the catalogue")
        if row >= 0 and not marked[row]:
            marked[row], line[count] = True, row
            count += 1
    return count


def warm_up() -> None:
    """Compile the kernels, or read them from numba's cache, so that no user's batch waits for it."""
    distinct_rows(torch.tensor([[0, -1]]), 1)
    row, table = np.zeros(1, np.int64), np.zeros((1, 1), np.int64)
    squares = Squares(table, row, table)
    collected_rows(Sources(row, row, table, row, table), (squares,) * SIZES, squares, (table,) * LISTS, 1)
