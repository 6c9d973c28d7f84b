"""Keeping the memory that one batch has freed for the next: tensors come and go many times a second."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 512 << 20
LARGEST_KEPT_BYTES = 32 << 20  # glibc takes no more


def keep_freed_memory() -> bool:
    """Let the C library keep up to half a gigabyte of freed memory, blocks of up to 32 MB; whether it does.

    By default it gives larger blocks back to the system at once, and every batch pays for fresh, zeroed pages. Where the
    library is not glibc nothing is changed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT_BYTES)) and bool(mallopt(M_TRIM_THRESHOLD, KEPT_BYTES))
