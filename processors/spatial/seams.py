"""Seams of the spherical grid: cells at the border of two zones or of a cap list their neighbours on the other grid."""

from __future__ import annotations

import math

from processors.spatial.geometry import HAVERSINE, Params, cell_centre, distance, pack_key, to_cap, zone_of
from processors.spatial.hash_tables import find_strip
from processors.spatial.kernel import kernel
from processors.spatial.layout import SEAM, State
from processors.spatial.neighbours import seam_row


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
