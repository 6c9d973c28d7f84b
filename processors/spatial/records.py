"""Records: the block of each cell, which holds its sites one after the other, oldest first, and the pool of the blocks.

A block holds 4 << order records and begins at a multiple of that; free blocks of an order are chained.
"""

from __future__ import annotations

from typing import Any

from numba.cpython.unsafe.numbers import trailing_zeros

from processors.spatial.geometry import Params
from processors.spatial.kernel import kernel
from processors.spatial.lanes import equal_lanes
from processors.spatial.layout import BEGIN, COUNT, END, FAR, POINTS, POOL_END, SITE_OF, State, X, Y


@kernel
def site_of(S: State, k: int) -> int:
    return S.record_i[k >> 2, SITE_OF, k & 3]


@kernel
def count_of(S: State, k: int) -> int:
    return S.record_i[k >> 2, COUNT, k & 3]


@kernel
def bury(S: State, k: int) -> None:
    """Place k holds no record."""
    S.record_f[k >> 2, X, k & 3] = FAR
    S.record_i[k >> 2, SITE_OF, k & 3] = -1


@kernel
def fitting(n: int) -> int:
    """The order of the smallest block that n records fill to at most three quarters."""
    order = 0
    while (3 << order) < n:
        order += 1
    return order


@kernel
def is_full(S: State, c: int) -> bool:
    """Whether c has no block, or one without room at its end."""
    return S.order[c] < 0 or S.span[c, END] & ((4 << S.order[c]) - 1) == 0


@kernel
def needs_block(S: State, c: int) -> bool:
    """Whether one more record in c takes a block from the pool that the pool may not have."""
    if not is_full(S, c):
        return False
    order = fitting(S.span[c, END] - S.span[c, BEGIN])
    size = 4 << order
    end = (S.meta[POOL_END] + size - 1 & -size) + size
    return order != S.order[c] and S.free_block[order] < 0 and end > 4 * len(S.record_i)


@kernel
def push_record(S: State, c: int, fx: float, fy: float, count: int, site: int) -> None:
    """Append a record to the block of c, in which `make_way` found room."""
    k = S.span[c, END]
    line, place = k >> 2, k & 3
    if place == 0:
        for other in range(1, 4):
            bury(S, k + other)
    S.record_f[line, X, place], S.record_f[line, Y, place] = fx, fy
    S.record_i[line, COUNT, place], S.record_i[line, SITE_OF, place] = count, site
    S.span[c, END] = k + 1


@kernel
def copy_record(source: Any, k: int, target: Any, to: int) -> None:
    for field in range(4):
        target[to >> 2, field, to & 3] = source[k >> 2, field, k & 3]


@kernel
def make_way(S: State, c: int) -> None:
    """Room for one more record in the block of c: if it is full its records slide down, or move to one that fits."""
    if not is_full(S, c):
        return
    begin, n, order = S.span[c, BEGIN], S.span[c, END] - S.span[c, BEGIN], S.order[c]
    fit = fitting(n)
    old = block_of(S, c)
    to = old if fit == order else take_block(S, fit)
    for k in range(n):
        copy_record(S.record_i, begin + k, S.record_i, to + k)
    for k in range(to + n, to + ((n + 3) & ~3)):
        bury(S, k)
    if fit != order and order >= 0:
        free_block(S, old, order)
    S.order[c] = fit
    S.span[c, BEGIN], S.span[c, END] = to, to + n


@kernel
def block_of(S: State, c: int) -> int:
    """Where the block of c begins, which has one."""
    return S.span[c, BEGIN] & -(4 << max(0, S.order[c]))


@kernel
def take_block(S: State, order: int) -> int:
    """Where a block of 4 << order records begins, with anything in it; what it leaves out of the pool is free."""
    first, size = S.free_block[order], 4 << order
    if first >= 0:
        S.free_block[order] = site_of(S, first)
        return first
    while S.meta[POOL_END] & (size - 1) != 0:
        gap = int(trailing_zeros(S.meta[POOL_END]))
        free_block(S, S.meta[POOL_END], gap - 2)
        S.meta[POOL_END] += 1 << gap
    S.meta[POOL_END] += size
    return S.meta[POOL_END] - size


@kernel
def free_block(S: State, first: int, order: int) -> None:
    S.record_i[first >> 2, SITE_OF, 0] = S.free_block[order]
    S.free_block[order] = first


@kernel
def find_record(S: State, c: int, site: int) -> int:
    for line in range(S.span[c, BEGIN] >> 2, (S.span[c, END] + 3) >> 2):
        found = equal_lanes(S.record_i, line, SITE_OF, site)
        if found != 0:
            return 4 * line + int(trailing_zeros(found))
    raise AssertionError("a live site has a record in its cell")


@kernel
def drop_record(S: State, c: int, k: int) -> None:
    """Remove record k; the oldest takes its place, so that the newest stay at the end."""
    begin, first = S.span[c, BEGIN], block_of(S, c)
    if k != begin:
        copy_record(S.record_i, begin, S.record_i, k)
    bury(S, begin)
    S.span[c, BEGIN] = begin + 1
    if S.span[c, END] == begin + 1:
        free_block(S, first, S.order[c])
        S.order[c] = -1
        S.span[c, BEGIN] = S.span[c, END] = 0


@kernel
def is_core(S: State, P: Params, c: int, k: int) -> bool:
    """Whether record k of cell c is core; in a crowded cell all are, and their counts are not kept."""
    return S.span[c, POINTS] < 0 or count_of(S, k) >= P.min_samples
