"""Reading the window: labels of all points, border points included."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from processors.spatial.geometry import Params, distance
from processors.spatial.kernel import kernel
from processors.spatial.layout import BEGIN, CORE_ROW, END, LATE_LEN, NEAR, RING_HEAD, RING_LEN, SEAM, State
from processors.spatial.neighbours import neighbour
from processors.spatial.records import is_core, site_of


def points_in_order(state: State) -> NDArray[np.int32]:
    """The slots of the live points, oldest first."""
    head, n = int(state.meta[RING_HEAD]), int(state.meta[RING_LEN])
    begin, size = head & (len(state.ring) - 1), len(state.ring)
    at = np.concatenate([state.ring[begin : begin + n], state.ring[: max(begin + n - size, 0)]])
    late = state.late[: state.meta[LATE_LEN]]
    if len(late) == 0:
        return at
    both = np.concatenate([at, late])
    return both[np.lexsort((state.points["id"][both], state.points["time"][both]))]


@kernel
def label_sites(S: State, P: Params, site_label: NDArray[np.int64], site_core: Any) -> None:
    """For every site the id of its cluster (-1: noise) and whether it is core."""
    for c in range(len(S.span)):
        row = S.span[c, CORE_ROW]
        for k in range(S.span[c, BEGIN], S.span[c, END]):
            s = site_of(S, k)
            site_core[s] = is_core(S, P, c, k)
            if site_core[s]:
                site_label[s] = S.labels[S.cores[row].label].id
            else:
                core = nearest_core(S, P, c, s)
                site_label[s] = -1 if core < 0 else S.labels[S.cores[S.span[S.sites[core].cell, CORE_ROW]].label].id


@kernel
def nearest_core(S: State, P: Params, c: int, s: int) -> int:
    """The core site nearest to site s of cell c and within eps, or -1; on a tie the one with the lowest point id."""
    best, least = -1, P.limit
    x, y = S.sites[s].x, S.sites[s].y
    for o in range(NEAR + SEAM if S.strips[c >> 2].seam >= 0 else NEAR):
        d = neighbour(S, c, o)
        if d < 0 or S.span[d, CORE_ROW] < 0:
            continue
        for k in range(S.span[d, BEGIN], S.span[d, END]):
            if not is_core(S, P, d, k):
                continue
            other = site_of(S, k)
            gap = distance(P.metric, S.sites[other].x, S.sites[other].y, x, y)
            if gap < least or (gap == least and (best < 0 or lowest_id(S, other) < lowest_id(S, best))):
                best, least = other, gap
    return best


@kernel
def lowest_id(S: State, s: int) -> int:
    p = S.sites[s].head
    lowest = S.points[p].id
    for _ in range(S.sites[s].points):
        lowest = min(lowest, S.points[p].id)
        p = S.points[p].next
    return lowest
