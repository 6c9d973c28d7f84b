"""The window: events arrive and expire one at a time, in order of time.

Points that came in order wait for their expiry in a ring, late ones in a heap; the older of the two fronts expires first.
A batch is handed over in pieces (`PIECE` events); before each the arrays are grown to hold it, so that no kernel
allocates. The cells of a piece are looked up first, so that the main loop knows early which memory it will need.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from processors.spatial.clusters import gain, lose
from processors.spatial.counting import count_anew, shift_counts, turn, weigh
from processors.spatial.geometry import HAVERSINE, Params, locate, pack_key, within_cell
from processors.spatial.hash_tables import index_id, is_table_full
from processors.spatial.kernel import kernel
from processors.spatial.layout import (
    CHANGED_CELL,
    CHANGED_RECORD,
    CHANGED_SITE,
    CORE_ROW,
    END,
    FREE_POINT,
    FREE_SEAM,
    FREE_STRIP,
    LATE_LEN,
    LIVE_CORES,
    LIVE_LABELS,
    LIVE_POINTS,
    LIVE_STRIPS,
    LOG_LEN,
    POINTS,
    RING_HEAD,
    RING_LEN,
    ROOM,
    SITE_USED,
    State,
    X,
    Y,
)
from processors.spatial.lookahead import look_ahead, look_for_strips
from processors.spatial.records import drop_record, find_record, is_core, make_way, needs_block, push_record
from processors.spatial.sites import find_site, free_site, index_site, index_sites_of, new_site
from processors.spatial.strips import obtain_strip, queue_if_idle, reclaim_idle

PIECE = 1024
IDLE = 64  # empty strips that are kept, besides a sixteenth of all

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
    k = -1
    core = S.span[c, POINTS] < 0
    if site.points == 1 or not core:
        k = find_record(S, c, s)
        core = is_core(S, P, c, k)
        fx, fy = S.record_f[k >> 2, X, k & 3], S.record_f[k >> 2, Y, k & 3]
    else:
        ux, uy = within_cell(P, S.strips[c >> 2].zone, site.x, site.y)
        fx, fy = np.float32(ux), np.float32(uy)
    unlink_point(S, p)
    count_points(S, c, -1)
    n = 0
    if core:
        weigh(S, S.span[c, CORE_ROW], -1)
    if site.points == 0:
        drop_record(S, c, k)
        if core:
            S.cores[S.span[c, CORE_ROW]].sites -= 1
            S.changed[0, CHANGED_SITE], S.changed[0, CHANGED_CELL], S.changed[0, CHANGED_RECORD] = s, c, -1
            n = 1
    _, n = shift_counts(S, P, c, s, fx, fy, -1, P.min_samples - 1, False, S.changed, n)
    if S.span[c, POINTS] < 0 and -S.span[c, POINTS] < P.min_samples:
        n = count_anew(S, P, c, S.changed, n)
    if n > 0:
        lose(S, P, S.changed, n)
    if site.points == 0:
        free_site(S, s)
    if S.span[c, POINTS] == 0:
        queue_if_idle(S, c >> 2)


@kernel
def count_points(S: State, c: int, step: int) -> None:
    """Add to the points of a cell; the number of a crowded one is negative."""
    S.span[c, POINTS] += -step if S.span[c, POINTS] < 0 else step


@kernel
def unlink_point(S: State, p: int) -> None:
    """Take p out of the ring of its site's points and free its slot."""
    point = S.points[p]
    site = S.sites[point.site]
    S.points[point.prev].next = point.next
    S.points[point.next].prev = point.prev
    if site.head == p:
        site.head = point.next
    site.points -= 1
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
    crowded = S.span[c, POINTS] < 0
    s = find_site(S, c, fx, fy, x, y)
    if s < 0:
        s = new_site(S, x, y, c)
        make_way(S, c)  # first, for it moves records
        measured, n = shift_counts(S, P, c, s, fx, fy, 1, P.min_samples, not crowded, S.changed, 0)
        push_record(S, c, fx, fy, measured + 1, s)
        link_point(S, p, s)
        if crowded:
            index_site(S, s)
        if crowded or measured + 1 >= P.min_samples:
            n = turn(S, P, c, S.span[c, END] - 1, 1, S.changed, n)
        count_points(S, c, 1)
    else:
        core = crowded or is_core(S, P, c, find_record(S, c, s))
        link_point(S, p, s)
        if core:
            weigh(S, S.span[c, CORE_ROW], 1)
        count_points(S, c, 1)
        _, n = shift_counts(S, P, c, s, fx, fy, 1, P.min_samples, False, S.changed, 0)
    if S.span[c, POINTS] >= P.crowded_at:
        S.span[c, POINTS] = -S.span[c, POINTS]
        index_sites_of(S, c)
    enqueue(S, p)
    index_id(S, p)
    if n > 0:
        gain(S, P, S.changed, n)


# -------------------------------------------------------------------------------------------------------- a piece


@kernel
def place(S: State, P: Params, x: Any, y: Any, keys: Any, cells: Any, inside: Any, start: int) -> int:
    """The cell of each event of a piece, and where in it the event lies; `keys` is scratch.

    Returns the number of events done: fewer when the strips or the rows for cells at a seam must grow first.
    """
    if start == 0:
        reclaim_idle(S, IDLE + S.meta[LIVE_STRIPS] // 16)
        for i in range(len(x)):
            frame, row, column, fx, fy = locate(P, x[i], y[i])
            keys[i], cells[i] = pack_key(frame, row, column >> 2), column & 3
            inside[i, 0], inside[i, 1] = fx, fy
    for i in range(start, len(x)):
        if S.meta[FREE_STRIP] < 0 or (P.metric == HAVERSINE and S.meta[FREE_SEAM] < 0):
            return i
        look_for_strips(S, keys, i)
        t = obtain_strip(S, P, keys[i])
        cells[i] += 4 * t
        queue_if_idle(S, t)
    return len(x)


@kernel
def has_room(S: State, P: Params) -> bool:
    """Whether the log, the labels, the core rows and the table of sites have room for whatever one event can do."""
    meta = S.meta
    return (
        meta[LOG_LEN] + ROOM <= len(S.log)
        and meta[LIVE_LABELS] + ROOM <= len(S.labels)
        and meta[LIVE_CORES] + ROOM <= len(S.cores)
        and not is_table_full(S.site_table, meta[SITE_USED] + P.crowded_at)
    )


@kernel
def expire_until(S: State, P: Params, horizon: float) -> bool:
    """Expire the points at or before `horizon`. Returns False when an array must grow first."""
    p = oldest(S)
    while p >= 0 and S.points[p].time <= horizon:
        if not has_room(S, P):
            return False
        expire(S, P, p)
        p = oldest(S)
    return True


@kernel
def run(S: State, P: Params, time: Any, x: Any, y: Any, ids: Any, cells: Any, inside: Any, start: int) -> int:
    """Process a piece from event `start` on. Returns the number of events done: fewer when an array must grow first."""
    for i in range(start, len(time)):
        S.clock[0] = max(S.clock[0], time[i])
        if not expire_until(S, P, S.clock[0] - P.window_s) or not has_room(S, P) or needs_block(S, cells[i]):
            return i
        look_ahead(S, P, ids, cells, inside, i)
        arrive(S, P, time[i], x[i], y[i], ids[i], cells[i], inside[i, 0], inside[i, 1])
    return len(time)


@kernel
def run_clock(S: State, P: Params, now: float) -> bool:
    """Move the clock without an event. Returns False when an array must grow first."""
    S.clock[0] = max(S.clock[0], now)
    return expire_until(S, P, S.clock[0] - P.window_s)
