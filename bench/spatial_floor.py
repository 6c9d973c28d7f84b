"""The counting floor: what exact neighbour counts alone cost, with everything else known in advance.

A dense grid over a box known beforehand, every point's place in memory known beforehand, float32 distances without the
exact band, no ids, no clusters. Each event still has to add itself to, and its expired predecessor to take itself from,
the counts of all neighbours: no method that keeps exact counts does less.
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
