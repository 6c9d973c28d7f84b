"""What crowds look like: centre, extent, outline, people, places and hours."""

import math
from collections.abc import Iterator
from typing import TypeVar

import msgspec
import numpy as np

from processors.code_index import Ints
from processors.quality import poisson_significances
from processors.ragged import places_in, starts_of
from streams.stages.crowd_parts import HOURS_PER_WEEK, CrowdParts, offsets_m

T = TypeVar("T")
MAX_HULL = 24
TOP_ITEMS = 10


class ClusterSummary(msgspec.Struct, frozen=True):
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


def summaries(crowds: CrowdParts, window_points: int, window_area_m2: float) -> Iterator[ClusterSummary]:
    """The summary of each crowd.

    ``radius_m`` is the root mean square distance from the centre. The significance is against a Poisson background that
    spreads the window's points evenly over ``window_area_m2``. O(corners and items).
    """
    if not len(crowds):
        return iter(())
    lat, lon = crowds.centres
    area_m2 = math.pi * np.maximum(_reach_m(crowds, lat, lon), 1.0) ** 2
    share = np.minimum(area_m2 / np.maximum(window_area_m2, area_m2), 1.0)
    significance = poisson_significances(crowds.counts.astype(np.float64), np.maximum(window_points * share, 1e-9))
    radius_m = np.sqrt(crowds.spread_m2 / crowds.counts)
    columns = (lat, lon, radius_m, crowds.counts, crowds.distinct_users)
    plain = (column.tolist() for column in columns)
    rows = zip(*plain, _hulls(crowds), _top_items(crowds), _weeks(crowds), significance.tolist(), strict=True)
    return (ClusterSummary(*row) for row in rows)


def _reach_m(crowds: CrowdParts, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    """How far the outermost corner of each crowd is from its centre."""
    centre = np.repeat(lat, crowds.n_corners), np.repeat(lon, crowds.n_corners)
    north_m, east_m = offsets_m(centre, crowds.corner_lat, crowds.corner_lon)
    return np.maximum.reduceat(np.hypot(north_m, east_m), starts_of(crowds.n_corners))


def _hulls(crowds: CrowdParts) -> Iterator[list[tuple[float, float]]]:
    """The outlines, at most ``MAX_HULL`` corners of each."""
    step = -(-crowds.n_corners // MAX_HULL)
    lengths = -(-crowds.n_corners // step)
    within = places_in(np.zeros(len(crowds), np.int64), lengths) * np.repeat(step, lengths)
    at = np.repeat(starts_of(crowds.n_corners), lengths) + within
    return _lists(list(zip(crowds.corner_lat[at].tolist(), crowds.corner_lon[at].tolist(), strict=True)), lengths)


def _top_items(crowds: CrowdParts) -> Iterator[list[tuple[int, int]]]:
    """The most frequent items of each crowd with their counts, the lower code first on a tie."""
    crowd = np.repeat(np.arange(len(crowds)), crowds.n_items)
    order = np.lexsort((crowds.items, -crowds.item_counts, crowd))
    lengths = np.minimum(crowds.n_items, TOP_ITEMS)
    top = order[places_in(starts_of(crowds.n_items), lengths)]
    return _lists(list(zip(crowds.items[top].tolist(), crowds.item_counts[top].tolist(), strict=True)), lengths)


def _weeks(crowds: CrowdParts) -> list[list[int]]:
    """The points of each crowd in each hour of the week."""
    week = np.repeat(np.arange(len(crowds)) * HOURS_PER_WEEK, crowds.n_hours)
    table = np.zeros(len(crowds) * HOURS_PER_WEEK, np.int64)
    table[week + crowds.hours] = crowds.hour_counts
    return table.reshape(-1, HOURS_PER_WEEK).tolist()  # type: ignore[no-any-return]


def _lists(flat: list[T], lengths: Ints) -> Iterator[list[T]]:
    """Consecutive slices of these lengths."""
    start = 0
    for length in lengths.tolist():
        yield flat[start : start + length]
        start += length
