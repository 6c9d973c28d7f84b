"""How a query relates to each remembered event, in buckets: what the model's bias tables are indexed by.

Everything is a comparison (how long ago, same hour, same weekday kind, how far), so a table learned from one user's
events applies to any other's. Buckets are logarithmic where the quantity is a duration or a distance.
"""

import math

import torch
from torch import Tensor

from model_server.sequence_model.memory import DAY_S, History

HOUR_S = 3600.0
AGE_BUCKETS = 24
CLOCK_EDGES_S = tuple(60.0 * m for m in (5, 10, 20, 30, 45, 60, 80, 100, 130, 160, 200, 260, 330, 420, 540))
WEEK_EDGES_S = tuple(60.0 * m for m in (10, 20, 40, 60, 90, 120, 180, 300, 720, 1440, 2160, 2880))
DISTANCE_EDGES_KM = (0.02, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.2, 3.3, 5.0, 7.0, 10.0, 15.0, 25.0)
WAIT_EDGES_S = (0.5 * HOUR_S, 2 * HOUR_S, 6 * HOUR_S)
CLOCK_BUCKETS = len(CLOCK_EDGES_S) + 1
DISTANCE_BUCKETS = len(DISTANCE_EDGES_KM) + 3  # and: the same item, unknown
SAME, UNKNOWN = DISTANCE_BUCKETS - 2, DISTANCE_BUCKETS - 1
WAIT_BUCKETS = len(WAIT_EDGES_S) + 1
FOLLOW_BUCKETS = 10
GAP_BUCKETS = 12
COUNT_BUCKETS = 10

# name -> number of buckets, per (query, remembered event)
STANDING_RELATIONS = {
    "age": 2 * AGE_BUCKETS,
    "context_clock": 2 * CLOCK_BUCKETS + 1,
    "context_week": len(WEEK_EDGES_S) + 2,
    "follows": 2 * FOLLOW_BUCKETS,
    "context_distance": DISTANCE_BUCKETS,
    "distance": DISTANCE_BUCKETS,
}
REQUEST_RELATIONS = {
    "clock": 2 * CLOCK_BUCKETS,
    "week": len(WEEK_EDGES_S) + 1,
    "gap": GAP_BUCKETS * WAIT_BUCKETS,
    "age_at_request": 2 * AGE_BUCKETS,
    "distance_by_wait": DISTANCE_BUCKETS * WAIT_BUCKETS,
}


def relations(history: History, latest: Tensor, query_time_s: Tensor | None) -> dict[str, Tensor]:
    """Bucket numbers [B, n] (int64) of each relation between the queries and their remembered events.

    ``latest`` marks the latest visit of each item (bool[B, n]). Without ``query_time_s`` (float64[B]) only what was known
    at the user's last event is used: nothing here can tell when the next event happens.
    """
    last_s, last_local = history.time_s[:, -1:], history.local_s[:, -1:]
    last_lat, last_lon, last_item = history.lat[:, -1:], history.lon[:, -1:], history.items[:, -1:]
    has_prev = history.has_prev
    age = log_bucket(last_s - history.time_s)
    context = clock_bucket(last_local, history.prev_local_s) + CLOCK_BUCKETS * same_day_kind(
        last_local, history.prev_local_s
    )
    gap_s = history.time_s - history.prev_time_s
    follow = log_bucket(gap_s, 300.0, 7 * DAY_S, FOLLOW_BUCKETS - 1)
    follows = torch.where(has_prev, follow + FOLLOW_BUCKETS * (history.prev_items == last_item), FOLLOW_BUCKETS - 1)
    distance = distance_bucket(last_lat, last_lon, history.lat, history.lon)
    out = {
        "age": age + AGE_BUCKETS * latest,
        "context_clock": torch.where(has_prev, context, 2 * CLOCK_BUCKETS),
        "context_week": torch.where(has_prev, week_bucket(last_s, history.prev_time_s), len(WEEK_EDGES_S) + 1),
        "follows": follows,
        "context_distance": torch.where(
            has_prev, distance_bucket(last_lat, last_lon, history.prev_lat, history.prev_lon), UNKNOWN
        ),
        "distance": torch.where(history.items == last_item, SAME, distance),
    }
    if query_time_s is None:
        return out
    query_s = query_time_s[:, None]
    query_local = query_s + (last_local - last_s)
    wait_s = (query_s - last_s).clamp(min=0)
    wait = wait_bucket(wait_s)
    difference = (torch.log(gap_s.clamp(min=0) + 600) - torch.log(wait_s + 600)).abs().float()
    gap = torch.where(has_prev, (4 * difference).long().clamp(max=GAP_BUCKETS - 2), GAP_BUCKETS - 1)
    out["clock"] = clock_bucket(query_local, history.local_s) + CLOCK_BUCKETS * same_day_kind(
        query_local, history.local_s
    )
    out["week"] = week_bucket(query_s, history.time_s)
    out["gap"] = gap * WAIT_BUCKETS + wait
    out["age_at_request"] = log_bucket(query_s - history.time_s) + AGE_BUCKETS * latest
    out["distance_by_wait"] = out["distance"] * WAIT_BUCKETS + wait
    return out


def log_bucket(seconds: Tensor, low: float = 600.0, high: float = 200 * DAY_S, buckets: int = AGE_BUCKETS) -> Tensor:
    """Bucket of a duration, evenly spaced in its logarithm between ``low`` and ``high`` seconds."""
    scaled = (seconds.clamp(min=low).float().log() - math.log(low)) * ((buckets - 1) / math.log(high / low))
    return scaled.round().clamp(0, buckets - 1).long()


def circular(a: Tensor, b: Tensor, period: float) -> Tensor:
    """The circular difference of two times, in [0, period / 2], float32."""
    z = torch.remainder(a - b, period)
    return torch.minimum(z, period - z).float()


def clock_bucket(a_local_s: Tensor, b_local_s: Tensor) -> Tensor:
    """Bucket of the difference between two times of day."""
    difference = circular(a_local_s, b_local_s, DAY_S)
    return torch.bucketize(difference, _edges(CLOCK_EDGES_S, difference))


def week_bucket(a_s: Tensor, b_s: Tensor) -> Tensor:
    """Bucket of the difference between two times of the week."""
    return torch.bucketize(circular(a_s, b_s, 7 * DAY_S), _edges(WEEK_EDGES_S, a_s))


def same_day_kind(a_local_s: Tensor, b_local_s: Tensor) -> Tensor:
    """Are both on a weekend, or both on a working day?"""
    return is_weekend(a_local_s) == is_weekend(b_local_s)


def is_weekend(local_s: Tensor) -> Tensor:
    """Saturday or Sunday (1970-01-01 was a Thursday)."""
    return torch.remainder(torch.floor(local_s / DAY_S) + 3, 7) >= 5


def hour_of_week_kind(local_s: Tensor) -> Tensor:
    """The hour of the day, 0-23 on working days and 24-47 on weekends."""
    return (torch.remainder(local_s, DAY_S) // HOUR_S).long() + 24 * is_weekend(local_s)


def wait_bucket(wait_s: Tensor) -> Tensor:
    """Bucket of the time since the user's last event."""
    return torch.bucketize(wait_s.float(), _edges(WAIT_EDGES_S, wait_s))


def distance_km(lat_a: Tensor, lon_a: Tensor, lat_b: Tensor, lon_b: Tensor) -> Tensor:
    """Equirectangular distance (below 0.5 % off the great circle within a region), NaN where a place is unknown."""
    degree = 111.19
    east = (lon_a - lon_b) * torch.cos(torch.deg2rad(lat_a))
    return torch.hypot(east, lat_a - lat_b) * degree


def distance_bucket(lat_a: Tensor, lon_a: Tensor, lat_b: Tensor, lon_b: Tensor) -> Tensor:
    """Bucket of a distance; ``UNKNOWN`` where a place is."""
    km = distance_km(lat_a, lon_a, lat_b, lon_b)
    bucket = torch.bucketize(torch.nan_to_num(km), _edges(DISTANCE_EDGES_KM, km))
    return torch.where(torch.isnan(km), UNKNOWN, bucket)


def _edges(edges: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(edges, device=like.device)
