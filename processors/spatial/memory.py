"""Zeroed arrays that begin at a cache line, and whose memory goes back to the system as soon as nothing refers to them.

Arrays that grow are copied to larger ones. An allocator keeps what the old ones held for later, up to as much again as the
window has; memory mapped for each array is not kept, so that a process is no larger than its window. Large pages spare an
event most of its misses in the table of pages.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

LINE = 64  # bytes of a cache line
MAPPED = 1 << 16  # bytes from which an array is mapped
LARGE_PAGE = 1 << 21


def line_zeros(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Zeros that begin at a cache line: the spans of a strip, and a row of `near`, are then one line each, not two."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = mapped(size) if size >= MAPPED and sys.platform == "linux" else allocated(size)
    return memory.view(dtype).reshape(shape)


def line_full(shape: tuple[int, ...], value: int, dtype: Any) -> NDArray[Any]:
    """The same, filled with a value."""
    array = line_zeros(shape, dtype)
    array.fill(value)
    return array


def allocated(size: int) -> NDArray[np.uint8]:
    """Of the allocator's memory: what is small, and everything where memory is not mapped."""
    memory = np.zeros(size + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + size]


def mapped(size: int) -> NDArray[np.uint8]:
    """Pages of its own; what is between the size and whole large pages is never touched, so it takes no memory."""
    spare = LARGE_PAGE if size >= LARGE_PAGE else 0
    pages = mmap.mmap(-1, size + spare, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory = np.frombuffer(pages, np.uint8)
    start = -memory.ctypes.data % LARGE_PAGE if spare else 0
    if spare:
        with contextlib.suppress(OSError):  # a kernel without large pages
            pages.madvise(mmap.MADV_HUGEPAGE, start, size // LARGE_PAGE * LARGE_PAGE)
    return memory[start : start + size]
