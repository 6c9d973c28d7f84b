"""What a crowd looks like: centre, extent, outline, people, places and hours."""

import math

import msgspec
import numpy as np

from processors.quality import poisson_significance
from streams.stages.crowd_parts import CrowdPart, distance_m

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


def summarise(crowd: CrowdPart, window_points: int, window_area_m2: float) -> ClusterSummary:
    """The summary of a crowd.

    ``radius_m`` is the root mean square distance from the centre. The significance is against a Poisson background that
    spreads the window's points evenly over ``window_area_m2``. O(corners and items).
    """
    lat, lon = crowd.centre
    area_m2 = math.pi * max(1.0, *(distance_m(*corner, lat, lon) for corner in crowd.hull)) ** 2
    expected = max(window_points * min(area_m2 / max(window_area_m2, area_m2), 1.0), 1e-9)
    top = np.lexsort((crowd.items, -crowd.item_counts))[:TOP_ITEMS]
    return ClusterSummary(
        lat=lat,
        lon=lon,
        radius_m=math.sqrt(crowd.spread_m2 / crowd.count),
        count=crowd.count,
        distinct_users=crowd.distinct_users,
        hull=crowd.hull[:: -(-len(crowd.hull) // MAX_HULL)],
        items=[(int(crowd.items[at]), int(crowd.item_counts[at])) for at in top],
        hour_of_week=crowd.hours.tolist(),
        significance=poisson_significance(crowd.count, expected),
    )
