"""Strips of four cells: they are made where points arrive, linked to their neighbours, and freed a while after they are empty."""

from __future__ import annotations

import math

from processors.spatial.geometry import FLOAT32_ERROR, HAVERSINE, Params, pack_key, relative_error, unpack_key, zone_of
from processors.spatial.hash_tables import find_strip, home_of, index_strip
from processors.spatial.kernel import kernel
from processors.spatial.layout import (
    BEGIN,
    CORE_ROW,
    END,
    FREE_SEAM,
    FREE_STRIP,
    IDLE_HEAD,
    IDLE_LEN,
    LIVE_SEAMS,
    LIVE_STRIPS,
    NEAR,
    POINTS,
    SEAM,
    STRIPS,
    State,
)
from processors.spatial.neighbours import neighbour, offset_back, seam_row
from processors.spatial.prefetch import prefetch
from processors.spatial.seams import at_seam, link_seam


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
