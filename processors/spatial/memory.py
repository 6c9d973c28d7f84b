"""Zeroed arrays that begin at a cache line, and whose memory goes back to the system as soon as nothing refers to them.

Small arrays that grow are copied to larger ones. Others have room behind them to grow into: addresses without memory, which
they get when they are written. From a large page on arrays are copied again: large pages spare an event most of its misses in
the table of pages, and must be asked for before they are written. An allocator keeps what the old arrays held for later, up to
as much again as the window has; memory mapped for each array is not kept, so that a process is no larger than its window.
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
ROOM = LARGE_PAGE - MAPPED  # bytes of addresses of an array below a large page


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
    """Pages of its own; what is mapped beyond the size is not touched here, so it takes no memory."""
    return on_large_pages(size) if size > ROOM else with_room(size)


def with_room(size: int) -> NDArray[np.uint8]:
    """The beginning of ``ROOM`` bytes of addresses."""
    pages = mmap.mmap(-1, ROOM, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a large page would take memory for all of the room
        pages.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(pages, np.uint8)[:size]


def on_large_pages(size: int) -> NDArray[np.uint8]:
    """Pages of its own, as many of them as possible large ones."""
    pages = mmap.mmap(-1, size + LARGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory = np.frombuffer(pages, np.uint8)
    start = -memory.ctypes.data % LARGE_PAGE
    with contextlib.suppress(OSError):  # a kernel without large pages
        pages.madvise(mmap.MADV_HUGEPAGE, start, size // LARGE_PAGE * LARGE_PAGE)
    return memory[start : start + size]


def grown(array: NDArray[Any], rows: int) -> NDArray[Any]:
    """An array of more rows: those of ``array``, and zeros. It takes the place of ``array``, whose memory it may share."""
    size, room = rows * array.dtype.itemsize * math.prod(array.shape[1:]), array.base
    if isinstance(room, np.ndarray) and size <= room.nbytes and is_room_of(array, room):
        return room[:size].view(array.dtype).reshape(rows, *array.shape[1:])
    larger = line_zeros((rows, *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger


def is_room_of(array: NDArray[Any], memory: NDArray[Any]) -> bool:
    """Whether the array is the beginning of what ``with_room`` mapped, of which nothing else is written."""
    view = memory.base
    is_from_map = isinstance(view.obj if isinstance(view, memoryview) else view, mmap.mmap)
    return is_from_map and memory.nbytes == ROOM and array.ctypes.data == memory.ctypes.data
