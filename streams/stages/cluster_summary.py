"""What a crowd looks like: centre, extent, outline, people, places and hours."""

import math
from collections.abc import Mapping

import msgspec
import numpy as np
from scipy.spatial import ConvexHull, QhullError

from processors.quality import poisson_significance
from processors.spatial import EARTH_RADIUS_M

HOUR_MS, HOURS_PER_WEEK, EPOCH_SHIFT_H = 3_600_000, 168, 72
MAX_HULL = 24
TOP_ITEMS = 10


class ClusterSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One cluster as of now; ``items`` are (code, count), most frequent first; ``significance`` is -log10 p."""

    lat: float
    lon: float
    radius_m: float
    count: int
    distinct_users: int
    hull: list[tuple[float, float]]
    items: list[tuple[int, int]]
    hour_of_week: list[int]
    significance: float


def summarise(points: Mapping[str, np.ndarray], window_points: int, window_area_m2: float) -> ClusterSummary:
    """The summary of a cluster's points (columns user, item, time_ms, lat, lon).

    ``radius_m`` is the root mean square distance from the centre. The significance is against a Poisson background that
    spreads the window's points evenly over ``window_area_m2``. O(points log points).
    """
    lat, lon = points["lat"], points["lon"]
    centre_lat, centre_lon = _centre(lat, lon)
    north_m = np.radians(lat - centre_lat) * EARTH_RADIUS_M
    east_m = (
        np.radians((lon - centre_lon + 180.0) % 360.0 - 180.0) * EARTH_RADIUS_M * math.cos(math.radians(centre_lat))
    )
    radius_m = float(np.sqrt(np.mean(north_m**2 + east_m**2)))
    items, counts = np.unique(points["item"], return_counts=True)
    top = np.lexsort((items, -counts))[:TOP_ITEMS]
    hours = (points["time_ms"] // HOUR_MS + EPOCH_SHIFT_H) % HOURS_PER_WEEK
    area_m2 = math.pi * max(float(np.sqrt(np.max(north_m**2 + east_m**2))), 1.0) ** 2
    expected = max(window_points * min(area_m2 / max(window_area_m2, area_m2), 1.0), 1e-9)
    return ClusterSummary(
        lat=centre_lat,
        lon=centre_lon,
        radius_m=radius_m,
        count=len(lat),
        distinct_users=len(np.unique(points["user"])),
        hull=_hull(lat, lon, north_m, east_m),
        items=[(int(items[at]), int(counts[at])) for at in top],
        hour_of_week=np.bincount(hours, minlength=HOURS_PER_WEEK).tolist(),
        significance=poisson_significance(len(lat), expected),
    )


def _centre(lat: np.ndarray, lon: np.ndarray) -> tuple[float, float]:
    """The mean direction of the points, right across the date line and at the poles."""
    phi, theta = np.radians(lat), np.radians(lon)
    x, y, z = (np.cos(phi) * np.cos(theta)).mean(), (np.cos(phi) * np.sin(theta)).mean(), np.sin(phi).mean()
    return math.degrees(math.atan2(z, math.hypot(x, y))), math.degrees(math.atan2(y, x))


def _hull(lat: np.ndarray, lon: np.ndarray, north_m: np.ndarray, east_m: np.ndarray) -> list[tuple[float, float]]:
    distinct = np.unique(np.stack([north_m, east_m], axis=1).round(1), axis=0, return_index=True)[1]
    if len(distinct) >= 3:
        try:
            outline = ConvexHull(np.stack([north_m, east_m], axis=1)[distinct]).vertices
            distinct = distinct[outline]
        except QhullError:  # all on one line
            distinct = distinct[[0, -1]]
    step = -(-len(distinct) // MAX_HULL)
    return [(float(lat[at]), float(lon[at])) for at in distinct[::step]]
