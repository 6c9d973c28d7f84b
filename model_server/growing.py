"""Zeroed tensors that grow where they are: on a CPU there are addresses behind them, which take no memory until written.

A table of what is known of each user that doubles by being copied touches every page of both copies, and holds everybody up
meanwhile.
"""

import math

import numpy as np
import torch
from torch import Tensor

AHEAD = 4  # times as many rows as were asked for have an address


def roomy_zeros(rows: int, row: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros of shape ``(rows, *row)``. O(1) on a CPU, where pages are cleared when they are first written."""
    if device.type != "cpu":
        return torch.zeros((rows, *row), dtype=dtype, device=device)
    size = max(rows, 1) * math.prod(row) * dtype.itemsize
    try:
        memory = np.zeros(AHEAD * size, np.uint8)
    except MemoryError:  # a system that gives no more addresses than it has memory for
        memory = np.zeros(size, np.uint8)
    return torch.from_numpy(memory).view(dtype).view(-1, *row)[:rows]


def lengthened(tensor: Tensor, rows: int) -> Tensor:
    """The rows of ``tensor`` and zeros, ``rows`` in all; it takes the place of ``tensor``, whose memory it may share.

    O(1) where there is room, else O(rows of ``tensor``). What lies behind ``tensor`` in its memory counts as room, so it must be
    one of ``roomy_zeros``, or of this, or have its memory to itself: of another's first rows the next ones would come back.

    >>> lengthened(torch.tensor([[1, 2]]), 2).tolist()
    [[1, 2], [0, 0]]
    """
    row, storage = tuple(tensor.shape[1:]), tensor.untyped_storage()
    fits = rows * math.prod(row) * tensor.dtype.itemsize <= storage.nbytes()
    if fits and tensor.is_contiguous() and tensor.storage_offset() == 0:
        return torch.as_strided(tensor, (rows, *row), tensor.stride())
    longer = roomy_zeros(rows, row, tensor.dtype, tensor.device)
    longer[: len(tensor)] = tensor
    return longer
