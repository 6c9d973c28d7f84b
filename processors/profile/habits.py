"""One user's decayed habits in fixed space: how much, how far, how new, at what hours.

Sums are kept as of the user's latest event. An event that comes late is discounted by its age and changes no clock, so
that the sums are what they would have been in order.
"""

from __future__ import annotations

import math
from typing import Any

import numba as nb
import numpy as np

HABITS = np.dtype(
    [
        ("user", np.int64),
        ("events", np.int64),  # ever
        ("version", np.int64),  # profiles published
        ("first_s", np.float64),
        ("last_s", np.float64),
        ("weight", np.float64),  # decayed weight of all events
        ("count", np.float64),  # decayed number of events
        ("novel", np.float64),  # of these, at items that were new to the user
        ("fresh", np.float64),  # of the weight, what came after the last published profile
        ("located", np.float64),  # decayed number of events with a position
        ("origin", np.float64, (3,)),  # unit vector of the first position; the sums below are relative to it
        ("offset", np.float64, (3,)),
        ("square", np.float64),
        ("hours", np.float32, (48,)),  # decayed number by local hour: weekdays, then weekends
    ]
)
EARTH_RADIUS_M = 6_371_008.8
HOUR_S, DAY_S, EPOCH_WEEKDAY = 3600.0, 86_400.0, 3  # 1970-01-01 was a Thursday


def local_hours(time_s: np.ndarray[Any, Any], utc_offset_s: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    """The local hour of the day (int64, 0 to 23) and whether it is a weekend (bool)."""
    local = time_s + utc_offset_s
    day = np.floor(local / DAY_S)
    return ((local - day * DAY_S) // HOUR_S).astype(np.int64), (day + EPOCH_WEEKDAY) % 7 >= 5


@nb.njit(cache=True)
def absorb_habits(
    habits: Any, row: Any, time_s: Any, weight: Any, novel: Any, lat: Any, lon: Any, hour: Any, half_life_s: float
) -> None:
    """Add events, in their order, to the rows of their users. A position that is NaN is no position."""
    for event in range(len(row)):
        user = habits[row[event]]
        discount = 1.0
        if user.events == 0:
            user.first_s = user.last_s = time_s[event]
        elif time_s[event] >= user.last_s:
            fade = 0.5 ** ((time_s[event] - user.last_s) / half_life_s)
            user.last_s = time_s[event]
            user.weight *= fade
            user.count *= fade
            user.novel *= fade
            user.fresh *= fade
            user.located *= fade
            user.square *= fade
            for axis in range(3):
                user.offset[axis] *= fade
            for slot in range(48):
                user.hours[slot] *= fade
        else:
            discount = 0.5 ** ((user.last_s - time_s[event]) / half_life_s)
            user.first_s = min(user.first_s, time_s[event])
        user.events += 1
        user.weight += discount * weight[event]
        user.fresh += discount * weight[event]
        user.count += discount
        user.novel += discount * novel[event]
        user.hours[hour[event]] += discount
        if not math.isnan(lat[event]):
            _add_position(user, lat[event], lon[event], discount)


@nb.njit(cache=True)
def _add_position(user: Any, lat: float, lon: float, discount: float) -> None:
    phi, theta = math.radians(lat), math.radians(lon)
    point = (math.cos(phi) * math.cos(theta), math.cos(phi) * math.sin(theta), math.sin(phi))
    if user.located == 0.0:
        for axis in range(3):
            user.origin[axis] = point[axis]
    user.located += discount
    for axis in range(3):
        moved = point[axis] - user.origin[axis]
        user.offset[axis] += discount * moved
        user.square += discount * moved * moved


def radius_of_gyration_m(habits: Any) -> np.ndarray[Any, Any]:
    """Root mean square distance of each user's positions to their centre (decayed), float64[n]; NaN without a position.

    Distances are chords through the Earth: 1 % short of the arc at 3,000 km.
    """
    located = np.where(habits["located"] > 0, habits["located"], np.nan)
    mean = habits["offset"] / located[:, None]
    spread = habits["square"] / located - (mean * mean).sum(axis=1)
    return np.asarray(EARTH_RADIUS_M * np.sqrt(np.maximum(spread, 0.0)))


def events_per_day(habits: Any, time_s: np.ndarray[Any, Any], half_life_s: float) -> np.ndarray[Any, Any]:
    """The decayed rates as of ``time_s``: counts over the decayed time since the first event, but at least a day."""
    fade = 0.5 ** (np.maximum(time_s - habits["last_s"], 0.0) / half_life_s)
    age_s = np.maximum(time_s - habits["first_s"], DAY_S)
    lived_s = half_life_s / math.log(2) * -np.expm1(-math.log(2) * age_s / half_life_s)
    return np.asarray(habits["count"] * fade * DAY_S / lived_s)
