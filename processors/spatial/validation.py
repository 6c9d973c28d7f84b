"""What `SlidingDBSCAN` accepts: everything is checked before the first change, so an error leaves the state as it was."""

from __future__ import annotations

import math
import sys
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from processors.spatial.geometry import CELL_LIMIT, METRICS, SPHERE_EPS_M
from processors.spatial.hash_tables import find_id, home_of
from processors.spatial.kernel import kernel
from processors.spatial.layout import State
from processors.spatial.prefetch import prefetch

Metric = Literal["haversine", "euclidean"]
Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
LATEST_S = sys.float_info.max
LARGEST_ID = np.iinfo(np.int64).max
AHEAD = 8  # events between asking for a part of the id table and for the point it names


class DBSCANSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a :class:`SlidingDBSCAN`, checked on construction."""

    eps_m: float
    min_samples: int
    window_s: float
    metric: Metric = "haversine"
    min_cluster_size: int = 1

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ValueError(f"metric must be 'haversine' or 'euclidean', not {self.metric!r}")
        if not (math.isfinite(self.eps_m) and self.eps_m > 0):
            raise ValueError(f"eps_m must be a positive number, not {self.eps_m!r}")
        low, high = SPHERE_EPS_M
        if self.metric == "haversine" and not low <= self.eps_m <= high:
            raise ValueError(f"eps_m must lie between {low:g} and {high:g} m on the sphere, not {self.eps_m!r}")
        if not (math.isfinite(self.window_s) and self.window_s > 0):
            raise ValueError(f"window_s must be a positive number, not {self.window_s!r}")
        for name in ("min_samples", "min_cluster_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 1 <= value < 1 << 30:
                raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")


def column(name: str, values: ArrayLike, dtype: Any, length: int | None) -> NDArray[Any]:
    """A contiguous one-dimensional column of `length` values."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, not of shape {array.shape}")
    if length is not None and len(array) != length:
        raise ValueError(f"{name} must have as many values as time_s: {length}, not {len(array)}")
    if array.dtype != dtype and len(array):
        if dtype is np.int64 and array.dtype.kind not in "iu":
            raise TypeError(f"{name} must hold integers, not {array.dtype}")
        if array.dtype.kind in "mM":  # their unit would be lost: nanoseconds would pass for seconds
            raise TypeError(f"{name} must hold numbers, not {array.dtype}")
        if dtype is np.int64 and array.dtype == np.uint64 and array.max() > LARGEST_ID:
            raise ValueError(f"{name} must fit int64, not {array.max()}")
    return np.ascontiguousarray(array, dtype)


def check_finite(name: str, values: Floats) -> None:
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite: value {int(np.argmin(np.isfinite(values)))} is not")


def check_within(name: str, values: Floats, limit: float) -> None:
    """All values lie in [-limit, limit]."""
    if count_outside(values, limit) > 0:
        check_finite(name, values)
        worst = float(values[np.argmax(np.abs(values))])
        raise ValueError(f"{name} must lie between {-limit:g} and {limit:g}, not {worst!r}")


@kernel
def count_outside(values: Any, limit: float) -> int:
    outside = 0
    for value in values:
        outside += 0 if abs(value) <= limit else 1
    return outside


def position_limits(metric: str, side: float) -> tuple[float, float]:
    """The largest absolute lat and lon."""
    return (90.0, 180.0) if metric == "haversine" else (side * (CELL_LIMIT - 4),) * 2


@kernel
def is_plain(time_s: Any, lat: Any, lon: Any, ids: Any, oldest_s: float, lat_limit: float, lon_limit: float) -> bool:
    """Whether every value passes its check, the events are in order of time and their ids ascend, as those of most batches.

    One pass over the batch takes the place of the checks below, which say what is wrong.
    """
    n = len(time_s)
    if n == 0 or not time_s[0] > oldest_s or not time_s[n - 1] <= LATEST_S:
        return False
    bad = 0
    for i in range(n):
        bad += 0 if (abs(lat[i]) <= lat_limit) & (abs(lon[i]) <= lon_limit) else 1
    for i in range(1, n):
        bad += 0 if (time_s[i] >= time_s[i - 1]) & (ids[i] > ids[i - 1]) else 1
    return bad == 0


def check_positions(lat: Floats, lon: Floats, limits: tuple[float, float]) -> None:
    check_within("lat", lat, limits[0])
    check_within("lon", lon, limits[1])


def check_times(time_s: Floats, now_s: float, window_s: float) -> None:
    check_within("time_s", time_s, LATEST_S)
    if len(time_s) and time_s.min() <= now_s - window_s:
        raise ValueError(
            f"time_s must lie within the live window, after {now_s - window_s!r}, not {float(time_s.min())!r}"
        )


def check_distinct(time_s: Floats, ids: Ids, now_s: float, window_s: float) -> None:
    """No id comes twice while the first is live; time_s is ascending."""
    ordered = np.sort(ids)
    if len(ids) > 1 and (ordered[1:] == ordered[:-1]).any():
        by_id = np.lexsort((np.arange(len(ids)), ids))
        same = ids[by_id[1:]] == ids[by_id[:-1]]
        live = time_s[by_id[:-1]] > np.maximum(time_s[by_id[1:]], now_s) - window_s
        if (same & live).any():
            raise ValueError(f"ids must be distinct while live: {int(ids[by_id[1:]][same & live][0])} occurs twice")


def check_new(state: State, time_s: Floats, ids: Ids, now_s: float, window_s: float) -> None:
    """No id is that of a point in the window that is live when the event arrives; time_s is ascending."""
    at = first_live_id(state, time_s, ids, now_s, window_s)
    if at >= 0:
        raise ValueError(f"ids must be distinct while live: {int(ids[at])} is in the window already")


@kernel
def first_live_id(S: State, time_s: Any, ids: Any, now_s: float, window_s: float) -> int:
    """The first event whose id is still in the window when it arrives, or -1."""
    for i in range(len(ids)):
        if i + 2 * AHEAD < len(ids):
            prefetch(S.id_table, home_of(S.id_table, ids[i + 2 * AHEAD]))
        if i + AHEAD < len(ids):
            prefetch(S.points, S.id_table[home_of(S.id_table, ids[i + AHEAD])])
        p = find_id(S, ids[i])
        if p >= 0 and S.points[p].time > max(time_s[i], now_s) - window_s:
            return i
    return -1
