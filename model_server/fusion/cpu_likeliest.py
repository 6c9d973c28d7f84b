"""The largest of each line, in order, on a CPU: what is far below is told apart by a count of sizes, and never compared.

Where they are few, a list of the largest so far is enough.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numba import njit
from torch import Tensor

from model_server.cpu_math import largest_of

Array = npt.NDArray[Any]
FEW = 32  # of so many at most the list is kept in order number by number
SIZES, FINENESS = 256, np.float32(16)  # sizes of a sixteenth of a nat, the last of them without an end


def likeliest_on_cpu(log_p: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """``likeliest`` of logarithms float32 [users, n]; of equals the first comes first. O(users n), if few are equal in size."""
    values, columns = torch.empty((len(log_p), most)), torch.empty((len(log_p), most), dtype=torch.long)
    _pick(log_p.contiguous().numpy(), values.numpy(), columns.numpy())
    return values, columns


def foremost_on_cpu(scores: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """``foremost`` of scores float32 [users, n], of equals the first. O(users n) where ``most`` are few, else O(users n most)."""
    values, columns = torch.empty((len(scores), most)), torch.zeros((len(scores), most), dtype=torch.long)
    _insert(scores.contiguous().numpy(), values.numpy(), columns.numpy())
    return values, columns


def warm_up() -> None:
    """Compile the kernels, or read them from numba's cache, so that no user's batch waits for it."""
    likeliest_on_cpu(torch.zeros((1, 2)), 1)
    foremost_on_cpu(torch.zeros((1, 2)), 1)


@njit(cache=True, nogil=True, error_model="numpy")
def _pick(lines: Array, values: Array, columns: Array) -> None:
    """Put what is large enough in the order of its size, then in its own: few are ever moved far."""
    size, sorted_x = np.empty(lines.shape[1], np.int32), np.empty(lines.shape[1], np.float32)
    sorted_c, start = np.empty(lines.shape[1], np.int32), np.empty(SIZES + 1, np.int32)
    most = values.shape[1]
    for n in range(len(lines)):
        last = _order_by_size(lines[n], most, size, start, sorted_x, sorted_c)
        _order(sorted_x, sorted_c, last)
        for k in range(most):
            values[n, k], columns[n, k] = sorted_x[k], sorted_c[k]


@njit(cache=True, error_model="numpy")
def _order_by_size(x: Array, most: int, size: Array, start: Array, sorted_x: Array, sorted_c: Array) -> int:
    """Write the sizes that hold the ``most`` largest, one after the other; how many numbers that are."""
    largest = largest_of(x)
    start[:] = 0
    for c in range(len(x)):
        below = (largest - x[c]) * FINENESS
        size[c] = np.int32(below) if below < SIZES - 1 else SIZES - 1  # what is no number goes to the last
        start[size[c] + 1] += 1
    beyond = SIZES
    for each in range(SIZES):
        start[each + 1] += start[each]
        if start[each + 1] >= most:
            beyond = each + 1
            break
    last = start[beyond]
    for c in range(len(x)):
        if size[c] < beyond:
            at = start[size[c]]
            start[size[c]] += 1
            sorted_x[at], sorted_c[at] = x[c], c
    return last


@njit(cache=True, error_model="numpy")
def _order(x: Array, columns: Array, last: int) -> None:
    """Insert one by one."""
    for n in range(1, last):
        value, column, at = x[n], columns[n], n
        while at > 0 and x[at - 1] < value:
            x[at], columns[at] = x[at - 1], columns[at - 1]
            at -= 1
        x[at], columns[at] = value, column


@njit(cache=True, error_model="numpy")
def _insert(lines: Array, values: Array, columns: Array) -> None:
    """Insert what is larger than the least that is kept; what is no number counts as the largest of all."""
    last = values.shape[1] - 1
    for n in range(len(lines) if last >= 0 else 0):
        line, kept, named, held = lines[n], values[n], columns[n], 0
        for c in range(len(line)):
            x = line[c]
            if held <= last:
                at = held
                held += 1
            elif x > kept[last] or (x != x and kept[last] == kept[last]):
                at = last
            else:
                continue
            while at > 0 and (x > kept[at - 1] or (x != x and kept[at - 1] == kept[at - 1])):
                kept[at], named[at] = kept[at - 1], named[at - 1]
                at -= 1
            kept[at], named[at] = x, c
