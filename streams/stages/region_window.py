"""The sliding window of the positions that one region partition sees, and what it says of the crowds in it."""

import math
from collections.abc import Mapping

import msgspec
import numpy as np

from processors.ragged import places_in
from processors.spatial import EARTH_RADIUS_M, ClusterChanges, SlidingDBSCAN, TileReport
from streams.stages.crossing import RegionReport
from streams.stages.crowd_counts import Bins, visits_in
from streams.stages.crowd_moves import Whereabouts, whereabouts_of
from streams.stages.crowd_parts import CrowdParts, parts_of
from streams.stages.internal_stage import Rows
from streams.stages.mixing import pair_codes
from streams.stages.packing import pack_arrays, pack_blobs, unpack_arrays, unpack_blobs
from streams.stages.settings import MATERIAL_SHARE, MiningSettings
from streams.stages.tiles import Regions
from streams.stages.window_points import WindowPoints

MS = 1000.0
ORIGIN_SHIFT = 44
OWN, BORDER = 1, 2
SENT = ("label", "points", "cores", "digest", "border", "lat", "lon")


class RegionWindow:
    """The points that a region partition owns and their halo, and the density clusters among them.

    A *part* of a crowd, the points of it that the partition owns, is reported when it is new, a fifth larger or smaller, or more
    than a radius away from where it was; once it has been at a border to another partition, whenever it changed. So what the
    union stage adds up is exact whenever it has reason to look at it.
    """

    def __init__(self, settings: MiningSettings, partition: int) -> None:
        own = settings.region
        self.partition = partition
        self._settings = own
        self._shared = settings.partitions > 1
        self._regions = Regions(own.eps_m, settings.partitions)
        self.dbscan = SlidingDBSCAN(own.eps_m, own.min_samples, own.window_s)
        self.points = WindowPoints()
        self._sent = {name: np.empty(0, np.float64 if name in ("lat", "lon") else np.int64) for name in SENT}
        self._structure: TileReport | None = None
        self._came_from: dict[int, set[int]] = {}

    def __len__(self) -> int:
        return len(self.dbscan)

    @property
    def now_s(self) -> float | None:
        """The window's clock, None before the first event."""
        return self.dbscan.now_s if math.isfinite(self.dbscan.now_s) else None

    def absorb(self, rows: Rows) -> int:
        """Take rows in, in order of time except those that were late; how many had left the window by now."""
        time_s = rows["time_ms"] / MS
        alive = time_s > self.dbscan.now_s - self._settings.window_s
        kept = {name: column[alive] for name, column in rows.items()}
        if len(kept["time_ms"]):
            source = (kept["origin"] << ORIGIN_SHIFT) | kept["origin_offset"]
            numbers = self.points.append(kept | {"source": source, "flags": self._flags(kept["lat"], kept["lon"])})
            self._trace(self.dbscan.update(time_s[alive], kept["lat"], kept["lon"], numbers))
        return int(len(alive) - alive.sum())

    def advance(self, now_ms: int) -> None:
        """Move the clock, whoever's events did."""
        self._trace(self.dbscan.advance(now_ms / MS))

    def _trace(self, changes: ClusterChanges) -> None:
        """Note which of the clusters of the last report each cluster took in, where it is not just itself."""
        came = self._came_from
        for label, parent in changes.split.tolist():
            came[label] = set(came.get(parent, {parent}))
        for label, into in changes.merged.tolist():
            came[into] = came.get(into, {into}) | came.pop(label, {label})

    def _flags(self, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
        """``OWN`` for the partition's own points, ``BORDER`` for those that are within eps of it and of another one."""
        if not self._shared:
            return np.full(len(lat), OWN, np.int64)
        near = self._regions.near(lat, lon, self._settings.eps_m)
        border = near[:, self.partition] & (near.sum(axis=1) > 1)
        return OWN * (self._regions.owners(lat, lon) == self.partition) + BORDER * border

    def report(self, bins: Bins, full: bool = False, moves: bool = False) -> RegionReport:
        """What changed since the last report, or everything, the visits in ``bins``, and who was where. O(points log points)."""
        present, start, members, core, numbers = self.dbscan.clusters()
        self.points.drop_before(int(numbers.min()) if len(numbers) else 2**62)
        size = np.diff(np.append(start, len(members)))
        label = np.repeat(present, size)
        flags = self.points.column("flags", members)
        own, linking = (flags & OWN) > 0, core & ((flags & BORDER) > 0)
        cores = _summed(own & core, start)
        source = self.points.column("source", members) if self._shared else members
        tile = TileReport(self.partition, present, cores, source[linking], label[linking], self._lineage(present))
        now = self._nodes(tile, members, own, start) | {"border": (_summed(linking, start) > 0).astype(np.int64)}
        if self._shared:
            now["digest"] = _summed(pair_codes(source, source) * own, start)
        due = np.full(len(present), full) | self._has_changed(now)
        parts, gone = self._parts(members, own, present[due], start[due], size[due])
        self._remember(now, due)
        changed = full or self._structure is None or tile.to_bytes() != self._structure.to_bytes()
        self._structure = tile
        held = int(np.count_nonzero(self.points.column("flags", numbers) & OWN)) if self._shared else len(numbers)
        counted = own & (bins[0] < bins[1])
        time_ms = self.points.column("time_ms", members[counted])
        visits = visits_in(bins, self._settings.forecasts.bin_s, label[counted], time_ms)
        where = self._whereabouts(members[own], label[own]) if moves else None
        return RegionReport(
            self.partition, held, tile if changed else None, parts, visits, whereabouts=where, gone=gone
        )

    def _parts(
        self, members: np.ndarray, own: np.ndarray, labels: np.ndarray, start: np.ndarray, size: np.ndarray
    ) -> tuple[CrowdParts, np.ndarray]:
        """The own parts of the clusters with these labels, whose members are runs of ``size`` from ``start``; the labels of
        those that have none."""
        mine = places_in(start, size)
        is_own = own[mine]
        cluster = np.repeat(np.arange(len(labels)), size)[is_own]
        some, first = np.unique(cluster, return_index=True)
        parts = parts_of(labels[some], self.points.select(members[mine[is_own]]), first)
        return parts, np.delete(labels, some)

    def _whereabouts(self, members: np.ndarray, label: np.ndarray) -> Whereabouts:
        columns = [self.points.column(name, members) for name in ("user", "time_ms", "source")]
        return whereabouts_of(label, *columns)

    def _lineage(self, present: np.ndarray) -> np.ndarray:
        """Pairs of a label at the last report and one of now that took some of it in."""
        came, self._came_from = self._came_from, {}
        live = set(present.tolist())
        pairs = [(was, label) for label, origins in came.items() if label in live for was in origins if was != label]
        return np.array(sorted(pairs), np.int64).reshape(-1, 2)

    def _nodes(
        self, tile: TileReport, members: np.ndarray, own: np.ndarray, start: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Per local cluster what tells whether its own part has changed."""
        lat, lon = self.points.column("lat", members), self.points.column("lon", members)
        number = _summed(own, start)
        first = lon[start]
        east = lon - np.repeat(first, np.diff(np.append(start, len(own))))
        east -= 360.0 * np.rint(east / 360.0)
        return {
            "label": tile.labels, "points": number, "cores": tile.own_points, "digest": np.zeros_like(number),
            "lat": _summed(lat * own, start) / np.maximum(number, 1),
            "lon": first + _summed(east * own, start) / np.maximum(number, 1),
        }  # fmt: skip

    def _has_changed(self, now: dict[str, np.ndarray]) -> np.ndarray:
        """Whether each local cluster's own part must be told anew; notes in ``now`` which were ever at a border."""
        known = self._sent["label"]
        if not len(known):
            return np.ones(len(now["label"]), np.bool_)
        at = np.minimum(np.searchsorted(known, now["label"]), len(known) - 1)
        sent, new = {name: column[at] for name, column in self._sent.items()}, known[at] != now["label"]
        now["border"] = np.where(new, now["border"], now["border"] | sent["border"])
        resized = np.abs(now["points"] - sent["points"]) >= MATERIAL_SHARE * sent["points"]
        emerged = (now["cores"] >= self._settings.min_samples) != (sent["cores"] >= self._settings.min_samples)
        linked = (now["border"] > 0) & (now["digest"] != sent["digest"])
        north_m = np.radians(now["lat"] - sent["lat"]) * EARTH_RADIUS_M
        east = np.mod(now["lon"] - sent["lon"] + 180.0, 360.0) - 180.0
        east_m = np.radians(east) * EARTH_RADIUS_M * np.cos(np.radians(now["lat"]))
        moved = np.hypot(north_m, east_m) > self._settings.eps_m
        return new | resized | emerged | linked | moved

    def _remember(self, now: Mapping[str, np.ndarray], due: np.ndarray) -> None:
        """What was sent of each local cluster that still is."""
        known = self._sent["label"]
        if not len(known):
            self._sent = dict(now)
            return
        at = np.minimum(np.searchsorted(known, now["label"]), len(known) - 1)
        self._sent = {name: np.where(due, column, self._sent[name][at]) for name, column in now.items()}
        self._sent["border"] = now["border"]

    # -- state

    def to_bytes(self) -> bytes:
        """Everything, for ``load``."""
        structure = b"" if self._structure is None else self._structure.to_bytes()
        return pack_blobs(
            {
                "dbscan": self.dbscan.to_bytes(),
                "points": pack_arrays(self.points.state()),
                "sent": pack_arrays(self._sent),
                "structure": structure,
                "came_from": msgspec.msgpack.encode(self._came_from),
            }
        )

    def load(self, data: bytes) -> None:
        """Become the window of ``to_bytes``."""
        blobs = unpack_blobs(data)
        self.dbscan = SlidingDBSCAN.from_bytes(blobs["dbscan"])
        self.points.load(unpack_arrays(blobs["points"]))
        self._sent = unpack_arrays(blobs["sent"])
        self._structure = TileReport.from_bytes(blobs["structure"]) if blobs["structure"] else None
        self._came_from = msgspec.msgpack.decode(blobs["came_from"], type=dict[int, set[int]])


def _summed(values: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The sums of runs that begin at ``start``."""
    if not len(start):
        return np.empty(0, np.float64 if values.dtype == np.float64 else np.int64)
    return np.add.reduceat(values if values.dtype != np.bool_ else values.astype(np.int64), start)
