"""Reading the window: labels of all points, border points included."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from processors.spatial.geometry import Params, distance
from processors.spatial.kernel import kernel
from processors.spatial.layout import BEGIN, CORE_ROW, END, LATE_LEN, NEAR, RING_HEAD, RING_LEN, SEAM, State
from processors.spatial.neighbours import neighbour
from processors.spatial.records import is_core, site_of

SPARSE = 8  # ids that span so many times their number are sorted


def points_in_order(state: State) -> NDArray[np.int32]:
    """The slots of the live points, oldest first."""
    in_order, late = live_points(state)
    if len(late) == 0:
        return in_order
    both = np.concatenate([in_order, late])
    return both[np.lexsort((state.points["id"][both], state.points["time"][both]))]


def live_points(state: State) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The slots of the live points: those that came in order, oldest first, and those that came late, in any order."""
    head, n = int(state.meta[RING_HEAD]), int(state.meta[RING_LEN])
    begin, size = head & (len(state.ring) - 1), len(state.ring)
    ring = np.concatenate([state.ring[begin : begin + n], state.ring[: max(begin + n - size, 0)]])
    return ring, state.late[: state.meta[LATE_LEN]]


def points_by_id(state: State) -> NDArray[np.int32]:
    """The slots of the live points in order of their ids. O(points) if these are dense, as running numbers are."""
    points = np.concatenate(live_points(state))
    ids = state.points["id"][points]
    lowest, span = (int(ids.min()), int(np.ptp(ids)) + 1) if len(ids) else (0, 0)
    if span > SPARSE * len(ids):
        return points[np.argsort(ids)]
    slots = np.full(span, -1, np.int32)
    slots[ids - lowest] = points
    return slots[slots >= 0]


class ClusterRuns(NamedTuple):
    """The points of a window's clusters: ``ids`` int64[m] and ``is_core`` bool[m], cluster by cluster, ascending in each.

    ``labels`` int64[c], ascending, are the clusters' ids, ``start`` int64[c] says where each begins. ``window_ids`` int64[n]
    are the ids of all points, ascending.
    """

    labels: NDArray[np.int64]
    start: NDArray[np.int64]
    ids: NDArray[np.int64]
    is_core: NDArray[np.bool_]
    window_ids: NDArray[np.int64]


def cluster_runs(state: State, params: Params) -> ClusterRuns:
    """The clusters of the window. O(points), and for each point that is not core a search of its neighbouring cells."""
    points = points_by_id(state)
    slot, core = np.full(len(state.sites), -1, np.int32), np.zeros(len(state.sites), np.bool_)
    label_sites(state, params, slot, core)
    number = np.zeros(len(state.labels), np.int64)
    count_slots(state, points, slot, number)
    live = np.flatnonzero(number)
    live = live[np.argsort(state.labels["id"][live])]
    start = np.zeros(len(live), np.int64)
    np.cumsum(number[live[:-1]], out=start[1:])
    place, total = np.empty_like(number), int(number.sum())
    place[live] = start
    ids, is_core = np.empty(total, np.int64), np.empty(total, np.bool_)
    gather_runs(state, points, slot, core, place, ids, is_core)
    return ClusterRuns(state.labels["id"][live], start, ids, is_core, state.points["id"][points])


@kernel
def count_slots(S: State, points: NDArray[np.int32], slot: NDArray[np.int32], number: NDArray[np.int64]) -> None:
    for p in points:
        label = slot[S.points[p].site]
        if label >= 0:
            number[label] += 1


@kernel
def gather_runs(
    S: State, points: NDArray[np.int32], slot: NDArray[np.int32], core: Any, place: NDArray[np.int64],
    ids: NDArray[np.int64], is_core: Any,
) -> None:  # fmt: skip
    """Write the points of each cluster from its ``place`` on, which goes with them."""
    for p in points:
        site = S.points[p].site
        label = slot[site]
        if label >= 0:
            at = place[label]
            ids[at], is_core[at] = S.points[p].id, core[site]
            place[label] = at + 1


@kernel
def label_sites(S: State, P: Params, slot: NDArray[np.int32], site_core: Any) -> None:
    """For every site the slot of its cluster's label (-1: noise) and whether it is core."""
    for c in range(len(S.span)):
        row = S.span[c, CORE_ROW]
        for k in range(S.span[c, BEGIN], S.span[c, END]):
            s = site_of(S, k)
            site_core[s] = is_core(S, P, c, k)
            if site_core[s]:
                slot[s] = S.cores[row].label
            else:
                core = nearest_core(S, P, c, s)
                slot[s] = -1 if core < 0 else S.cores[S.span[S.sites[core].cell, CORE_ROW]].label


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
