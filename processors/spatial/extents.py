"""Where the points of a crowd lie, for many crowds in one call: mean direction, spread and outline."""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from processors.spatial.geometry import EARTH_RADIUS_M
from processors.spatial.hull import Floats, Indices, convex_hulls

# Outlines are those of places to a tenth of a metre: what is closer to an edge than that is no corner of its own.
STEPS_PER_M = 10.0


class Extents(NamedTuple):
    """A row for each run of points: ``x``, ``y``, ``z`` are the sums of their unit vectors, ``spread_m2`` is the sum of their
    squared distances from the mean direction.

    ``corners`` are the points at the corners of all runs' convex hulls, one run behind the other, ``n_corners`` of each.
    """

    x: Floats
    y: Floats
    z: Floats
    spread_m2: Floats
    corners: Indices
    n_corners: Indices


def extents(lat: Floats, lon: Floats, start: Indices) -> Extents:
    """The extent of each run of points (degrees), none of them empty and each small beside the Earth.

    ``start`` int64[runs], ascending from 0, are the runs' first points. O(points), and O(c log c) for the c points of a run
    that may be corners. Right across the date line and at the poles.

    >>> one = extents(np.array([0.0, 0.0, 0.002]), np.array([179.999, -179.999, 180.0]), np.array([0]))
    >>> one.corners.tolist(), one.n_corners.tolist(), (one.spread_m2 / 1000).round().tolist()
    ([0, 1, 2], [3], [58.0])
    """
    sums, north_m, east_m = np.empty((4, len(start))), np.empty(len(lat)), np.empty(len(lat))
    _measure(lat, lon, start, sums, north_m, east_m)
    x, y, z, spread_m2 = sums
    return Extents(x, y, z, spread_m2, *convex_hulls(east_m, north_m, start))


def warm_up() -> None:
    """Compile (or load) the kernels."""
    extents(np.zeros(3), np.zeros(3), np.zeros(1, np.int64))


@njit(cache=True)
def _measure(lat, lon, start, sums, north_m, east_m):  # type: ignore[no-untyped-def]
    """Fill the rows x, y, z, spread_m2 of ``sums``, and where each point lies from the centre of its run, rounded."""
    metres = math.radians(1.0) * EARTH_RADIUS_M
    for run in range(len(start)):
        end = start[run + 1] if run + 1 < len(start) else len(lat)
        x = y = z = spread_m2 = 0.0
        for at in range(start[run], end):
            phi, theta = math.radians(lat[at]), math.radians(lon[at])
            flat = math.cos(phi)
            x += flat * math.cos(theta)
            y += flat * math.sin(theta)
            z += math.sin(phi)
        middle = math.atan2(z, math.hypot(x, y))
        middle_lat, middle_lon, narrowing = math.degrees(middle), math.degrees(math.atan2(y, x)), math.cos(middle)
        for at in range(start[run], end):
            east = lon[at] - middle_lon
            if abs(east) > 180.0:
                east -= math.copysign(360.0, east)
            up_m, right_m = (lat[at] - middle_lat) * metres, east * metres * narrowing
            spread_m2 += up_m * up_m + right_m * right_m
            north_m[at] = np.rint(up_m * STEPS_PER_M) / STEPS_PER_M
            east_m[at] = np.rint(right_m * STEPS_PER_M) / STEPS_PER_M
        sums[0, run], sums[1, run], sums[2, run], sums[3, run] = x, y, z, spread_m2
