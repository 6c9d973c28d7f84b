"""Clusters with people in them: summaries of the clusters that changed, within a budget, and privacy."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from processors.spatial.dbscan import SlidingDBSCAN
from processors.spatial.geometry import EUCLIDEAN
from processors.spatial.hash_tables import find_id
from processors.spatial.kernel import kernel
from processors.spatial.layout import POINTS, State
from processors.spatial.life import ClusterChanges
from processors.spatial.members import label_of, member_points
from processors.spatial.summary import (
    ClusterSummary,
    centre_of,
    hour_profile,
    hull_of,
    offsets_of,
    significance_of,
    top_counts,
)
from processors.spatial.validation import column

ALLOWANCE = 1000.0  # points that may be read before any are earned
COLUMNS = ("users", "items", "categories")


class CrowdSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a :class:`CrowdTracker` adds to the settings of its DBSCAN."""

    min_users: int = 5  # a cluster with fewer distinct users is not told
    budget: float = 4.0  # points read for summaries per event taken in

    def __post_init__(self) -> None:
        if self.min_users < 1:
            raise ValueError(f"min_users must be at least 1, not {self.min_users!r}")
        if not self.budget > 0:
            raise ValueError(f"budget must be positive, not {self.budget!r}")


class CrowdChanges(msgspec.Struct, frozen=True):
    """What happened, the clusters that were summarised anew, and the told ones that are now too few people to be told."""

    changes: ClusterChanges
    summaries: list[ClusterSummary]
    withdrawn: list[int]


class CrowdTracker:
    """A :class:`SlidingDBSCAN` whose points carry who, what and which kind, and whose clusters are summarised.

    A summary reads its cluster's points. Clusters that changed wait in line, and at most `budget` points are read per
    event taken in, so the cost per event is bounded whatever the clusters' size; a cluster larger than a batch's budget
    waits until enough is saved. A cluster with fewer than `min_users` distinct users is never summarised; one that was
    told before is reported as withdrawn.

    Args:
        dbscan: the clusterer; nobody else may update it.
        min_users: distinct users from which a cluster is told.
        budget: points read for summaries per event.

    >>> tracker = CrowdTracker(SlidingDBSCAN(100.0, 2, 3600.0), min_users=2)
    >>> lat, lon = np.full(3, 48.8583), np.full(3, 2.2944)
    >>> told = tracker.update(np.arange(3.0), lat, lon, np.arange(3), users=np.array([1, 2, 2]), items=np.array([7, 7, 8]))
    >>> [(s.count, s.distinct_users, s.top_items) for s in told.summaries]
    [(3, 2, [(7, 2), (8, 1)])]
    """

    def __init__(self, dbscan: SlidingDBSCAN, *, min_users: int = 5, budget: float = 4.0) -> None:
        self.settings = CrowdSettings(min_users=min_users, budget=budget)
        self.dbscan = dbscan
        self._columns: dict[str, NDArray[np.int64]] = {name: np.zeros(0, np.int64) for name in COLUMNS}
        self._waiting: dict[int, None] = {}
        self._told: set[int] = set()
        self._credit = ALLOWANCE

    def update(
        self,
        time_s: ArrayLike,
        lat: ArrayLike,
        lon: ArrayLike,
        ids: ArrayLike,
        users: ArrayLike,
        items: ArrayLike | None = None,
        categories: ArrayLike | None = None,
    ) -> CrowdChanges:
        """Take a batch in, as `SlidingDBSCAN.update` does; `users`, `items` and `categories` are int64[n] codes.

        A negative item or category code means 'none'. Raises ValueError naming the argument; nothing has changed then.
        """
        point_ids = np.asarray(ids)
        n = len(point_ids)
        given = dict(zip(COLUMNS, (users, items, categories)))
        checked = {name: column(name, np.full(n, -1) if v is None else v, np.int64, n) for name, v in given.items()}
        changes = self.dbscan.update(time_s, lat, lon, ids)
        slots = np.empty(n, np.int32)
        find_slots(self.dbscan._state, np.ascontiguousarray(point_ids, np.int64), slots)
        self._store(slots, checked)
        self._credit = min(self._credit + self.settings.budget * n, 2.0 * len(self.dbscan) + ALLOWANCE)
        return self._tell(changes)

    def advance(self, time_s: float) -> CrowdChanges:
        """Move the clock as `SlidingDBSCAN.advance` does."""
        return self._tell(self.dbscan.advance(time_s))

    def summary(self, cluster_id: int) -> ClusterSummary | None:
        """A cluster as of now, whatever the budget; None if it is not live or has too few users. O(its points)."""
        dbscan = self.dbscan
        state, params = dbscan._state, dbscan._params
        slots = member_points(state, params, cluster_id)
        if len(slots) == 0:
            return None
        users = len(np.unique(self._columns["users"][slots]))
        if users < self.settings.min_users:
            return None
        points, sites = state.points[slots], state.sites[state.points["site"][slots]]
        lat, lon = sites["y"], sites["x"]
        if params.metric != EUCLIDEAN:
            lat, lon = np.degrees(lat), np.degrees(lon)
        centre = centre_of(lat, lon, dbscan.settings.metric)
        north, east = offsets_of(lat, lon, centre, dbscan.settings.metric)
        label = state.labels[label_of(state, cluster_id)]
        occupied = int(np.count_nonzero(state.span[:, POINTS]))
        return ClusterSummary(
            cluster_id=cluster_id,
            lat=centre[0],
            lon=centre[1],
            radius_m=float(np.sqrt(np.mean(north**2 + east**2))),
            hull=[(float(lat[at]), float(lon[at])) for at in hull_of(north, east)],
            count=len(slots),
            distinct_users=users,
            top_items=top_counts(self._columns["items"][slots]),
            top_categories=top_counts(self._columns["categories"][slots]),
            hour_of_week=hour_profile(points["time"]),
            significance=significance_of(len(slots), int(label["cells"]), len(dbscan), occupied),
            born_s=float(label["born_s"]),
            age_s=dbscan.now_s - float(label["born_s"]),
        )

    def to_bytes(self) -> bytes:
        """Everything, for `from_bytes`."""
        slots = self.dbscan._points_in_order()
        return msgspec.msgpack.encode(
            {
                "dbscan": self.dbscan.to_bytes(),
                "settings": self.settings,
                "columns": {name: values[slots].astype("<i8").tobytes() for name, values in self._columns.items()},
                "waiting": list(self._waiting),
                "told": sorted(self._told),
                "credit": self._credit,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> CrowdTracker:
        """The tracker that `to_bytes` saved."""
        saved: dict[str, Any] = msgspec.msgpack.decode(data)
        tracker = cls(SlidingDBSCAN.from_bytes(saved["dbscan"]), **saved["settings"])
        columns = {name: np.frombuffer(values, "<i8") for name, values in saved["columns"].items()}
        tracker._store(tracker.dbscan._points_in_order(), columns)
        tracker._waiting = dict.fromkeys(saved["waiting"])
        tracker._told, tracker._credit = set(saved["told"]), saved["credit"]
        return tracker

    @staticmethod
    def warm_up() -> None:
        """Compile (or load) every kernel, those of `SlidingDBSCAN` included."""
        SlidingDBSCAN.warm_up()
        tracker, zero = CrowdTracker(SlidingDBSCAN(1.0, 1, 1.0), min_users=1), np.zeros(1, np.int64)
        tracker.update(zero, zero, zero, zero, users=zero)

    def _store(self, slots: NDArray[np.int32], columns: dict[str, NDArray[np.int64]]) -> None:
        size = len(self.dbscan._state.points)
        alive = slots >= 0
        for name, values in columns.items():
            if len(self._columns[name]) < size:
                larger = np.full(size, -1, np.int64)
                larger[: len(self._columns[name])] = self._columns[name]
                self._columns[name] = larger
            self._columns[name][slots[alive]] = values[alive]

    def _tell(self, changes: ClusterChanges) -> CrowdChanges:
        gone = changes.died.tolist() + changes.merged[:, 0].tolist()
        for cluster in gone:
            self._waiting.pop(cluster, None)
            self._told.discard(cluster)
        for cluster in changes.live.tolist():
            self._waiting.setdefault(cluster)
        summaries: list[ClusterSummary] = []
        withdrawn: list[int] = []
        while self._waiting:
            cluster = next(iter(self._waiting))
            label = label_of(self.dbscan._state, cluster)
            cost = 64 + int(self.dbscan._state.labels["points"][label]) if label >= 0 else 0
            if cost > self._credit:
                break
            self._credit -= cost
            del self._waiting[cluster]
            summary = self.summary(cluster)
            if summary is not None:
                summaries.append(summary)
                self._told.add(cluster)
            elif cluster in self._told:
                self._told.discard(cluster)
                withdrawn.append(cluster)
        return CrowdChanges(changes, summaries, withdrawn)


@kernel
def find_slots(S: State, ids: NDArray[np.int64], slots: NDArray[np.int32]) -> None:
    """The slot of each live id, -1 for one that is not in the window (any more)."""
    for i in range(len(ids)):
        slots[i] = find_id(S, ids[i])
