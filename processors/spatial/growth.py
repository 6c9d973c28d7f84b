"""Growth: before each piece of a batch the arrays are made large enough for it, by a sixteenth and a thousand rows at least."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from processors.spatial.hash_tables import index_id, index_strip, is_table_full
from processors.spatial.kernel import kernel
from processors.spatial.layout import (
    BEGIN,
    END,
    FAR,
    FREE_CORE,
    FREE_LABEL,
    FREE_POINT,
    FREE_SEAM,
    FREE_SITE,
    FREE_STRIP,
    GROWTH,
    GROWTH_ROWS,
    ID_USED,
    IDLE_HEAD,
    IDLE_LEN,
    LATE_LEN,
    LIVE_CORES,
    LIVE_LABELS,
    LIVE_POINTS,
    LIVE_SITES,
    LIVE_STRIPS,
    LOG_LEN,
    NEAR,
    POINTS,
    POOL_END,
    RING_HEAD,
    RING_LEN,
    ROOM,
    SEAM,
    SITE_USED,
    SPARE,
    STRIP_USED,
    TICK,
    State,
    as_bytes,
    changed_bound,
    ends_bound,
    table_size,
)
from processors.spatial.memory import grown, line_full, line_zeros
from processors.spatial.records import copy_record, needs_block
from processors.spatial.sites import index_sites_of

GAPS, SLACK = 1.33, 1.2  # length of the pool per least one: from the first it is laid out anew, with the second
NO_RECORD = np.array([[[np.float32(FAR).view(np.int32)] * 4, [0] * 4, [0] * 4, [-1] * 4]], np.int32)


def make_room(state: State, min_samples: int, events: int) -> State:
    """The state with room for `events` more points and sites, and for their strips in the hash table."""
    meta = state.meta
    if meta[LIVE_POINTS] + events > len(state.points):
        state = grow_points(state, int(meta[LIVE_POINTS]) + events)
    if meta[LIVE_SITES] + events > len(state.sites):
        state = grow_chained(state, "sites", "head", FREE_SITE, int(meta[LIVE_SITES]) + events)
        state = state.replace(changed=np.zeros((changed_bound(min_samples, len(state.sites)), 3), np.int32))
    if meta[RING_LEN] + events > len(state.ring):
        state = grow_ring(state, int(meta[RING_LEN]) + events)
    if meta[LATE_LEN] + events > len(state.late):
        state = state.replace(late=grown(state.late, int((meta[LATE_LEN] + events) * GROWTH)))
    if meta[TICK] > 1 << 30:
        state.cores["tick"] = 0
        meta[TICK] = 1
    return refresh_tables(state, events)


def refresh_tables(state: State, events: int) -> State:
    """Rebuild the hash tables that `events` more entries could fill too much."""
    meta = state.meta
    if is_table_full(state.id_table, meta[ID_USED] + events):
        state = state.replace(id_table=line_full((table_size(int(meta[LIVE_POINTS]) + events),), -1, np.int32))
        index_all_ids(state)
    if is_table_full(state.strip_table, meta[STRIP_USED] + events):
        state = state.replace(strip_table=line_full((table_size(int(meta[LIVE_STRIPS]) + events),), -1, np.int32))
        index_all_strips(state)
    return state


def make_places(state: State) -> State:
    """The state with room for more strips: the kernel that places events had to stop for want of one."""
    if state.meta[FREE_STRIP] < 0:
        return grow_strips(state, len(state.strips) + SPARE)
    return grow_seams(state)


def make_way(state: State, crowded_at: int, cell: int) -> State:
    """The state with room for one more event, which lies in `cell`: the kernel had to stop before it."""
    meta = state.meta
    if meta[LOG_LEN] + ROOM > len(state.log):
        state = state.replace(log=grown(state.log, 2 * len(state.log)))
    if meta[LIVE_LABELS] + ROOM > len(state.labels):
        state = grow_chained(state, "labels", "head", FREE_LABEL, int(meta[LIVE_LABELS]) + ROOM + SPARE)
        state = state.replace(dirty=grown(state.dirty, len(state.labels)))
    if meta[LIVE_CORES] + ROOM > len(state.cores):
        state = grow_cores(state, int(meta[LIVE_CORES]) + ROOM + SPARE)
    if is_table_full(state.site_table, meta[SITE_USED] + crowded_at):
        state = refresh_site_table(state, crowded_at)
    if cell >= 0 and needs_block(state, cell):
        state = grow_pool(state, cell)
    return state


def grow_chained(state: State, name: str, field: str, free: int, needed: int) -> State:
    """Grow a structured array; its new slots are free."""
    old = getattr(state, name)
    size = max(needed, int(len(old) * GROWTH), len(old) + GROWTH_ROWS)
    array = grown(old, size)
    array[field][len(old) :] = np.arange(len(old) + 1, size + 1)
    array[field][-1] = state.meta[free]
    state.meta[free] = len(old)
    return state.replace(**{name: array})


def grow_points(state: State, needed: int) -> State:
    old = len(state.points)
    state = grow_chained(state, "points", "next", FREE_POINT, needed)
    state.points["site"][old:] = -1
    return state


def grow_strips(state: State, needed: int) -> State:
    old = len(state.strips)
    state = grow_chained(state, "strips", "next", FREE_STRIP, needed)
    state.strips["key"][old:] = -1
    size, idle = len(state.strips), unrolled(state.idle, IDLE_HEAD, IDLE_LEN, state)
    return state.replace(
        near=grown(state.near, size),
        span=grown(state.span, 4 * size),
        order=grown(state.order, 4 * size),
        idle=grown(idle, size),
    )


def grow_cores(state: State, needed: int) -> State:
    """Grow the core rows and the queues of a search over them."""
    state = grow_chained(state, "cores", "next", FREE_CORE, needed)
    size = len(state.cores)
    queues = {name: line_zeros((size,), np.int32) for name in ("queue_a", "queue_b")}
    return state.replace(tags=as_bytes(state.cores), **queues)


def grow_seams(state: State) -> State:
    """Rows for a quarter more strips at seams; their free slots are chained through the first row of each four."""
    old = len(state.seam_near) // 4
    size = old + max(16, old // 4)
    near = grown(state.seam_near, 4 * size)
    near[4 * old :: 4, 0] = np.arange(old + 1, size + 1)
    near[4 * (size - 1), 0] = state.meta[FREE_SEAM]
    state.meta[FREE_SEAM] = old
    witness, ends = grown(state.seam_witness, 4 * size), np.zeros(ends_bound(NEAR + SEAM), np.int32)
    return state.replace(seam_near=near, seam_witness=witness, ends=ends)


def unrolled(ring: NDArray[np.int32], head: int, length: int, state: State) -> NDArray[np.int32]:
    """The ring turned so that it begins at 0."""
    ring = np.roll(ring, -int(state.meta[head]))
    state.meta[head] = 0
    return ring[: state.meta[length]]


def grow_ring(state: State, needed: int) -> State:
    ring = unrolled(state.ring, RING_HEAD, RING_LEN, state)
    return state.replace(ring=grown(ring, 1 << needed.bit_length()))


def grow_pool(state: State, cell: int) -> State:
    """A pool that is a sixteenth larger and has room for `cell` to grow; laid out anew if a quarter is gaps."""
    counts = state.span[:, END] - state.span[:, BEGIN]
    room = 2 * int(counts[cell]) + 64
    needed = int((1 << np.ceil(np.log2(np.maximum(counts[counts > 0], 4))).astype(np.int64)).sum()) >> 2
    if len(state.record_i) < GAPS * needed:
        lines = len(state.record_i)
        records = grown(state.record_i, max(int(lines * GROWTH), lines + GROWTH_ROWS // 4) + room)
    else:
        records = line_zeros((int(needed * SLACK) + room, 4, 4), np.int32)
        repack(state, records)
    return state.replace(record_i=records, record_f=records.view(np.float32))


@kernel
def repack(S: State, records: NDArray[np.int32]) -> None:
    """Move every block to `records`, each as small as holds its records, the largest first so that there are no gaps."""
    S.free_block[:] = -1
    largest = 0
    for c in range(len(S.span)):
        if S.span[c, END] > S.span[c, BEGIN]:
            S.order[c] = least_order(S.span[c, END] - S.span[c, BEGIN])
            largest = max(largest, S.order[c])
    pool = 0
    for order in range(largest, -1, -1):
        for c in range(len(S.span)):
            n = S.span[c, END] - S.span[c, BEGIN]
            if n == 0 or S.order[c] != order:
                continue
            for k in range(n):
                copy_record(S.record_i, S.span[c, BEGIN] + k, records, pool + k)
            for k in range(n, (n + 3) & ~3):
                copy_record(NO_RECORD, 0, records, pool + k)
            S.span[c, BEGIN], S.span[c, END] = pool, pool + n
            pool += 4 << order
    S.meta[POOL_END] = pool


@kernel
def least_order(n: int) -> int:
    order = 0
    while (4 << order) < n:
        order += 1
    return order


@kernel
def index_all_ids(S: State) -> None:
    S.meta[ID_USED] = 0
    for p in range(len(S.points)):
        if S.points[p].site >= 0:
            index_id(S, p)


def refresh_site_table(state: State, crowded_at: int) -> State:
    """A table of the sites in crowded cells, with room for one more such cell."""
    span = state.span[state.span[:, POINTS] < 0]
    entries = int((span[:, END] - span[:, BEGIN]).sum()) + crowded_at + (int(state.meta[LIVE_SITES]) >> 4)
    state = state.replace(site_table=line_full((table_size(entries),), -1, np.int32))
    index_all_sites(state)
    return state


@kernel
def index_all_sites(S: State) -> None:
    S.meta[SITE_USED] = 0
    for c in range(len(S.span)):
        if S.span[c, POINTS] < 0:
            index_sites_of(S, c)


@kernel
def index_all_strips(S: State) -> None:
    S.meta[STRIP_USED] = 0
    for t in range(len(S.strips)):
        if S.strips[t].key >= 0:
            index_strip(S, t)
