"""Growth: before each piece of a batch the arrays are made large enough for it, by at least a quarter at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from processors.spatial.grid import index_cell, index_id, index_site
from processors.spatial.kernel import kernel
from processors.spatial.layout import (
    BEGIN,
    CELL_USED,
    END,
    FREE_CELL,
    FREE_LABEL,
    FREE_POINT,
    FREE_SEAM,
    FREE_SITE,
    FREE_WITNESS,
    GROWTH,
    ID_USED,
    IDLE_HEAD,
    IDLE_LEN,
    LATE_LEN,
    LIVE_CELLS,
    LIVE_POINTS,
    LIVE_SITES,
    LOG_LEN,
    LOG_ROOM,
    POOL_END,
    RING_HEAD,
    RING_LEN,
    SITE_USED,
    TICK,
    State,
    changed_bound,
    table_size,
)


def make_room(state: State, min_samples: int, events: int) -> State:
    """The state with room for `events` more points, sites and cells."""
    meta = state.meta
    if meta[LIVE_POINTS] + events > len(state.points):
        state = grow_points(state, int(meta[LIVE_POINTS]) + events)
    if meta[LIVE_SITES] + events > len(state.sites):
        state = grow_sites(state, min_samples, int(meta[LIVE_SITES]) + events)
    if meta[LIVE_CELLS] + events > len(state.cells):
        state = grow_cells(state, int(meta[LIVE_CELLS]) + events)
    if meta[RING_LEN] + events > len(state.ring):
        state = grow_ring(state, int(meta[RING_LEN]) + events)
    if meta[LATE_LEN] + events > len(state.late):
        late = np.zeros(int((meta[LATE_LEN] + events) * GROWTH), np.int32)
        late[: len(state.late)] = state.late
        state = state.replace(late=late)
    if (meta[ID_USED] + events) * 8 > len(state.id_table) * 5:
        state = state.replace(id_table=np.full(table_size(int(meta[LIVE_POINTS]) + events), -1, np.int32))
        index_all_ids(state)
    if (meta[SITE_USED] + events) * 8 > len(state.site_table) * 5:
        state = state.replace(site_table=np.full(table_size(int(meta[LIVE_SITES]) + events), -1, np.int32))
        index_all_sites(state)
    if (meta[CELL_USED] + events) * 8 > len(state.cell_table) * 5:
        state = state.replace(cell_table=np.full(table_size(int(meta[LIVE_CELLS]) + events), -1, np.int32))
        index_all_cells(state)
    if meta[TICK] > 1 << 30:
        state.cells["tick"] = 0
        meta[TICK] = 1
    return state


def grown(array: NDArray[Any], size: int) -> NDArray[Any]:
    larger = np.zeros((size, *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger


def grow_chained(state: State, name: str, field: str, free: int, needed: int) -> State:
    """Grow a structured array; its new slots are free."""
    old = getattr(state, name)
    size = max(needed, int(len(old) * GROWTH))
    array = grown(old, size)
    array[field][len(old) :] = np.arange(len(old) + 1, size + 1)
    array[field][-1] = state.meta[free]
    state.meta[free] = len(old)
    return state.replace(**{name: array})


def grow_rows(state: State, name: str, free: int, needed: int) -> State:
    """Grow an array of rows that are chained through their first element."""
    old = getattr(state, name)
    size = max(needed, int(len(old) * GROWTH))
    rows = np.full((size, old.shape[1]), -1, np.int32)
    rows[: len(old)] = old
    rows[len(old) :, 0] = np.arange(len(old) + 1, size + 1)
    rows[-1, 0] = state.meta[free]
    state.meta[free] = len(old)
    return state.replace(**{name: rows})


def grow_points(state: State, needed: int) -> State:
    old = len(state.points)
    state = grow_chained(state, "points", "next", FREE_POINT, needed)
    state.points["site"][old:] = -1
    return state


def grow_sites(state: State, min_samples: int, needed: int) -> State:
    state = grow_chained(state, "sites", "head", FREE_SITE, needed)
    return state.replace(changed=np.zeros(changed_bound(min_samples, len(state.sites)), np.int32))


def grow_cells(state: State, needed: int) -> State:
    """Grow the cells and everything of which a cell has at most one."""
    old = len(state.cells)
    state = grow_chained(state, "cells", "next", FREE_CELL, needed)
    state.cells["key"][old:] = -1
    size = len(state.cells)
    state = grow_chained(state, "labels", "head", FREE_LABEL, size + 4)
    state = grow_rows(state, "witness", FREE_WITNESS, size)
    idle = np.zeros(size, np.int32)
    n = int(state.meta[IDLE_LEN])
    idle[:n] = np.roll(state.idle, -int(state.meta[IDLE_HEAD]))[:n]
    state.meta[IDLE_HEAD] = 0
    return state.replace(
        span=grown(state.span, size),
        near=grown(state.near, size),
        idle=idle,
        queue_a=np.zeros(size, np.int32),
        queue_b=np.zeros(size, np.int32),
        dirty=grown(state.dirty, len(state.labels)),
    )


def grow_seams(state: State) -> State:
    rows = len(state.seam_near)
    state = grow_rows(state, "seam_near", FREE_SEAM, rows + 64)
    witness = np.full_like(state.seam_near, -1)
    witness[:rows] = state.seam_witness
    return state.replace(seam_witness=witness)


def grow_ring(state: State, needed: int) -> State:
    n = int(state.meta[RING_LEN])
    ring = np.zeros(1 << needed.bit_length(), np.int32)
    ring[:n] = np.roll(state.ring, -int(state.meta[RING_HEAD]))[:n]
    state.meta[RING_HEAD] = 0
    return state.replace(ring=ring)


def grow_log(state: State) -> State:
    if state.meta[LOG_LEN] + LOG_ROOM <= len(state.log):
        return state
    return state.replace(log=grown(state.log, 2 * len(state.log)))


def grow_pool(state: State, cell: int) -> State:
    """Lay the records out anew without gaps, in a pool with an eighth to spare and room for `cell` to grow."""
    counts = state.span[:, END] - state.span[:, BEGIN]
    compact = int(sum(2 << order for order in np.ceil(np.log2(np.maximum(counts[counts > 0] + 1, 2))).astype(int) - 1))
    size = compact + compact // 8 + 4 * int(counts[cell] + 1) + 256
    records = np.zeros((size, 4), np.int32)
    repack(state, records)
    return state.replace(record_i=records, record_f=records.view(np.float32))


@kernel
def repack(S: State, records: NDArray[np.int32]) -> None:
    """Move every block to `records`, each as small as holds its records and one more."""
    S.free_block[:] = -1
    pool = 0
    for c in range(len(S.cells)):
        n = S.span[c, END] - S.span[c, BEGIN]
        if n == 0:
            continue
        order = 0
        while (2 << order) < n + 1:
            order += 1
        for k in range(n):
            for field in range(4):
                records[pool + k, field] = S.record_i[S.span[c, BEGIN] + k, field]
        S.cells[c].block, S.cells[c].order = pool, order
        S.span[c, BEGIN], S.span[c, END] = pool, pool + n
        pool += 2 << order
    S.meta[POOL_END] = pool


@kernel
def index_all_ids(S: State) -> None:
    S.meta[ID_USED] = 0
    for p in range(len(S.points)):
        if S.points[p].site >= 0:
            index_id(S, p)


@kernel
def index_all_sites(S: State) -> None:
    S.meta[SITE_USED] = 0
    for s in range(len(S.sites)):
        if S.sites[s].points > 0:
            index_site(S, s)


@kernel
def index_all_cells(S: State) -> None:
    S.meta[CELL_USED] = 0
    for c in range(len(S.cells)):
        if S.cells[c].key >= 0:
            index_cell(S, c)
