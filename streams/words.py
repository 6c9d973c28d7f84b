"""Eight bytes of a buffer at a time, for kernels that read texts. What is read is never below index 0, which is not checked.

numba's cache knows a kernel by its own file: after a change here, touch the modules that import this one.
"""

import numpy as np
from numba import njit

WORD = 8
_ONES, _HIGH, _PLACES = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080), np.uint64(0x0001020304050607)


@njit(cache=True, forceinline=True)
def word_at(data, at):  # type: ignore[no-untyped-def]
    """The eight bytes from ``at`` on as a uint64, the first one lowest; LLVM makes one load of it.

    >>> hex(word_at(np.arange(9, dtype=np.uint8), 1))
    '0x807060504030201'
    """
    start, word = np.uint64(at), np.uint64(0)  # an unsigned index is not looked at for being negative
    for byte in range(WORD):
        word |= np.uint64(data[start + np.uint64(byte)]) << np.uint64(8 * byte)
    return word


@njit(cache=True, forceinline=True)
def word_within(data, at, end):  # type: ignore[no-untyped-def]
    """The bytes from ``at`` to before ``end``, at most eight, as a uint64: what is missing of eight is nought.

    >>> hex(word_within(np.arange(9, dtype=np.uint8), 6, 9))
    '0x80706'
    """
    if at + WORD <= len(data):
        word = word_at(data, at)
        return word if end - at >= WORD else word & ((np.uint64(1) << np.uint64(8 * (end - at))) - np.uint64(1))
    word = np.uint64(0)
    for byte in range(at, min(at + WORD, end)):
        word |= np.uint64(data[byte]) << np.uint64(8 * (byte - at))
    return word


@njit(cache=True, forceinline=True)
def is_same(data, start, end, other, other_start, other_end):  # type: ignore[no-untyped-def]
    """Whether two slices hold the same bytes.

    >>> text = np.frombuffer(b"cafe cafe", np.uint8)
    >>> is_same(text, 0, 4, text, 5, 9), is_same(text, 0, 4, text, 4, 8)
    (True, False)
    """
    if end - start != other_end - other_start:
        return False
    for shift in range(0, end - start, WORD):
        if word_within(data, start + shift, end) != word_within(other, other_start + shift, other_end):
            return False
    return True


@njit(cache=True, forceinline=True)
def below_flags(word, least):  # type: ignore[no-untyped-def]
    """Flags of the bytes of ``word`` below ``least`` (at most 128): the lowest one is right, those above it may not be.

    Source: Warren, Hacker's Delight, 6-1.
    """
    return (word - _ONES * np.uint64(least)) & ~word & _HIGH


@njit(cache=True, forceinline=True)
def equal_flags(word, byte):  # type: ignore[no-untyped-def]
    """Flags of the bytes of ``word`` that are ``byte``: the lowest one is right, those above it may not be."""
    return below_flags(word ^ (_ONES * np.uint64(byte)), 1)


@njit(cache=True, forceinline=True)
def first_flagged(flags):  # type: ignore[no-untyped-def]
    """Which byte, counted from the lowest, has the lowest of the ``flags``, of which there is at least one.

    >>> int(first_flagged(np.uint64(equal_flags(np.uint64(0x2C2C00), ord(",")))))
    1
    """
    lowest = (flags & (~flags + np.uint64(1))) >> np.uint64(7)
    return np.int64((lowest * _PLACES) >> np.uint64(56))
