"""Whether two cells that lost an edge are still connected: a search from both ends in turn.

It ends when the two meet or the smaller side is exhausted. Most that part meet again close by, which is seen first.
"""

from __future__ import annotations

import numpy as np
from numba.cpython.unsafe.numbers import trailing_zeros
from numpy.typing import NDArray

from processors.spatial.geometry import unpack_key
from processors.spatial.kernel import kernel
from processors.spatial.layout import CORE_ROW, TICK, State
from processors.spatial.neighbours import neighbour
from processors.spatial.prefetch import prefetch


@kernel
def fetch_cores(S: State, c: int, edges: int) -> None:
    """Ask for the core rows at the other end of edges all at once, before one after the other is read."""
    while edges != 0:
        prefetch(S.cores, S.span[neighbour(S, c, int(trailing_zeros(edges))), CORE_ROW])
        edges &= edges - 1


@kernel
def expand(S: State, queue: NDArray[np.int32], head: int, length: int, mine: int, theirs: int) -> tuple[int, bool]:
    """Visit the neighbours of queue[head]. Returns (length of the queue, whether the other search was met)."""
    c = queue[head]
    edges = S.cores[S.span[c, CORE_ROW]].edges
    fetch_cores(S, c, edges)
    while edges != 0:
        d = neighbour(S, c, int(trailing_zeros(edges)))
        edges &= edges - 1
        if S.cores[S.span[d, CORE_ROW]].tick == theirs:
            return length, True
        if S.cores[S.span[d, CORE_ROW]].tick != mine:
            S.cores[S.span[d, CORE_ROW]].tick = mine
            queue[length] = d
            length += 1
    return length, False


@kernel
def are_close(S: State, a: int, b: int) -> bool:
    """Whether an edge or a neighbour in common joins two cells of one regular grid; most that part meet again so close by.

    Only the edges of the two are read: row by row, those of b are moved to where a has the same cells.
    """
    s, t = S.strips[a >> 2], S.strips[b >> 2]
    frame_a, row_a, strip_a = unpack_key(s.key)
    frame_b, row_b, strip_b = unpack_key(t.key)
    rows, columns = row_b - row_a, 4 * (strip_b - strip_a) + (b & 3) - (a & 3)
    if frame_a != frame_b or s.zone != t.zone or abs(rows) > 4 or abs(columns) > 4:
        return False
    with_self = 1 << 12
    edges_a = S.cores[S.span[a, CORE_ROW]].edges | with_self
    edges_b = S.cores[S.span[b, CORE_ROW]].edges | with_self
    for row in range(max(0, rows), min(5, 5 + rows)):
        of_a, of_b = (edges_a >> (5 * row)) & 31, (edges_b >> (5 * (row - rows))) & 31
        if of_a & (of_b << columns if columns >= 0 else of_b >> -columns):
            return True
    return False


@kernel
def connected(S: State, a: int, b: int) -> int:
    """0 if a path joins two cells; else the cells of the side found exhausted are in queue_a (+n) or queue_b (-n)."""
    if are_close(S, a, b):
        return 0
    S.meta[TICK] += 2
    tick_a, tick_b = S.meta[TICK] - 1, S.meta[TICK]
    S.queue_a[0], S.queue_b[0] = a, b
    S.cores[S.span[a, CORE_ROW]].tick, S.cores[S.span[b, CORE_ROW]].tick = tick_a, tick_b
    head_a, len_a, head_b, len_b = 0, 1, 0, 1
    while True:
        len_a, met = expand(S, S.queue_a, head_a, len_a, tick_a, tick_b)
        if met:
            return 0
        head_a += 1
        if head_a == len_a:
            return len_a
        len_b, met = expand(S, S.queue_b, head_b, len_b, tick_b, tick_a)
        if met:
            return 0
        head_b += 1
        if head_b == len_b:
            return -len_b
