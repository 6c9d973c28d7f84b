"""What a cluster looks like: place, extent, outline, people, what they do, when, and how surprising it is."""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from processors.quality import poisson_significance
from processors.spatial.geometry import EARTH_RADIUS_M
from processors.spatial.hull import convex_hull

HOUR_S, HOURS_PER_WEEK = 3600, 168
MONDAY_SHIFT_H = 72  # 1970-01-01 was a Thursday
MAX_HULL = 32
TOP = 10

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


class ClusterSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster as of now. Positions are degrees (or y and x), lengths metres (or the unit of the coordinates)."""

    cluster_id: int
    lat: float
    lon: float
    radius_m: float  # root mean square distance from the centre
    hull: list[tuple[float, float]]  # corners of the convex hull, counter-clockwise, at most MAX_HULL
    count: int
    distinct_users: int
    top_items: list[tuple[int, int]]  # (code, events), most first, the lower code on a tie
    top_categories: list[tuple[int, int]]
    hour_of_week: list[int]  # events per hour, UTC, Monday 0 h first
    significance: float  # -log10 of the chance of so many events in the cluster's cells, see significance_of
    born_s: float
    age_s: float


def centre_of(lat: Floats, lon: Floats, metric: str) -> tuple[float, float]:
    """The mean, on the sphere the mean direction, right across the antimeridian and at the poles.

    >>> [round(v) for v in centre_of(np.array([0.0, 0.0]), np.array([179.0, -179.0]), "haversine")]
    [0, 180]
    """
    if metric == "euclidean":
        return float(lat.mean()), float(lon.mean())
    phi, theta = np.radians(lat), np.radians(lon)
    x, y, z = (np.cos(phi) * np.cos(theta)).mean(), (np.cos(phi) * np.sin(theta)).mean(), np.sin(phi).mean()
    return math.degrees(math.atan2(z, math.hypot(x, y))), math.degrees(math.atan2(y, x))


def offsets_of(lat: Floats, lon: Floats, centre: tuple[float, float], metric: str) -> tuple[Floats, Floats]:
    """(north, east) of the centre: plain differences, or metres in the azimuthal equidistant projection around it."""
    if metric == "euclidean":
        return lat - centre[0], lon - centre[1]
    phi, phi0 = np.radians(lat), math.radians(centre[0])
    turn = np.radians(lon - centre[1])
    north = math.cos(phi0) * np.sin(phi) - math.sin(phi0) * np.cos(phi) * np.cos(turn)
    east = np.cos(phi) * np.sin(turn)
    ahead = math.sin(phi0) * np.sin(phi) + math.cos(phi0) * np.cos(phi) * np.cos(turn)
    length = np.hypot(north, east)
    scale = EARTH_RADIUS_M * np.where(length > 0, np.arctan2(length, ahead) / np.maximum(length, 1e-300), 1.0)
    return north * scale, east * scale


def hull_of(north: Floats, east: Floats) -> NDArray[np.int64]:
    """The points at the corners of the convex hull, counter-clockwise; the ends of a line; at most MAX_HULL of them."""
    corners = convex_hull(east, north)
    return corners[:: -(-len(corners) // MAX_HULL)]


def top_counts(codes: Codes | None) -> list[tuple[int, int]]:
    """The most frequent codes with their counts; negative codes mean 'none'.

    >>> top_counts(np.array([7, 3, 3, 9, -1]))
    [(3, 2), (7, 1), (9, 1)]
    """
    if codes is None:
        return []
    values, counts = np.unique(codes[codes >= 0], return_counts=True)
    order = np.lexsort((values, -counts))[:TOP]
    return [(int(values[at]), int(counts[at])) for at in order]


def hour_profile(time_s: Floats) -> list[int]:
    """Events by hour of the week (UTC, Monday first): 168 counts."""
    hours = (np.floor(time_s / HOUR_S).astype(np.int64) + MONDAY_SHIFT_H) % HOURS_PER_WEEK
    return np.bincount(hours, minlength=HOURS_PER_WEEK).tolist()


def significance_of(count: int, cells: int, window_points: int, window_cells: int) -> float:
    """-log10 of the Poisson chance of at least `count` events in `cells` cells, were the window's events spread evenly.

    Evenly over the cells that hold any event now: where nobody can be (sea, fields) does not make a crowd surprising.
    The cells are those of the cluster itself, chosen because they are full, so small values mean little.
    """
    expected = cells * window_points / max(window_cells, 1)
    return float(poisson_significance(count, expected))
