"""Cells, sites and records: hash look-ups, linking a new cell to its neighbours, and the blocks that hold the records.

The hash tables are open-addressed and hold slots. Nothing is ever deleted from a table: an entry whose slot died or was
reused is recognised by comparing the key, and goes at the next rebuild (see `window.grow`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from processors.spatial.geometry import (
    CELL_LIMIT,
    FIXED_POINT,
    HAVERSINE,
    Params,
    cell_centre,
    distance,
    pack_key,
    relative_error,
    to_cap,
    unpack_key,
    zone_of,
)
from processors.spatial.kernel import kernel
from processors.spatial.layout import (
    BEGIN,
    CELL_USED,
    CROWDED,
    END,
    FREE_CELL,
    FREE_SEAM,
    FREE_SITE,
    ID_USED,
    IDLE_HEAD,
    IDLE_LEN,
    LIVE_CELLS,
    LIVE_RECORDS,
    LIVE_SITES,
    NEAR,
    POINTS,
    POOL_END,
    SEAM,
    SITE_USED,
    State,
)


@kernel
def mix(a: Any) -> Any:
    """A 64-bit mixer (splitmix64's finaliser)."""
    z = np.uint64(a)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64(z ^ (z >> np.uint64(31)))


@kernel
def mix_site(x: float, y: float) -> Any:
    return mix(np.float64(x).view(np.int64) ^ mix(np.float64(y).view(np.int64)))


@kernel
def find_cell(S: State, key: int) -> int:
    table = S.cell_table
    mask = len(table) - 1
    at = mix(key) & mask
    while table[at] >= 0:
        if S.cells[table[at]].key == key:
            return table[at]
        at = (at + 1) & mask
    return -1


@kernel
def index_cell(S: State, c: int) -> None:
    table = S.cell_table
    mask = len(table) - 1
    at = mix(S.cells[c].key) & mask
    while table[at] >= 0:
        at = (at + 1) & mask
    table[at] = c
    S.meta[CELL_USED] += 1


@kernel
def find_id(S: State, point_id: int) -> int:
    """The live point of that id, or -1."""
    table = S.id_table
    mask = len(table) - 1
    at = mix(point_id) & mask
    while table[at] >= 0:
        p = table[at]
        if S.points[p].id == point_id and S.points[p].site >= 0:
            return p
        at = (at + 1) & mask
    return -1


@kernel
def index_id(S: State, p: int) -> None:
    table = S.id_table
    mask = len(table) - 1
    at = mix(S.points[p].id) & mask
    while table[at] >= 0 and S.points[table[at]].site >= 0:
        at = (at + 1) & mask
    if table[at] < 0:
        S.meta[ID_USED] += 1
    table[at] = p


@kernel
def find_site(S: State, x: float, y: float) -> int:
    table = S.site_table
    mask = len(table) - 1
    at = mix_site(x, y) & mask
    while table[at] >= 0:
        s = table[at]
        if S.sites[s].x == x and S.sites[s].y == y and S.sites[s].points > 0:
            return s
        at = (at + 1) & mask
    return -1


@kernel
def index_site(S: State, s: int) -> None:
    table = S.site_table
    mask = len(table) - 1
    at = mix_site(S.sites[s].x, S.sites[s].y) & mask
    while table[at] >= 0 and S.sites[table[at]].points > 0:
        at = (at + 1) & mask
    if table[at] < 0:
        S.meta[SITE_USED] += 1
    table[at] = s


@kernel
def new_site(S: State, x: float, y: float, c: int) -> int:
    s = S.meta[FREE_SITE]
    S.meta[FREE_SITE] = S.sites[s].head
    S.meta[LIVE_SITES] += 1
    S.sites[s].x = x
    S.sites[s].y = y
    S.sites[s].points = 0
    S.sites[s].cell = c
    S.sites[s].head = -1
    S.sites[s].since = -1
    return s


@kernel
def free_site(S: State, s: int) -> None:
    S.sites[s].head = S.meta[FREE_SITE]
    S.meta[FREE_SITE] = s
    S.meta[LIVE_SITES] -= 1


# ---------------------------------------------------------------------------------------------------------- cells


@kernel
def obtain_cell(S: State, P: Params, key: int) -> int:
    """The cell of that key; a new one, linked to its neighbours, if there is none."""
    c = find_cell(S, key)
    if c >= 0:
        return c
    c = S.meta[FREE_CELL]
    cell = S.cells[c]
    S.meta[FREE_CELL] = cell.next
    S.meta[LIVE_CELLS] += 1
    cell.key = key
    cell.edges = cell.cores = cell.core_points = cell.idle = 0
    cell.label = cell.witness = cell.block = cell.order = cell.seam = -1
    S.span[c, :] = 0
    frame, row, column = unpack_key(key)
    cell.zone = -1
    cell.squeeze = 1.0
    cell.error = 1e-5
    cell.centre_y, cell.centre_x = row, column
    if P.metric == HAVERSINE:
        x, y = cell_centre(P, key)
        cell.centre_y, cell.centre_x = int(y * FIXED_POINT), wrap32(int(x * FIXED_POINT))
        width, lat = P.side, (row + 0.5) * P.side
        if frame == 0:
            cell.zone = zone_of(P, row)
            width = 2 * math.pi / P.zone_columns[cell.zone]
        cell.squeeze = (math.cos(lat) * width / P.side) ** 2
        cell.error = relative_error(P.side, width, lat)
    link_near(S, P, c, frame, row, column)
    if P.metric == HAVERSINE and at_seam(P, frame, row, y):
        cell.seam = S.meta[FREE_SEAM]
        S.meta[FREE_SEAM] = S.seam_near[cell.seam, 0]
        S.seam_near[cell.seam, :] = -1
        link_seam(S, P, c, frame, row, x, y)
    index_cell(S, c)
    return c


@kernel
def wrap32(value: int) -> int:
    return ((value + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


@kernel
def link_near(S: State, P: Params, c: int, frame: int, row: int, column: int) -> None:
    """Enter c and its neighbours of the same regular grid into each other's rows."""
    zone = S.cells[c].zone
    for rows in range(-2, 3):
        same = zone < 0 or zone_of(P, row + rows) == zone
        for columns in range(-2, 3):
            o = (rows + 2) * 5 + columns + 2
            S.near[c, o] = -1
            if o == 12:
                S.near[c, o] = c
                continue
            if not same:
                continue
            other = column + columns
            if zone >= 0:
                other = (other + P.zone_columns[zone]) % P.zone_columns[zone]
            if other >= CELL_LIMIT or row + rows >= CELL_LIMIT or other < -CELL_LIMIT or row + rows < -CELL_LIMIT:
                continue
            d = find_cell(S, pack_key(frame, row + rows, other))
            S.near[c, o] = d
            if d >= 0:
                S.near[d, 24 - o] = c


@kernel
def at_seam(P: Params, frame: int, row: int, lat: float) -> bool:
    """Whether a cell can have neighbours on another regular grid."""
    if frame > 0:
        return abs(lat) <= (P.cap_row + 4) * P.side
    return zone_of(P, row - 2) != zone_of(P, row) or zone_of(P, row + 2) != zone_of(P, row)


@kernel
def link_seam(S: State, P: Params, c: int, frame: int, row: int, lon: float, lat: float) -> None:
    """Enter c and its neighbours across a seam into each other's lists."""
    if frame > 0 or max(row, -row - 1) >= P.cap_row - 4:
        cap = frame if frame > 0 else (1 if row >= 0 else 2)
        if frame == 0:
            u, v = to_cap(cap, lon, lat)
            cap_column, cap_row = math.floor(u / P.side), math.floor(v / P.side)
            for rows in range(-4, 5):
                for columns in range(-4, 5):
                    link_if_near(S, P, c, lon, lat, pack_key(cap, cap_row + rows, cap_column + columns))
    main_row = math.floor(lat / P.side)
    for rows in range(-4, 5):
        other_row = main_row + rows
        zone = zone_of(P, other_row)
        if zone < 0 or (frame == 0 and zone == S.cells[c].zone):
            continue
        n = P.zone_columns[zone]
        column = math.floor((lon + math.pi) / (2 * math.pi) * n)
        for columns in range(-5, 6):
            link_if_near(S, P, c, lon, lat, pack_key(0, other_row, (column + columns + n) % n))


@kernel
def link_if_near(S: State, P: Params, c: int, lon: float, lat: float, key: int) -> None:
    d = find_cell(S, key)
    if d < 0 or S.cells[d].seam < 0:
        return
    u, v = cell_centre(P, key)
    if distance(HAVERSINE, lon, lat, u, v) > P.reach:
        return
    append_seam(S, S.cells[c].seam, d)
    append_seam(S, S.cells[d].seam, c)


@kernel
def append_seam(S: State, seam: int, d: int) -> None:
    for o in range(SEAM):
        if S.seam_near[seam, o] < 0:
            S.seam_near[seam, o] = d
            return
    raise AssertionError("a cell at a seam has more neighbours than its list holds")


@kernel
def neighbour(S: State, c: int, o: int) -> int:
    """Neighbour o of cell c: 0 to 24 on its own grid, from 25 on across a seam."""
    if o < NEAR:
        return S.near[c, o]
    return S.seam_near[S.cells[c].seam, o - NEAR]


@kernel
def offset_back(S: State, d: int, c: int, o: int) -> int:
    """The offset at which d holds c, given that c holds d at o."""
    if o < NEAR:
        return 24 - o
    seam = S.cells[d].seam
    for back in range(SEAM):
        if S.seam_near[seam, back] == c:
            return NEAR + back
    raise AssertionError("neighbours across a seam know each other")


@kernel
def free_cell(S: State, c: int) -> None:
    """Unlink an empty cell and give its slot back."""
    cell = S.cells[c]
    for o in range(NEAR):
        d = S.near[c, o]
        if d >= 0 and o != 12:
            S.near[d, 24 - o] = -1
    if cell.seam >= 0:
        for o in range(SEAM):
            d = S.seam_near[cell.seam, o]
            if d >= 0:
                S.seam_near[S.cells[d].seam, offset_back(S, d, c, NEAR + o) - NEAR] = -1
        S.seam_near[cell.seam, 0] = S.meta[FREE_SEAM]
        S.meta[FREE_SEAM] = cell.seam
    cell.key = -1
    cell.next = S.meta[FREE_CELL]
    S.meta[FREE_CELL] = c
    S.meta[LIVE_CELLS] -= 1


@kernel
def queue_idle(S: State, c: int) -> None:
    """Note that c became empty; it is kept for a while, for a cell that was used is likely to be used again."""
    if S.cells[c].idle == 0:
        S.cells[c].idle = 1
        S.idle[(S.meta[IDLE_HEAD] + S.meta[IDLE_LEN]) % len(S.idle)] = c
        S.meta[IDLE_LEN] += 1


@kernel
def reclaim_idle(S: State, keep: int) -> None:
    """Free the cells that are still empty, longest queued first, until `keep` are queued."""
    while S.meta[IDLE_LEN] > keep:
        c = S.idle[S.meta[IDLE_HEAD]]
        S.meta[IDLE_HEAD] = (S.meta[IDLE_HEAD] + 1) % len(S.idle)
        S.meta[IDLE_LEN] -= 1
        S.cells[c].idle = 0
        if S.span[c, POINTS] == 0:
            free_cell(S, c)


# -------------------------------------------------------------------------------------------------------- records


@kernel
def needs_block(S: State, c: int) -> bool:
    """Whether one more record in c takes a block from the pool that the pool may not have."""
    order = S.cells[c].order
    if order >= 0 and S.span[c, END] < S.cells[c].block + (2 << order):
        return False
    grow = order < 0 or S.span[c, END] - S.span[c, BEGIN] > (1 << order)
    return grow and S.free_block[order + 1] < 0 and S.meta[POOL_END] + (2 << (order + 1)) > len(S.record_i)


@kernel
def push_record(S: State, c: int, fx: float, fy: float, count: int, site: int) -> None:
    """Append a record to the block of c; a full block slides down, or moves to one twice as large."""
    cell = S.cells[c]
    order = cell.order
    if order < 0 or S.span[c, END] == cell.block + (2 << order):
        begin, n, old = S.span[c, BEGIN], S.span[c, END] - S.span[c, BEGIN], cell.block
        grow = order < 0 or n > (1 << order)
        if grow:
            cell.order = order + 1
            if S.free_block[order + 1] >= 0:
                cell.block = S.free_block[order + 1]
                S.free_block[order + 1] = S.record_i[cell.block, 0]
            else:
                cell.block = S.meta[POOL_END]
                S.meta[POOL_END] += 2 << (order + 1)
        to = cell.block
        for k in range(n):
            for field in range(4):
                S.record_i[to + k, field] = S.record_i[begin + k, field]
        if grow and order >= 0:
            S.record_i[old, 0] = S.free_block[order]
            S.free_block[order] = old
        S.span[c, BEGIN], S.span[c, END] = to, to + n
    k = S.span[c, END]
    S.record_f[k, 0], S.record_f[k, 1] = fx, fy
    S.record_i[k, 2], S.record_i[k, 3] = count, site
    S.span[c, END] = k + 1
    S.meta[LIVE_RECORDS] += 1


@kernel
def find_record(S: State, c: int, site: int) -> int:
    for k in range(S.span[c, BEGIN], S.span[c, END]):
        if S.record_i[k, 3] == site:
            return k
    raise AssertionError("a live site has a record in its cell")


@kernel
def drop_record(S: State, c: int, k: int) -> None:
    """Remove record k; the oldest takes its place, so that the newest stay at the end."""
    begin = S.span[c, BEGIN]
    if k != begin:
        for field in range(4):
            S.record_i[k, field] = S.record_i[begin, field]
    S.span[c, BEGIN] = begin + 1
    S.meta[LIVE_RECORDS] -= 1
    if S.span[c, END] == begin + 1:
        drop_block(S, c)


@kernel
def drop_block(S: State, c: int) -> None:
    cell = S.cells[c]
    S.record_i[cell.block, 0] = S.free_block[cell.order]
    S.free_block[cell.order] = cell.block
    cell.block = cell.order = -1
    S.span[c, BEGIN] = S.span[c, END] = 0


@kernel
def is_core(S: State, P: Params, c: int, k: int) -> bool:
    """Whether record k of cell c is core; in a crowded cell all are, and their counts are not kept."""
    return S.span[c, CROWDED] == 1 or S.record_i[k, 2] >= P.min_samples
