"""Two counting floors: what exact neighbour counts alone cost, without ids, clusters or the exact band of float32.

Each event has to add itself to, and its expired predecessor to take itself from, the counts of all neighbours: no method
that keeps exact counts does less. Both have a dense grid over a box known beforehand.

* `CountingFloor` knows the stream in advance: every point's cell, and its place in memory, laid out row by row.
* `GridCountingFloor` gets coordinates: it finds the cell, appends to the cell's block (which grows) and pops at expiry.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit


class CountingFloor:
    """Neighbour counts of a sliding window of `window` points over a stream that is known in advance."""

    def __init__(self, lat: Any, lon: Any, eps: float, window: int) -> None:
        side = eps / math.sqrt(2)
        row, column = ((lat - lat.min()) / side).astype(np.int64) + 2, ((lon - lon.min()) / side).astype(np.int64) + 2
        self.columns = int(column.max()) + 3
        self.cell = (row * self.columns + column).astype(np.int32)
        order = np.argsort(self.cell, kind="stable")
        place = np.empty(len(lat), np.int32)
        place[order] = np.arange(len(lat), dtype=np.int32)
        first = np.searchsorted(self.cell[order], np.arange(int(row.max() + 3) * self.columns)).astype(np.int32)
        self.span = np.stack([first, first], axis=1)
        self.record_f = np.zeros((len(lat), 4), np.float32)
        origin_lat, origin_lon = lat.min() / side, lon.min() / side
        self.record_f[place, 0] = lat / side - origin_lat + 2 - row
        self.record_f[place, 1] = lon / side - origin_lon + 2 - column
        self.place, self.window, self.at = place, window, 0

    def run(self, n: int) -> None:
        """The next `n` events."""
        count_window(self.at, n, self.window, self.cell, self.place, self.span, self.record_f, self.columns)
        self.at += n


class GridCountingFloor:
    """Neighbour counts of a sliding window of `window` points, which inserts and expires in the grid itself."""

    def __init__(self, lat: Any, lon: Any, eps: float, window: int) -> None:
        self.side = eps / math.sqrt(2)
        self.y, self.x = lat / self.side, lon / self.side
        self.y, self.x = self.y - self.y.min() + 2, self.x - self.x.min() + 2
        self.columns = int(self.x.max()) + 3
        cells = (int(self.y.max()) + 3) * self.columns
        self.span, self.block = np.zeros((cells, 2), np.int32), np.full((cells, 2), -1, np.int32)
        self.records = np.zeros((8 * window + 4096, 4), np.float32)
        self.cell_of, self.free = np.zeros(window, np.int32), np.full(32, -1, np.int32)
        self.pool, self.at = np.zeros(1, np.int64), 0

    def run(self, n: int) -> None:
        """The next `n` events."""
        part = slice(self.at, self.at + n)
        slide_window(
            self.at, self.y[part], self.x[part], self.cell_of, self.span, self.block, self.records, self.free, self.pool,
            self.columns,
        )  # fmt: skip
        self.at += n


@njit(cache=True)
def slide_window(
    at: int, y: Any, x: Any, cell_of: Any, span: Any, block: Any, records: Any, free: Any, pool: Any, columns: int
) -> None:
    counts = records.view(np.int32)
    window = len(cell_of)
    for i in range(len(y)):
        slot = (at + i) % window
        if at + i >= window:
            c = cell_of[slot]
            span[c, 0] += 1
            shift(c, span[c, 0] - 1, -1, span, records, counts, columns)
        row, column = int(y[i]), int(x[i])
        c = row * columns + column
        cell_of[slot] = c
        if block[c, 1] < 0 or span[c, 1] == block[c, 0] + (2 << block[c, 1]):
            make_way(c, span, block, records, counts, free, pool)
        k = span[c, 1]
        records[k, 0], records[k, 1] = y[i] - row, x[i] - column
        counts[k, 2] = shift(c, k, 1, span, records, counts, columns) + 1
        span[c, 1] += 1


@njit(cache=True)
def make_way(c: int, span: Any, block: Any, records: Any, counts: Any, free: Any, pool: Any) -> None:
    """The block of c is full: slide its records down, or move to a block twice as large."""
    begin, n, old, order = span[c, 0], span[c, 1] - span[c, 0], block[c, 0], block[c, 1]
    grow = order < 0 or n > (1 << order)
    if grow:
        if free[order + 1] >= 0:
            block[c, 0] = free[order + 1]
            free[order + 1] = counts[free[order + 1], 3]
        else:
            block[c, 0] = pool[0]
            pool[0] += 2 << (order + 1)
            if pool[0] > len(records):
                raise MemoryError
        block[c, 1] = order + 1
    to = block[c, 0]
    for k in range(n):
        records[to + k] = records[begin + k]
    if grow and order >= 0:
        counts[old, 3] = free[order]
        free[order] = old
    span[c, 0], span[c, 1] = to, to + n


@njit(cache=True)
def count_window(at: int, n: int, window: int, cell: Any, place: Any, span: Any, records: Any, columns: int) -> None:
    counts = records.view(np.int32)
    for i in range(at, at + n):
        if i >= window:
            c = cell[i - window]
            span[c, 0] += 1
            shift(c, place[i - window], -1, span, records, counts, columns)
        c = cell[i]
        counts[place[i], 2] = shift(c, place[i], 1, span, records, counts, columns) + 1
        span[c, 1] += 1


@njit(cache=True)
def shift(c: int, k: int, step: int, span: Any, records: Any, counts: Any, columns: int) -> int:
    y, x = records[k, 0], records[k, 1]
    found = 0
    for rows in range(-2, 3):
        gap_y = max(np.float32(0), rows - y, y - rows - 1)
        for cols in range(-2, 3):
            gap_x = max(np.float32(0), cols - x, x - cols - 1)
            if gap_y * gap_y + gap_x * gap_x > 2:
                continue
            d = c + rows * columns + cols
            oy, ox = y - np.float32(rows), x - np.float32(cols)
            for j in range(span[d, 0], span[d, 1]):
                dy, dx = records[j, 0] - oy, records[j, 1] - ox
                hit = 1 if dy * dy + dx * dx <= 2 else 0
                counts[j, 2] += step * hit
                found += hit
    return found
