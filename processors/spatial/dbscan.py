"""Exact DBSCAN over a sliding window of event time."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from processors.spatial.geometry import make_params
from processors.spatial.growth import index_all_sites, make_places, make_room, make_way, repack
from processors.spatial.layout import LIVE_LABELS, LIVE_POINTS, empty_state, nbytes
from processors.spatial.life import ClusterChanges, take_changes
from processors.spatial.members import member_points
from processors.spatial.saved import SavedWindow, restore, save
from processors.spatial.snapshot import ClusterRuns, cluster_runs, label_sites, points_in_order
from processors.spatial.validation import (
    DBSCANSettings,
    Metric,
    check_distinct,
    check_finite,
    check_new,
    check_positions,
    check_times,
    column,
    is_plain,
    position_limits,
)
from processors.spatial.window import PIECE, place, run, run_clock

__all__ = ["SlidingDBSCAN"]


class SlidingDBSCAN:
    """DBSCAN of the events of the last `window_s` seconds, exact after every event.

    The live window is the half-open (now - window_s, now], now being the latest event time seen. A point with at least
    `min_samples` points within `eps_m` (<=, itself included) is core; core points within `eps_m` of each other share a
    cluster; a point that is not core takes the cluster of its nearest core point within `eps_m` (on a tie the one with
    the lowest id), and is noise without one. These are the core points, the partition and the noise of scikit-learn's
    ``DBSCAN``, with ``eps / EARTH_RADIUS_M`` and radians for ``metric="haversine"``.

    Clusters keep their id while they live: on a merge the older id stays, on a split the side with more core points
    keeps it, and ids are never reused. An in-order stream has the same result however it is cut into batches.

    Args:
        eps_m: the radius in metres (0.1 m to 500 km), or in the unit of the coordinates with ``"euclidean"``.
        min_samples: neighbours that make a point core, itself included.
        window_s: length of the window in seconds of event time.
        metric: ``"haversine"`` for degrees on a sphere of :data:`EARTH_RADIUS_M`; ``"euclidean"``: lat is y, lon is x.
        min_cluster_size: core points from which a cluster is named in the changes.

    Raises:
        ValueError: naming the setting that is out of range.

    An event costs O(min_samples) record visits in each of at most 25 cells, and, when it makes a site in a cell that is
    not crowded, a reading of those cells; a lost edge costs a search of the smaller side it may part. Memory is 170 to
    200 bytes per point from 10,000 points with 20 neighbours on. The method follows incremental DBSCAN (Ester et al.,
    VLDB 1998) on the grid of Gan and Tao (SIGMOD 2015), with the alternating search of DISC (Kim et al., ICDE 2021);
    docs/spatial.md explains it.

    >>> dbscan = SlidingDBSCAN(eps_m=150.0, min_samples=3, window_s=3600.0)
    >>> lat, lon = np.array([48.8583, 48.8584, 48.8585, 48.9]), np.array([2.2944, 2.2945, 2.2946, 2.3])
    >>> dbscan.update(np.arange(4.0), lat, lon, np.arange(4)).born
    array([0])
    >>> dbscan.snapshot()
    (array([0, 1, 2, 3]), array([ 0,  0,  0, -1]), array([ True,  True,  True, False]))
    """

    def __init__(
        self,
        eps_m: float,
        min_samples: int,
        window_s: float,
        metric: Metric = "haversine",
        *,
        min_cluster_size: int = 1,
    ) -> None:
        self.settings = DBSCANSettings(
            eps_m=eps_m, min_samples=min_samples, window_s=window_s, metric=metric, min_cluster_size=min_cluster_size
        )
        self._params = make_params(float(eps_m), int(min_samples), float(window_s), metric)
        self._limits = position_limits(metric, self._params.side)
        self._state = empty_state(int(min_samples))

    def __len__(self) -> int:
        """Number of points in the window."""
        return int(self._state.meta[LIVE_POINTS])

    @property
    def now_s(self) -> float:
        """The latest event time seen; minus infinity before the first event."""
        return float(self._state.clock[0])

    @property
    def n_clusters(self) -> int:
        """Number of clusters, of any size."""
        return int(self._state.meta[LIVE_LABELS])

    @property
    def nbytes(self) -> int:
        """Bytes of memory held by the window."""
        return nbytes(self._state)

    def update(self, time_s: ArrayLike, lat: ArrayLike, lon: ArrayLike, ids: ArrayLike) -> ClusterChanges:
        """Take a batch of events into the window, in order of time, and expire what has left it.

        Args:
            time_s: float64[n], event times in seconds, in any order; none older than the live window.
            lat: float64[n], degrees in [-90, 90], or y.
            lon: float64[n], degrees in [-180, 180], or x.
            ids: int64[n], one per event, different from the id of every point that is live when it arrives.

        Returns:
            What happened to the clusters since the last call.

        Raises:
            ValueError: naming the argument that is at fault; nothing has changed then.
            TypeError: if `ids` are not integers.
        """
        settings, now_s = self.settings, self.now_s
        time = column("time_s", time_s, np.float64, None)
        y, x = column("lat", lat, np.float64, len(time)), column("lon", lon, np.float64, len(time))
        point_ids = column("ids", ids, np.int64, len(time))
        if not is_plain(time, y, x, point_ids, now_s - settings.window_s, *self._limits):
            check_times(time, now_s, settings.window_s)
            check_positions(y, x, self._limits)
            order = np.argsort(time, kind="stable")
            time, y, x, point_ids = time[order], y[order], x[order], point_ids[order]
            check_distinct(time, point_ids, now_s, settings.window_s)
        check_new(self._state, time, point_ids, now_s, settings.window_s)
        if settings.metric == "haversine":
            y, x = np.radians(y), np.radians(x)
        self._ingest(time, x + 0.0, y + 0.0, point_ids)
        return take_changes(self._state, self._params, settings.min_cluster_size)

    def advance(self, time_s: float) -> ClusterChanges:
        """Move the clock to `time_s` without an event, and expire what has left the window.

        A time before `now_s` changes nothing. Raises ValueError if `time_s` is not finite.
        """
        check_finite("time_s", np.array([time_s], np.float64))
        while not run_clock(self._state, self._params, float(time_s)):
            self._state = make_way(self._state, self._params.crowded_at, -1)
        return take_changes(self._state, self._params, self.settings.min_cluster_size)

    def snapshot(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """The live window, oldest point first: (ids int64[n], cluster ids int64[n], is core bool[n]); label -1 is noise.

        O(points), and for each point that is not core a search of its neighbouring cells.
        """
        state = self._state
        points = points_in_order(state)
        slot, core = np.full(len(state.sites), -1, np.int32), np.zeros(len(state.sites), np.bool_)
        label_sites(state, self._params, slot, core)
        site = state.points["site"][points]
        label = np.where(slot >= 0, state.labels["id"][slot], -1)
        return state.points["id"][points], label[site], core[site]

    def clusters(self) -> ClusterRuns:
        """The clusters of the live window and their points, which `snapshot` lists by age. Faster than it if ids are dense.

        >>> dbscan = SlidingDBSCAN(1.0, 2, 60.0, "euclidean")
        >>> _ = dbscan.update(np.arange(5.0), np.array([0.0, 50.0, 9.0, 50.5, 0.5]), np.zeros(5), np.arange(5))
        >>> runs = dbscan.clusters()
        >>> runs.labels.tolist(), runs.start.tolist(), runs.ids.tolist(), runs.window_ids.tolist()
        ([0, 2], [0, 2], [1, 3, 0, 4], [0, 1, 2, 3, 4])
        """
        return cluster_runs(self._state, self._params)

    def positions(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(lat, lon) of the live window, in the order of `snapshot`: degrees, to the rounding, or y and x. O(points)."""
        sites = self._state.sites[self._state.points["site"][self._points_in_order()]]
        if self.settings.metric == "haversine":
            return np.degrees(sites["y"]), np.degrees(sites["x"])
        return sites["y"].copy(), sites["x"].copy()

    def members(self, cluster_id: int) -> NDArray[np.int64]:
        """The ids of a cluster's points, border points included, in no particular order; empty without such a cluster.

        O(points of the cluster and of the cells around it).
        """
        return self._state.points["id"][member_points(self._state, self._params, cluster_id)]

    def to_bytes(self) -> bytes:
        """Settings, window and cluster identities, for `from_bytes`."""
        return msgspec.msgpack.encode(save(self.settings, self._state))

    @classmethod
    def from_bytes(cls, data: bytes) -> SlidingDBSCAN:
        """The object that `to_bytes` saved: same labels, same ids. Raises ValueError if `data` is not from `to_bytes`."""
        try:
            saved = msgspec.msgpack.decode(data, type=SavedWindow)
        except msgspec.DecodeError as error:
            raise ValueError(f"data is not a saved SlidingDBSCAN: {error}") from error
        dbscan = cls(**msgspec.structs.asdict(saved.settings))
        time_s, x, y, ids = saved.columns()
        dbscan._ingest(time_s, x, y, ids)
        restore(saved.identities, dbscan._state)
        return dbscan

    @staticmethod
    def warm_up() -> None:
        """Compile (or load) every kernel, so that no compilation happens in a stream's first batch."""
        for metric in ("euclidean", "haversine"):
            dbscan = SlidingDBSCAN(1000.0, 2, 10.0, metric)  # type: ignore[arg-type]
            time_s, place = np.arange(400.0) / 20, np.arange(400.0) % 7 / 1000
            dbscan.update(time_s, place, place, np.arange(400))
            dbscan.update(time_s[-1:] - 1, place[:1], place[:1], np.array([400]))
            dbscan.advance(25.0)
            dbscan.snapshot()
            dbscan.clusters()
            dbscan.members(0)
            SlidingDBSCAN.from_bytes(dbscan.to_bytes())
            dbscan.advance(1000.0)
            index_all_sites(dbscan._state)
            repack(dbscan._state, np.zeros_like(dbscan._state.record_i))

    def _points_in_order(self) -> NDArray[np.int32]:
        """The slots of the live points, oldest first."""
        return points_in_order(self._state)

    def _ingest(
        self, time_s: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64], ids: NDArray[np.int64]
    ) -> None:
        """Process checked events that are in order of time, x and y in the unit of the grid."""
        for start in range(0, len(time_s), PIECE):
            piece = slice(start, start + PIECE)
            self._ingest_piece(time_s[piece], x[piece], y[piece], ids[piece])

    def _ingest_piece(
        self, time_s: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64], ids: NDArray[np.int64]
    ) -> None:
        n, params = len(time_s), self._params
        keys, cells, inside = np.empty(n, np.int64), np.empty(n, np.int32), np.empty((n, 2), np.float32)
        self._state = make_room(self._state, params.min_samples, n)
        done = place(self._state, params, x, y, keys, cells, inside, 0)
        while done < n:
            self._state = make_places(self._state)
            done = place(self._state, params, x, y, keys, cells, inside, done)
        done = run(self._state, params, time_s, x, y, ids, cells, inside, 0)
        while done < n:
            self._state = make_way(self._state, params.crowded_at, int(cells[done]))
            done = run(self._state, params, time_s, x, y, ids, cells, inside, done)
