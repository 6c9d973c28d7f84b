"""The buckets of ``relations`` for kernels on a CPU: of one pair of times or places at a time, to the same number.

A duration whose logarithm, or a distance, that lies on the edge of two buckets may fall into either.
"""

import math
from typing import Any

import numpy as np
from numba import njit

from model_server.sequence_model import relations as rel
from model_server.sequence_model.memory import DAY_S

F = np.float32
HALF_WEEKS, SATURDAY = 7.0, 5.0
WEEK_S, SECONDS_PER_DEGREE = 7 * DAY_S, 240.0
AGE_LOW_S, AGE_HIGH_S = 600.0, 200 * DAY_S
FOLLOW_LOW_S, FOLLOW_HIGH_S = 300.0, WEEK_S
KM_PER_DEGREE, TO_RADIANS = F(111.19), F(math.pi / 180)
EDGES_KM = np.array(rel.DISTANCE_EDGES_KM, np.float32)
CLOCK_EDGES_S, WEEK_EDGES_S = np.array(rel.CLOCK_EDGES_S, np.float32), np.array(rel.WEEK_EDGES_S, np.float32)
WAIT_EDGES_S = np.array(rel.WAIT_EDGES_S, np.float32)


@njit(cache=True, inline="always")
def log_bucket(seconds: Any, low: Any, high: Any, buckets: Any) -> Any:
    """``relations.log_bucket``."""
    scale = F((buckets - 1) / math.log(high / low))
    return int(min(max(np.rint((math.log(F(max(seconds, low))) - F(math.log(low))) * scale), F(0)), F(buckets - 1)))


@njit(cache=True, inline="always")
def age_bucket(seconds: Any) -> Any:
    """``log_bucket`` as ages are told apart."""
    return log_bucket(seconds, AGE_LOW_S, AGE_HIGH_S, rel.AGE_BUCKETS)


@njit(cache=True, inline="always")
def circular(a: Any, b: Any, period: Any) -> Any:
    """``relations.circular``."""
    z = (a - b) % period
    return F(min(z, period - z))


@njit(cache=True, inline="always")
def local_solar_s(time_s: Any, lon: Any) -> Any:
    """``memory.local_solar_s``."""
    return time_s if math.isnan(lon) else time_s + SECONDS_PER_DEGREE * lon


@njit(cache=True, inline="always")
def is_weekend(local_s: Any) -> Any:
    """``relations.is_weekend``."""
    return (math.floor(local_s / DAY_S) + 3.0) % HALF_WEEKS >= SATURDAY


@njit(cache=True, inline="always")
def hour_of_week_kind(local_s: Any) -> Any:
    """``relations.hour_of_week_kind``."""
    return int((local_s % DAY_S) // rel.HOUR_S) + (24 if is_weekend(local_s) else 0)


@njit(cache=True, inline="always")
def clock_bucket(a_local_s: Any, b_local_s: Any) -> Any:
    """The bucket of two times of day, the later ones for days of one kind."""
    bucket = np.searchsorted(CLOCK_EDGES_S, circular(a_local_s, b_local_s, DAY_S))
    return bucket + (rel.CLOCK_BUCKETS if is_weekend(a_local_s) == is_weekend(b_local_s) else 0)


@njit(cache=True, inline="always")
def week_bucket(a_s: Any, b_s: Any) -> Any:
    """``relations.week_bucket``."""
    return np.searchsorted(WEEK_EDGES_S, circular(a_s, b_s, WEEK_S))


@njit(cache=True, inline="always")
def wait_bucket(wait_s: Any) -> Any:
    """``relations.wait_bucket``."""
    return np.searchsorted(WAIT_EDGES_S, F(wait_s))


@njit(cache=True, inline="always")
def shrink_of(lat: Any) -> Any:
    """The length of a degree of longitude at this latitude, of one at the equator."""
    return math.cos(lat * TO_RADIANS)


@njit(cache=True, inline="always")
def distance_km(lat: Any, lon: Any, shrink: Any, other_lat: Any, other_lon: Any) -> Any:
    """``relations.distance_km``; ``shrink`` is that of ``lat``."""
    east, north = (lon - other_lon) * shrink, lat - other_lat
    return math.sqrt(east * east + north * north) * KM_PER_DEGREE


@njit(cache=True, inline="always")
def distance_bucket(lat: Any, lon: Any, shrink: Any, other_lat: Any, other_lon: Any) -> Any:
    """``relations.distance_bucket``; ``shrink`` is that of ``lat``."""
    km = distance_km(lat, lon, shrink, other_lat, other_lon)
    return rel.UNKNOWN if math.isnan(km) else np.searchsorted(EDGES_KM, km)
