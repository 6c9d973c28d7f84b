"""Zeroed arrays that grow where they are: a large one has addresses behind it, which take no memory before they are written.

Where a table of a million keys doubles by being copied, much of the time goes into pages that the system must clear first, and
both copies are in memory at once. ``processors.spatial.memory`` has the like for a window's many small arrays.
"""

import contextlib
import mmap
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

LINE = 64  # bytes of a cache line
LARGE_PAGE = 1 << 21
# Addresses of a large array: so many times its size, and this many bytes at least.
AHEAD, LEAST_ROOM = 4, 1 << 28
Array = np.ndarray[Any, Any]


def roomy_zeros(length: int, dtype: npt.DTypeLike, row: tuple[int, ...] = ()) -> Array:
    """Zeros of shape ``(length, *row)`` whose first byte opens a cache line, so that a 64-byte record never straddles two."""
    kind = np.dtype((dtype, row))
    size = length * kind.itemsize
    memory = _with_room(size) if size >= LARGE_PAGE and sys.platform == "linux" else _allocated(size)
    return memory.view(kind.base).reshape(length, *row)


def lengthened(array: Array, length: int) -> Array:
    """The rows of ``array``, and zeros; it takes the place of ``array``, whose memory it may share. O(1) where there is room.

    >>> lengthened(np.array([1, 2]), 3).tolist()
    [1, 2, 0]
    """
    longer = in_place(array, length)
    if longer is None:
        longer = roomy_zeros(length, array.dtype, array.shape[1:])
        longer[: len(array)] = array
    return longer


def in_place(array: Array, length: int) -> Array | None:
    """The same memory and what lies behind it, which is zero; None if it has not so much room.

    Nothing of ``array`` may have been given to others as an array of its own that grows.
    """
    room, row_bytes = array.base, array.dtype.itemsize * int(np.prod(array.shape[1:], dtype=np.int64))
    if not isinstance(room, np.ndarray) or not _is_map(room):
        return None
    size, start = length * row_bytes, array.ctypes.data - room.ctypes.data
    if not array.flags.c_contiguous or start + size > room.nbytes:
        return None
    return room[start : start + size].view(array.dtype).reshape(length, *array.shape[1:])


def _allocated(size: int) -> npt.NDArray[np.uint8]:
    memory = np.zeros(size + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + size]


def _with_room(size: int) -> npt.NDArray[np.uint8]:
    """The beginning of pages of its own, as many of them as possible large ones."""
    room = max(AHEAD * size, LEAST_ROOM)
    try:
        pages = mmap.mmap(-1, room + LARGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError:  # a limit of addresses
        return _allocated(size)
    memory = np.frombuffer(pages, np.uint8)
    start = -memory.ctypes.data % LARGE_PAGE
    with contextlib.suppress(OSError):  # a kernel without large pages
        pages.madvise(mmap.MADV_HUGEPAGE, start, room // LARGE_PAGE * LARGE_PAGE)
    return memory[start : start + size]


def _is_map(room: Array) -> bool:
    view = room.base
    return isinstance(view.obj if isinstance(view, memoryview) else view, mmap.mmap)
