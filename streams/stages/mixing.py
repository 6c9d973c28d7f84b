"""Codes of pairs of codes."""

import numpy as np

from streams.stages.columns import Ints

FIRST, SECOND, SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(31)


def pair_codes(left: Ints, right: Ints) -> Ints:
    """A 63-bit code for each pair of codes, different for (a, b) and (b, a): int64[n] >= 0. O(n).

    >>> codes = pair_codes(np.array([1, 2]), np.array([2, 1]))
    >>> bool(codes[0] != codes[1])
    True
    """
    mixed = left.astype(np.uint64) * FIRST
    mixed ^= mixed >> SHIFT
    mixed += right.astype(np.uint64)
    mixed *= SECOND
    mixed ^= mixed >> SHIFT
    mixed *= FIRST
    return (mixed >> np.uint64(1)).astype(np.int64)
