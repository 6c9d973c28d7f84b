"""Strips of cells, sites and records: hash look-ups, linking a new strip to its neighbours, and the blocks that hold the records.

The hash tables are open-addressed and hold slots. Nothing is ever deleted from a table: an entry whose slot died or was
reused is recognised by comparing the key, and goes at the next rebuild (see `growth`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba.cpython.unsafe.numbers import trailing_zeros

from processors.spatial.geometry import (
    FLOAT32_ERROR,
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
from processors.spatial.lanes import equal_lanes, lanes_at
from processors.spatial.layout import (
    BEGIN,
    CORE_ROW,
    COUNT,
    END,
    FAR,
    FREE_SEAM,
    FREE_SITE,
    FREE_STRIP,
    ID_USED,
    IDLE_HEAD,
    IDLE_LEN,
    LIVE_SEAMS,
    LIVE_SITES,
    LIVE_STRIPS,
    NEAR,
    POINTS,
    POOL_END,
    SEAM,
    SITE_OF,
    SITE_USED,
    STRIP_USED,
    STRIPS,
    State,
    X,
    Y,
)
from processors.spatial.prefetch import prefetch


@kernel
def mix(a: Any) -> Any:
    """A 64-bit mixer (splitmix64's finaliser)."""
    z = np.uint64(a)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64(z ^ (z >> np.uint64(31)))


@kernel
def home_of(table: Any, key: int) -> Any:
    """Where the search for a key in a table begins."""
    return mix(key) & (len(table) - 1)


@kernel
def is_table_full(table: Any, used: int) -> bool:
    """Whether so many entries, stale ones included, are too many for the table."""
    return used * 8 > len(table) * 5


@kernel
def mix_site(x: float, y: float) -> Any:
    return mix(np.float64(x).view(np.int64) ^ mix(np.float64(y).view(np.int64)))


@kernel
def find_strip(S: State, key: int) -> int:
    table = S.strip_table
    mask = len(table) - 1
    at = mix(key) & mask
    while table[at] >= 0:
        if S.strips[table[at]].key == key:
            return table[at]
        at = (at + 1) & mask
    return -1


@kernel
def index_strip(S: State, t: int) -> None:
    table = S.strip_table
    mask = len(table) - 1
    at = mix(S.strips[t].key) & mask
    while table[at] >= 0:
        at = (at + 1) & mask
    table[at] = t
    S.meta[STRIP_USED] += 1


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
def find_site(S: State, c: int, fx: Any, fy: Any, x: float, y: float) -> int:
    """The site at (x, y), which is (fx, fy) within cell c, or -1: by hash in a crowded cell, else among its few records."""
    if S.span[c, POINTS] < 0:
        return find_crowded_site(S, x, y)
    for line in range(S.span[c, BEGIN] >> 2, (S.span[c, END] + 3) >> 2):
        found = lanes_at(S.record_f, line, fx, fy)
        while found != 0:
            s = S.record_i[line, SITE_OF, trailing_zeros(found)]
            found &= found - 1
            if S.sites[s].x == x and S.sites[s].y == y:
                return s
    return -1


@kernel
def find_crowded_site(S: State, x: float, y: float) -> int:
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
def index_sites_of(S: State, c: int) -> None:
    """Cell c became crowded: its sites are in the hash table from now on."""
    for k in range(S.span[c, BEGIN], S.span[c, END]):
        s = site_of(S, k)
        if find_crowded_site(S, S.sites[s].x, S.sites[s].y) < 0:
            index_site(S, s)


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
    return s


@kernel
def free_site(S: State, s: int) -> None:
    S.sites[s].head = S.meta[FREE_SITE]
    S.meta[FREE_SITE] = s
    S.meta[LIVE_SITES] -= 1


# --------------------------------------------------------------------------------------------------------- strips

# LINK_OF[part, o]: where the strip of neighbour o of a cell that is that part of its strip stands in a row of `near`; and
# from bit 4 on the part that the neighbour is of it
LINK_OF = np.array(
    [
        [(o // 5) * 3 + ((part + o % 5 - 2) >> 2) + 1 + (((part + o % 5 - 2) & 3) << 4) for o in range(25)]
        for part in range(4)
    ],
    np.uint8,
)


@kernel
def neighbour(S: State, c: int, o: int) -> int:
    """Neighbour o of cell c, -1 if there is none: 0 to 24 on its own grid, from 25 on across a seam."""
    if o < NEAR:
        link = LINK_OF[c & 3, o]
        first = S.near[c >> 2, link & 15]
        return first + (link >> 4) if first >= 0 else -1
    return S.seam_near[seam_row(S, c), o - NEAR]


@kernel
def look_around(S: State, P: Params, c: int, sub: int) -> int:
    """The neighbours of cell c on its grid that hold sites and come near its sub-cell, into S.around; how many they are.

    Without a branch: which cells are empty is beyond what a processor can guess.
    """
    n = 0
    for j in range(P.n_candidates[sub]):
        o = P.candidates[sub, j]
        link = LINK_OF[c & 3, o]
        first = S.near[c >> 2, link & 15]
        d = max(first, 0) + (link >> 4)
        S.around[n, 0], S.around[n, 1] = d, o
        n += int(first >= 0) & int(S.span[d, END] != S.span[d, BEGIN])
    return n


@kernel
def seam_row(S: State, c: int) -> int:
    return 4 * S.strips[c >> 2].seam + (c & 3)


@kernel
def offset_back(S: State, d: int, c: int, o: int) -> int:
    """The offset at which d holds c, given that c holds d at o."""
    if o < NEAR:
        return 24 - o
    row = seam_row(S, d)
    for back in range(SEAM):
        if S.seam_near[row, back] == c:
            return NEAR + back
    raise AssertionError("neighbours across a seam know each other")


@kernel
def obtain_strip(S: State, P: Params, key: int) -> int:
    """The strip of that key; it is made and linked to its neighbours if there is none."""
    t = find_strip(S, key)
    return t if t >= 0 else new_strip(S, P, key)


@kernel
def new_strip(S: State, P: Params, key: int) -> int:
    frame, row, column = unpack_key(key)
    t = S.meta[FREE_STRIP]
    strip = S.strips[t]
    S.meta[FREE_STRIP] = strip.next
    S.meta[LIVE_STRIPS] += 1
    strip.key, strip.idle, strip.zone, strip.seam, strip.squeeze, strip.error = key, 0, -1, -1, 1.0, FLOAT32_ERROR
    for c in range(4 * t, 4 * t + 4):
        S.span[c, BEGIN] = S.span[c, END] = S.span[c, POINTS] = 0
        S.span[c, CORE_ROW] = S.order[c] = -1
    width, lat = P.side, (row + 0.5) * P.side
    if P.metric == HAVERSINE:
        if frame == 0:
            strip.zone = zone_of(P, row)
            width = 2 * math.pi / P.zone_columns[strip.zone]
        strip.squeeze = (math.cos(lat) * width / P.side) ** 2
        strip.error = relative_error(P.side, width, lat)
    link_near(S, P, t, frame, row, column)
    if P.metric == HAVERSINE and at_seam(P, frame, row, column):
        strip.seam = S.meta[FREE_SEAM]
        S.meta[FREE_SEAM] = S.seam_near[4 * strip.seam, 0]
        S.meta[LIVE_SEAMS] += 1
        for c in range(4 * t, 4 * t + 4):
            S.seam_near[seam_row(S, c), :] = -1
        for part in range(4):
            link_seam(S, P, 4 * t + part, frame, row, 4 * column + part)
    index_strip(S, t)
    return t


@kernel
def link_near(S: State, P: Params, t: int, frame: int, row: int, column: int) -> None:
    """Enter strip t and its neighbours of the same regular grid into each other's rows.

    In three passes, so that the cache misses of one do not wait for each other.
    """
    zone, keys, table = S.strips[t].zone, S.keys_around, S.strip_table
    for rows in range(-2, 3):
        same = zone < 0 or zone_of(P, row + rows) == zone
        for columns in range(-1, 2):
            at = (rows + 2) * 3 + columns + 1
            S.near[t, at] = 4 * t if at == 7 else -1
            keys[at] = -1
            if at == 7 or not same:
                continue
            other = column + columns
            if zone >= 0:
                around = P.zone_columns[zone] >> 2
                other = other + around if other < 0 else other - around if other >= around else other
            keys[at] = pack_key(frame, row + rows, other)
            prefetch(table, home_of(table, keys[at]))
    for at in range(STRIPS):
        if keys[at] >= 0:
            prefetch(S.strips, table[home_of(table, keys[at])])
    for at in range(STRIPS):
        u = find_strip(S, keys[at]) if keys[at] >= 0 else -1
        if u >= 0:
            S.near[t, at] = 4 * u
            S.near[u, 14 - at] = 4 * t


@kernel
def free_strip(S: State, t: int) -> None:
    """Unlink an empty strip and give its slot back."""
    strip = S.strips[t]
    for at in range(STRIPS):
        if S.near[t, at] >= 0 and at != 7:
            S.near[S.near[t, at] >> 2, 14 - at] = -1
    if strip.seam >= 0:
        for c in range(4 * t, 4 * t + 4):
            for o in range(SEAM):
                d = neighbour(S, c, NEAR + o)
                if d >= 0:
                    S.seam_near[seam_row(S, d), offset_back(S, d, c, NEAR + o) - NEAR] = -1
        S.seam_near[4 * strip.seam, 0] = S.meta[FREE_SEAM]
        S.meta[FREE_SEAM] = strip.seam
        S.meta[LIVE_SEAMS] -= 1
    strip.key = -1
    strip.next = S.meta[FREE_STRIP]
    S.meta[FREE_STRIP] = t
    S.meta[LIVE_STRIPS] -= 1


@kernel
def is_empty(S: State, t: int) -> bool:
    return (
        S.span[4 * t, POINTS] == 0
        and S.span[4 * t + 1, POINTS] == 0
        and S.span[4 * t + 2, POINTS] == 0
        and S.span[4 * t + 3, POINTS] == 0
    )


@kernel
def queue_if_idle(S: State, t: int) -> None:
    """Note that strip t is empty; it is kept for a while, for one that was used is likely to be used again."""
    if S.strips[t].idle == 0 and is_empty(S, t):
        S.strips[t].idle = 1
        S.idle[(S.meta[IDLE_HEAD] + S.meta[IDLE_LEN]) % len(S.idle)] = t
        S.meta[IDLE_LEN] += 1


@kernel
def reclaim_idle(S: State, keep: int) -> None:
    """Free the strips that are still empty, longest queued first, until `keep` are queued."""
    while S.meta[IDLE_LEN] > keep:
        t = S.idle[S.meta[IDLE_HEAD]]
        S.meta[IDLE_HEAD] = (S.meta[IDLE_HEAD] + 1) % len(S.idle)
        S.meta[IDLE_LEN] -= 1
        S.strips[t].idle = 0
        if is_empty(S, t):
            free_strip(S, t)


# ---------------------------------------------------------------------------------------------------------- seams


@kernel
def at_seam(P: Params, frame: int, row: int, column: int) -> bool:
    """Whether the cells of a strip can have neighbours on another regular grid."""
    if frame > 0:
        nearest = min(
            abs(cell_centre(P, frame, row, 4 * column)[1]),
            abs(cell_centre(P, frame, row, 4 * column + 3)[1]),
        )
        return nearest <= (P.cap_row + 6) * P.side
    return zone_of(P, row - 2) != zone_of(P, row) or zone_of(P, row + 2) != zone_of(P, row)


@kernel
def link_seam(S: State, P: Params, c: int, frame: int, row: int, column: int) -> None:
    """Enter cell c and its neighbours across a seam into each other's lists."""
    lon, lat = cell_centre(P, frame, row, column)
    if frame == 0 and max(row, -row - 1) >= P.cap_row - 4:
        cap = 1 if row >= 0 else 2
        u, v = to_cap(cap, lon, lat)
        cap_column, cap_row = math.floor(u / P.side), math.floor(v / P.side)
        for rows in range(-4, 5):
            for columns in range(-4, 5):
                link_if_near(S, P, c, lon, lat, cap, cap_row + rows, cap_column + columns)
    main_row = math.floor(lat / P.side)
    for rows in range(-4, 5):
        zone = zone_of(P, main_row + rows)
        if zone < 0 or (frame == 0 and zone == S.strips[c >> 2].zone):
            continue
        around = P.zone_columns[zone]
        main_column = math.floor((lon + math.pi) / (2 * math.pi) * around)
        for columns in range(-5, 6):
            link_if_near(S, P, c, lon, lat, 0, main_row + rows, (main_column + columns + around) % around)


@kernel
def link_if_near(S: State, P: Params, c: int, lon: float, lat: float, frame: int, row: int, column: int) -> None:
    t = find_strip(S, pack_key(frame, row, column >> 2))
    if t < 0 or S.strips[t].seam < 0:
        return
    u, v = cell_centre(P, frame, row, column)
    if distance(HAVERSINE, lon, lat, u, v) > P.reach:
        return
    d = 4 * t + (column & 3)
    append_seam(S, seam_row(S, c), d)
    append_seam(S, seam_row(S, d), c)


@kernel
def append_seam(S: State, row: int, d: int) -> None:
    for o in range(SEAM):
        if S.seam_near[row, o] < 0:
            S.seam_near[row, o] = d
            return
    raise AssertionError("a cell at a seam has more neighbours than its list holds")


# -------------------------------------------------------------------------------------------------------- records


@kernel
def site_of(S: State, k: int) -> int:
    return S.record_i[k >> 2, SITE_OF, k & 3]


@kernel
def count_of(S: State, k: int) -> int:
    return S.record_i[k >> 2, COUNT, k & 3]


@kernel
def bury(S: State, k: int) -> None:
    """Place k holds no record."""
    S.record_f[k >> 2, X, k & 3] = FAR
    S.record_i[k >> 2, SITE_OF, k & 3] = -1


@kernel
def fitting(n: int) -> int:
    """The order of the smallest block that n records fill to at most three quarters."""
    order = 0
    while (3 << order) < n:
        order += 1
    return order


@kernel
def is_full(S: State, c: int) -> bool:
    """Whether c has no block, or one without room at its end."""
    return S.order[c] < 0 or S.span[c, END] & ((4 << S.order[c]) - 1) == 0


@kernel
def needs_block(S: State, c: int) -> bool:
    """Whether one more record in c takes a block from the pool that the pool may not have."""
    if not is_full(S, c):
        return False
    order = fitting(S.span[c, END] - S.span[c, BEGIN])
    size = 4 << order
    end = (S.meta[POOL_END] + size - 1 & -size) + size
    return order != S.order[c] and S.free_block[order] < 0 and end > 4 * len(S.record_i)


@kernel
def push_record(S: State, c: int, fx: float, fy: float, count: int, site: int) -> None:
    """Append a record to the block of c, in which `make_way` found room."""
    k = S.span[c, END]
    line, place = k >> 2, k & 3
    if place == 0:
        for other in range(1, 4):
            bury(S, k + other)
    S.record_f[line, X, place], S.record_f[line, Y, place] = fx, fy
    S.record_i[line, COUNT, place], S.record_i[line, SITE_OF, place] = count, site
    S.span[c, END] = k + 1


@kernel
def copy_record(source: Any, k: int, target: Any, to: int) -> None:
    for field in range(4):
        target[to >> 2, field, to & 3] = source[k >> 2, field, k & 3]


@kernel
def make_way(S: State, c: int) -> None:
    """Room for one more record in the block of c: if it is full its records slide down, or move to one that fits."""
    if not is_full(S, c):
        return
    begin, n, order = S.span[c, BEGIN], S.span[c, END] - S.span[c, BEGIN], S.order[c]
    fit = fitting(n)
    old = block_of(S, c)
    to = old if fit == order else take_block(S, fit)
    for k in range(n):
        copy_record(S.record_i, begin + k, S.record_i, to + k)
    for k in range(to + n, to + ((n + 3) & ~3)):
        bury(S, k)
    if fit != order and order >= 0:
        free_block(S, old, order)
    S.order[c] = fit
    S.span[c, BEGIN], S.span[c, END] = to, to + n


@kernel
def block_of(S: State, c: int) -> int:
    """Where the block of c begins, which has one."""
    return S.span[c, BEGIN] & -(4 << max(0, S.order[c]))


@kernel
def take_block(S: State, order: int) -> int:
    """Where a block of 4 << order records begins, with anything in it; what it leaves out of the pool is free."""
    first, size = S.free_block[order], 4 << order
    if first >= 0:
        S.free_block[order] = site_of(S, first)
        return first
    while S.meta[POOL_END] & (size - 1) != 0:
        gap = int(trailing_zeros(S.meta[POOL_END]))
        free_block(S, S.meta[POOL_END], gap - 2)
        S.meta[POOL_END] += 1 << gap
    S.meta[POOL_END] += size
    return S.meta[POOL_END] - size


@kernel
def free_block(S: State, first: int, order: int) -> None:
    S.record_i[first >> 2, SITE_OF, 0] = S.free_block[order]
    S.free_block[order] = first


@kernel
def find_record(S: State, c: int, site: int) -> int:
    for line in range(S.span[c, BEGIN] >> 2, (S.span[c, END] + 3) >> 2):
        found = equal_lanes(S.record_i, line, SITE_OF, site)
        if found != 0:
            return 4 * line + int(trailing_zeros(found))
    raise AssertionError("a live site has a record in its cell")


@kernel
def drop_record(S: State, c: int, k: int) -> None:
    """Remove record k; the oldest takes its place, so that the newest stay at the end."""
    begin, first = S.span[c, BEGIN], block_of(S, c)
    if k != begin:
        copy_record(S.record_i, begin, S.record_i, k)
    bury(S, begin)
    S.span[c, BEGIN] = begin + 1
    if S.span[c, END] == begin + 1:
        free_block(S, first, S.order[c])
        S.order[c] = -1
        S.span[c, BEGIN] = S.span[c, END] = 0


@kernel
def is_core(S: State, P: Params, c: int, k: int) -> bool:
    """Whether record k of cell c is core; in a crowded cell all are, and their counts are not kept."""
    return S.span[c, POINTS] < 0 or count_of(S, k) >= P.min_samples
