"""Memory that a worker has freed piles up less: it runs for weeks, and what it holds comes and goes in pieces of all sizes."""

import ctypes
import sys

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
LARGE_BYTES = 4 << 20
ARENAS = 2


def give_back_large_pieces() -> bool:
    """Let the C library give every piece of 4 MB and more back to the system once it is freed; whether it does.

    By default glibc learns from the first ones that are freed to keep pieces of up to 32 MB in its heaps, where smaller ones that
    stay keep it from using the rooms between them. No more heaps are made for threads, either. Where the library is not glibc
    nothing is changed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)) and bool(mallopt(M_ARENA_MAX, ARENAS))
