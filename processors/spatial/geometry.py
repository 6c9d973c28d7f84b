"""The grids: cells of side eps/sqrt(2) in the plane and on the sphere, and the exact distance test of float64 coordinates.

Plane: row = floor(y / side), column = floor(x / side).

Sphere: rows of equal latitude height. Columns of equal longitude width within a *zone* of rows; a new zone begins where
the cells would have become narrower than 0.95 of their height, or after 64 rows if that is later, and always at 0.85, so
that within a zone a 5 x 5 stencil covers everything within eps. The two polar caps have a plane-like grid of their own,
the grid of a sphere turned by 90 degrees, so no cell is near a pole of its own grid. Cells at a *seam* (the border of two
zones, the rim of a cap) keep a list of their neighbours across it and decide every pair in float64. The antimeridian is an
ordinary column boundary.

Two points are within eps when the haversine hav(lat, lon) <= sin(eps / 2R)^2; that is the chord test |u - v| <=
2 sin(eps / 2R) of their unit vectors, squared and divided by four, in the form that loses nothing for close points.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from processors.spatial.kernel import Table, kernel

EARTH_RADIUS_M = 6371008.8
"""Mean radius of the Earth (IUGG), the R of every haversine distance in this package."""

EUCLIDEAN, HAVERSINE = 0, 1
METRICS = {"euclidean": EUCLIDEAN, "haversine": HAVERSINE}
SPHERE_EPS_M = (0.1, 500_000.0)
CELL_LIMIT = 1 << 29  # cells from the origin in any direction

SUB = 8  # sub-cells per side
SHRINK = 1 - 2e-6  # the cell is that much smaller than eps/sqrt(2), which absorbs the rounding of cell borders
FLOAT32_ERROR = 1e-5  # relative, of a squared distance near eps, with coordinates of up to CELL_LIMIT cells
ZONE_SQUEEZE, LEAST_SQUEEZE = 0.95, 0.85  # width per height at which a zone of ZONE_ROWS rows, and any zone, ends
ZONE_ROWS = 64
ZONE_BLOCKS = 256  # of rows, for finding a zone; about as many as there are zones or more
POLAR_LATITUDE = math.radians(84.0)
FIXED_POINT = 2.0**31 / math.pi


@dataclass(frozen=True, eq=False)
class Params(Table):
    """The constants of the kernels."""

    metric: int
    min_samples: int
    crowded_at: int  # points from which a cell stops counting neighbours
    window_s: float
    limit: float  # eps^2, or sin(eps / 2R)^2
    side: float  # height of a row: units of y, or radians
    ratio: float  # (eps / side)^2, chord for arc on the sphere
    cap_row: int  # the first row of a polar cap
    reach: float  # hav of the distance within which the centres of neighbouring cells lie
    zone_row: NDArray[np.int64]  # the first row of each zone, rows counted from the equator
    zone_columns: NDArray[np.int64]
    zone_at: NDArray[np.int64]  # the zone in which each block of 1 << zone_shift rows begins
    zone_shift: int
    candidates: NDArray[np.uint8]  # [sub-cell, :] neighbour offsets that can hold a point within eps
    n_candidates: NDArray[np.int32]
    candidate_bits: NDArray[np.int64]


@functools.lru_cache(maxsize=64)
def make_params(eps_m: float, min_samples: int, window_s: float, metric: str) -> Params:
    """The constants for checked settings."""
    crowded_at = 2 * min_samples
    no_zones = np.zeros(0, np.int64)
    if metric == "euclidean":
        side = eps_m / math.sqrt(2) * SHRINK
        tables = candidate_tables(1.0, (eps_m / side) ** 2 * (1 + 4 * FLOAT32_ERROR))
        return Params(
            EUCLIDEAN,
            min_samples,
            crowded_at,
            window_s,
            eps_m**2,
            side,
            (eps_m / side) ** 2,
            0,
            0.0,
            no_zones,
            no_zones,
            no_zones,
            0,
            *tables,
        )
    half_angle = eps_m / EARTH_RADIUS_M * 0.5
    chord = 2 * math.sin(half_angle)
    side = chord / math.sqrt(2) * SHRINK
    cap_row = math.ceil(min(POLAR_LATITUDE, math.atan(0.2 / side)) / side)
    zone_row, zone_columns, squeeze, error = zones(side, cap_row)
    zone_shift = max(0, cap_row.bit_length() - ZONE_BLOCKS.bit_length() + 1)
    block_row = np.arange((cap_row >> zone_shift) + 1) << zone_shift
    ratio = (chord / side) ** 2
    tables = candidate_tables(squeeze, ratio * (1 + error))
    return Params(
        HAVERSINE,
        min_samples,
        crowded_at,
        window_s,
        math.sin(half_angle) ** 2,
        side,
        ratio,
        cap_row,
        math.sin(2.04 * half_angle) ** 2,
        zone_row,
        zone_columns,
        np.searchsorted(zone_row, block_row, "right") - 1,
        zone_shift,
        *tables,
    )


def zones(side: float, cap_row: int) -> tuple[NDArray[np.int64], NDArray[np.int64], float, float]:
    """(first row, columns) of each zone, and over all of them the narrowest squeeze and the largest error bound."""
    first, columns, narrowest, worst = [0], [columns_around(side, 0)], 1.0, 0.0
    row = 0
    while row < cap_row:
        widest = math.cos(first[-1] * side)
        last = max(int(math.acos(ZONE_SQUEEZE * widest) / side), row + ZONE_ROWS)
        last = max(min(last, int(math.acos(LEAST_SQUEEZE * widest) / side), cap_row), row + 1)
        width = 2 * math.pi / columns[-1]
        narrowest = min(narrowest, math.cos(last * side) * width / side)
        worst = max(worst, float(relative_error(side, width, last * side)))
        row = last
        if row < cap_row:
            first.append(row)
            columns.append(columns_around(side, row))
    return np.array(first, np.int64), np.array(columns, np.int64), narrowest, worst


def columns_around(side: float, row: int) -> int:
    """Cells around the sphere, whole strips of four, none wider at latitude row * side than `side`."""
    return 4 * math.ceil(2 * math.pi * math.cos(row * side) / side / 4)


@kernel
def relative_error(side: float, width: float, lat: float) -> float:
    """Bound on |d2 / true d2 - 1| of a squared cell distance around latitude `lat`: flat cells, one cosine per row."""
    bend = 3.2 * side * abs(math.tan(lat)) + 6 * side * side + 0.75 * width * width
    return 1.05 * bend + FLOAT32_ERROR


def candidate_tables(squeeze: float, ratio: float) -> tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.int64]]:
    """For each sub-cell the neighbour offsets (0 to 24) that can hold a point within eps; also as bits without itself."""
    candidates = np.zeros((SUB * SUB, 25), np.uint8)
    count = np.zeros(SUB * SUB, np.int32)
    bits = np.zeros(SUB * SUB, np.int64)
    for sub in range(SUB * SUB):
        sub_y, sub_x = divmod(sub, SUB)
        for offset in range(25):
            rows, columns = offset // 5 - 2, offset % 5 - 2
            dy = max(0.0, rows - (sub_y + 1) / SUB, sub_y / SUB - rows - 1)
            dx = squeeze * max(0.0, columns - (sub_x + 1) / SUB, sub_x / SUB - columns - 1)
            if dx * dx + dy * dy <= ratio + 1e-4:
                candidates[sub, count[sub]] = offset
                count[sub] += 1
                bits[sub] |= (1 << offset) if offset != 12 else 0
    return candidates, count, bits


@kernel
def sub_cell(fx: float, fy: float) -> int:
    return min(int(fy * SUB), SUB - 1) * SUB + min(int(fx * SUB), SUB - 1)


@kernel
def pack_key(frame: int, row: int, strip: int) -> int:
    """One int64 per strip: the frame (0 the main grid, 1 and 2 the northern and southern cap), row and column >> 2."""
    return (frame << 60) | ((row + CELL_LIMIT) << 30) | (strip + CELL_LIMIT)


@kernel
def unpack_key(key: int) -> tuple[int, int, int]:
    mask = (1 << 30) - 1
    return key >> 60, ((key >> 30) & mask) - CELL_LIMIT, (key & mask) - CELL_LIMIT


@kernel
def zone_of(P: Params, row: int) -> int:
    """The zone of a row of the main spherical grid, -1 beyond the caps' rim."""
    row = row if row >= 0 else -row - 1
    if row >= P.cap_row:
        return -1
    zone = P.zone_at[row >> P.zone_shift]
    while zone + 1 < len(P.zone_row) and P.zone_row[zone + 1] <= row:
        zone += 1
    return zone


@kernel
def to_cap(frame: int, lon: float, lat: float) -> tuple[float, float]:
    """Longitude and latitude on the sphere turned so that the pole of `frame` lies at (0, 0)."""
    c = math.cos(lat)
    z = math.sin(lat) if frame == 1 else -math.sin(lat)
    return math.atan2(c * math.sin(lon), z), math.asin(min(1.0, max(-1.0, c * math.cos(lon))))


@kernel
def from_cap(frame: int, lon: float, lat: float) -> tuple[float, float]:
    """The inverse of to_cap."""
    c = math.cos(lat)
    z = c * math.cos(lon)
    return math.atan2(c * math.sin(lon), math.sin(lat)), math.asin(min(1.0, max(-1.0, z if frame == 1 else -z)))


@kernel
def locate(P: Params, x: float, y: float) -> tuple[int, int, int, float, float]:
    """(frame, row, column, x and y within the cell in [0, 1]) of a point; x, y are longitude and latitude in radians."""
    gy = y / P.side
    row = math.floor(gy)
    if P.metric == EUCLIDEAN:
        gx = x / P.side
        column = math.floor(gx)
        return 0, row, column, gx - column, gy - row
    zone = zone_of(P, row)
    if zone < 0:
        frame = 1 if y > 0 else 2
        u, v = to_cap(frame, x, y)
        gx, gy = u / P.side, v / P.side
        row, column = math.floor(gy), math.floor(gx)
        return frame, row, column, gx - column, gy - row
    columns = P.zone_columns[zone]
    gx = (x + math.pi) / (2 * math.pi) * columns
    column = math.floor(gx)
    return 0, row, column - columns if column >= columns else column, gx - column, gy - row


@kernel
def within_cell(P: Params, zone: int, x: float, y: float) -> tuple[float, float]:
    """Where in its cell a point lies, as `locate` found it."""
    if P.metric == HAVERSINE and zone < 0:
        _, _, _, fx, fy = locate(P, x, y)
        return fx, fy
    gy = y / P.side
    gx = x / P.side if zone < 0 else (x + math.pi) / (2 * math.pi) * P.zone_columns[zone]
    return gx - math.floor(gx), gy - math.floor(gy)


@kernel
def cell_centre(P: Params, frame: int, row: int, column: int) -> tuple[float, float]:
    """(longitude, latitude) of the centre of a cell of the sphere."""
    y = (row + 0.5) * P.side
    if frame > 0:
        return from_cap(frame, (column + 0.5) * P.side, y)
    return (column + 0.5) / P.zone_columns[zone_of(P, row)] * 2 * math.pi - math.pi, y


@kernel
def distance(metric: int, x: float, y: float, u: float, v: float) -> float:
    """The quantity compared with Params.limit: the squared distance, or the haversine (the form scikit-learn uses)."""
    if metric == EUCLIDEAN:
        return (x - u) * (x - u) + (y - v) * (y - v)
    sin_lat, sin_lon = math.sin(0.5 * (y - v)), math.sin(0.5 * (x - u))
    return sin_lat * sin_lat + math.cos(y) * math.cos(v) * sin_lon * sin_lon


@kernel
def wrap(difference: int) -> int:
    """A difference of two fixed-point centres the short way round."""
    return ((difference + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)
