"""The window: events arrive and expire one at a time, in order of time.

Points that came in order wait for their expiry in a ring, late ones in a heap; the older of the two fronts expires first.
A batch is handed over in pieces (`PIECE` events); before each the arrays are grown to hold it, so that no kernel
allocates. The cells of a piece are looked up first, so that the main loop knows early which memory it will need.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from processors.spatial.clusters import gain, lose
from processors.spatial.counting import count_anew, shift_counts, weigh
from processors.spatial.geometry import HAVERSINE, Params, locate, within_cell
from processors.spatial.grid import (
    drop_record,
    find_record,
    find_site,
    free_site,
    index_id,
    index_site,
    is_core,
    needs_block,
    new_site,
    obtain_cell,
    push_record,
    queue_idle,
    reclaim_idle,
)
from processors.spatial.kernel import kernel
from processors.spatial.layout import (
    CROWDED,
    FREE_POINT,
    FREE_SEAM,
    LATE_LEN,
    LIVE_CELLS,
    LIVE_POINTS,
    LOG_LEN,
    LOG_ROOM,
    POINTS,
    RING_HEAD,
    RING_LEN,
    State,
)

PIECE = 1024

# --------------------------------------------------------------------------------------------------- order of expiry


@kernel
def enqueue(S: State, p: int) -> None:
    """Point p waits for its expiry."""
    ring, n = S.ring, S.meta[RING_LEN]
    mask = len(ring) - 1
    if n == 0 or S.points[ring[(S.meta[RING_HEAD] + n - 1) & mask]].time <= S.points[p].time:
        ring[(S.meta[RING_HEAD] + n) & mask] = p
        S.meta[RING_LEN] += 1
        return
    heap, at = S.late, S.meta[LATE_LEN]
    S.meta[LATE_LEN] += 1
    while at > 0 and S.points[heap[(at - 1) >> 1]].time > S.points[p].time:
        heap[at] = heap[(at - 1) >> 1]
        at = (at - 1) >> 1
    heap[at] = p


@kernel
def oldest(S: State) -> int:
    """The point that expires next, or -1."""
    late = S.late[0] if S.meta[LATE_LEN] > 0 else -1
    if S.meta[RING_LEN] == 0:
        return late
    p = S.ring[S.meta[RING_HEAD]]
    return late if late >= 0 and S.points[late].time < S.points[p].time else p


@kernel
def dequeue(S: State, p: int) -> None:
    """Remove the point that `oldest` named."""
    if S.meta[RING_LEN] > 0 and S.ring[S.meta[RING_HEAD]] == p:
        S.meta[RING_HEAD] = (S.meta[RING_HEAD] + 1) & (len(S.ring) - 1)
        S.meta[RING_LEN] -= 1
        return
    heap = S.late
    S.meta[LATE_LEN] -= 1
    n = S.meta[LATE_LEN]
    last = heap[n]
    at = 0
    while 2 * at + 1 < n:
        child = 2 * at + 1
        if child + 1 < n and S.points[heap[child + 1]].time < S.points[heap[child]].time:
            child += 1
        if S.points[heap[child]].time >= S.points[last].time:
            break
        heap[at] = heap[child]
        at = child
    heap[at] = last


# ------------------------------------------------------------------------------------------------- arrive and expire


@kernel
def expire(S: State, P: Params, p: int) -> None:
    """Take point p, the oldest, out of the window."""
    dequeue(S, p)
    s = S.points[p].site
    site = S.sites[s]
    c = site.cell
    span = S.span[c]
    k = -1
    core = span[CROWDED] == 1
    if site.points == 1 or not core:
        k = find_record(S, c, s)
        core = is_core(S, P, c, k)
    fx64, fy64 = within_cell(P, S.cells[c].key, S.cells[c].zone, site.x, site.y)
    unlink_point(S, p)
    site.points -= 1
    span[POINTS] -= 1
    if core:
        weigh(S, c, -1)
    n = 0
    if site.points == 0:
        drop_record(S, c, k)
        if core:
            S.cells[c].cores -= 1
            S.changed[0] = s
            n = 1
    at = P.min_samples - 1
    _, n = shift_counts(S, P, c, s, np.float32(fx64), np.float32(fy64), -1, at, False, S.changed, n)
    if span[CROWDED] == 1 and span[POINTS] < P.min_samples:
        n = count_anew(S, P, c, S.changed, n)
    if n > 0:
        lose(S, P, S.changed, n)
    if site.points == 0:
        free_site(S, s)
    if span[POINTS] == 0:
        queue_idle(S, c)


@kernel
def unlink_point(S: State, p: int) -> None:
    """Take p out of the ring of its site's points and free its slot."""
    point = S.points[p]
    site = S.sites[point.site]
    S.points[point.prev].next = point.next
    S.points[point.next].prev = point.prev
    if site.head == p:
        site.head = point.next
    point.site = -1
    point.next = S.meta[FREE_POINT]
    S.meta[FREE_POINT] = p
    S.meta[LIVE_POINTS] -= 1


@kernel
def link_point(S: State, p: int, s: int) -> None:
    point, site = S.points[p], S.sites[s]
    point.site = s
    if site.points == 0:
        site.head = point.next = point.prev = p
    else:
        last = S.points[site.head].prev
        point.prev, point.next = last, site.head
        S.points[last].next = p
        S.points[site.head].prev = p
    site.points += 1
    S.meta[LIVE_POINTS] += 1


@kernel
def arrive(S: State, P: Params, time: float, x: float, y: float, point_id: int, c: int, fx: Any, fy: Any) -> None:
    """Take a point, which lies in cell c, into the window."""
    p = S.meta[FREE_POINT]
    S.meta[FREE_POINT] = S.points[p].next
    S.points[p].time, S.points[p].id = time, point_id
    span = S.span[c]
    s = find_site(S, x, y)
    new = s < 0
    core = span[CROWDED] == 1
    if new:
        s = new_site(S, x, y, c)
    elif not core:
        core = is_core(S, P, c, find_record(S, c, s))
    measured, n = shift_counts_for(S, P, c, s, new, p, fx, fy)
    if new:
        push_record(S, c, fx, fy, measured + 1, s)
        if span[CROWDED] == 1 or measured + 1 >= P.min_samples:
            S.changed[n] = s
            n += 1
            S.cells[c].cores += 1
            weigh(S, c, 1)
    elif core:
        weigh(S, c, 1)
    if span[CROWDED] == 0 and span[POINTS] >= P.crowded_at:
        span[CROWDED] = 1
    enqueue(S, p)
    index_id(S, p)
    if new:
        index_site(S, s)
    if n > 0:
        gain(S, P, S.changed, n)


@kernel
def shift_counts_for(S: State, P: Params, c: int, s: int, new: bool, p: int, fx: Any, fy: Any) -> tuple[int, int]:
    """Count point p in its site, and the site's neighbours up; a new site is not yet among the records."""
    measure = new and S.span[c, CROWDED] == 0
    if not new:
        link_point(S, p, s)
        S.span[c, POINTS] += 1
    measured, n = shift_counts(S, P, c, s, fx, fy, 1, P.min_samples, measure, S.changed, 0)
    if new:
        link_point(S, p, s)
        S.span[c, POINTS] += 1
    return measured, n


# -------------------------------------------------------------------------------------------------------- a piece


@kernel
def place(S: State, P: Params, x: Any, y: Any, cells: Any, inside: Any, start: int) -> int:
    """The cell of each event of a piece, and where in it the event lies.

    Returns the number of events done: fewer when the rows for cells at a seam must grow first.
    """
    if start == 0:
        reclaim_idle(S, 1024 + S.meta[LIVE_CELLS] // 8)
    for i in range(start, len(x)):
        if P.metric == HAVERSINE and S.meta[FREE_SEAM] < 0:
            return i
        key, fx, fy = locate(P, x[i], y[i])
        cells[i] = obtain_cell(S, P, key)
        inside[i, 0], inside[i, 1] = fx, fy
    for i in range(len(x)):
        if S.span[cells[i], POINTS] == 0:
            queue_idle(S, cells[i])
    return len(x)


@kernel
def run(S: State, P: Params, time: Any, x: Any, y: Any, ids: Any, cells: Any, inside: Any, start: int) -> int:
    """Process a piece from event `start` on. Returns the number of events done: fewer when an array must grow first."""
    n = len(time)
    for i in range(start, n):
        S.clock[0] = max(S.clock[0], time[i])
        horizon = S.clock[0] - P.window_s
        p = oldest(S)
        while p >= 0 and S.points[p].time <= horizon:
            if S.meta[LOG_LEN] + LOG_ROOM > len(S.log):
                return i
            expire(S, P, p)
            p = oldest(S)
        if needs_block(S, cells[i]) or S.meta[LOG_LEN] + LOG_ROOM > len(S.log):
            return i
        arrive(S, P, time[i], x[i], y[i], ids[i], cells[i], inside[i, 0], inside[i, 1])
    return n


@kernel
def run_clock(S: State, P: Params, now: float) -> bool:
    """Move the clock without an event. Returns False when the log must grow first."""
    S.clock[0] = max(S.clock[0], now)
    p = oldest(S)
    while p >= 0 and S.points[p].time <= S.clock[0] - P.window_s:
        if S.meta[LOG_LEN] + LOG_ROOM > len(S.log):
            return False
        expire(S, P, p)
        p = oldest(S)
    return True
