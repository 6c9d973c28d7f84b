"""The region stage: where people gather. One partition gets every position, so crowds are exact wherever they are."""

import math
from collections.abc import Mapping

import msgspec
import numpy as np

from processors.quality import PatternBook, best_of
from processors.spatial import ClusterChanges, SlidingDBSCAN
from processors.spatial.covisits import CoVisits
from processors.temporal import ClosedBin
from schemas.patterns import ClusterChange, ClusterUpdate, CoVisit, CoVisitUpdate, NamedCount, Pattern
from streams.stages.cluster_summary import ClusterSummary, summarise
from streams.stages.count_rhythms import CountRhythms
from streams.stages.internal_stage import InternalStage, Rows
from streams.stages.packing import pack_arrays, unpack_arrays
from streams.stages.settings import MiningSettings
from streams.stages.tiles import tile_area_m2
from streams.stages.window_points import WindowPoints

MS = 1000.0
SUMMARISE_EVERY = 0.02


class LiveCluster(msgspec.Struct):
    """What has been said about a cluster: when it was born, what happened since the last message, how it was told."""

    born_at_ms: int
    change: ClusterChange
    related: int | None = None
    published: bool = False
    lat: float = 0.0
    lon: float = 0.0


class RegionStage(InternalStage):
    """The sliding window of positions and its density clusters; a crowd is published once it has enough different people.

    Changes are told when the points since the last summary are ``SUMMARISE_EVERY`` of the window, which bounds the cost of a
    summary per event.
    """

    def __init__(self, settings: MiningSettings, partition: int) -> None:
        own = settings.region
        super().__init__(settings, partition, max_names=own.max_names, in_time_order=True)
        self.dbscan = SlidingDBSCAN(own.eps_m, own.min_samples, own.window_s, min_cluster_size=own.min_samples)
        self.points = WindowPoints()
        self.clusters: dict[int, LiveCluster] = {}
        self.cluster_book, self.covisit_book = PatternBook(own.max_names), PatternBook(own.max_names)
        self.covisits = CoVisits(own.covisit_distance_m, own.covisit_window_s, min_support=own.covisit_min_support)
        self.rhythms = CountRhythms(own.forecasts, "cluster", self._id)
        self._counted_to: int | None = None
        self._paired: set[int] = set()
        self._waiting: set[int] = set()
        self._since_summary = 0
        self._tiles: set[int] = set()

    @property
    def event_time_s(self) -> float | None:
        """The latest event time that was absorbed, None before the first."""
        return self.dbscan.now_s if math.isfinite(self.dbscan.now_s) else None

    def examine(self, budget: int) -> list[Pattern]:
        """Learn from the closed bins of the public clusters; milliseconds for each unit of the budget."""
        return self.rhythms.examine(budget, self.absorbed_offset)

    @property
    def untested(self) -> int:
        """An upper bound of the budget that ``examine`` may find worth it."""
        return self.rhythms.untested

    def sizes(self) -> dict[str, int]:
        """How much is held, by kind. O(clusters)."""
        public = sum(cluster.published for cluster in self.clusters.values())
        return super().sizes() | {"points": len(self.dbscan), "clusters": len(self.clusters), "public_clusters": public}

    def _absorb(self, rows: Rows) -> dict[str, int]:
        time_s = rows["time_ms"] / MS
        # The rows come in order of time, except those that were late: what has left the window by now is not news.
        alive = time_s > self.dbscan.now_s - self.settings.region.window_s
        kept = {name: column[alive] for name, column in rows.items()}
        if not alive.any():
            return {"expired": len(alive)}
        numbers = self.points.append(kept)
        self._tiles.update(np.unique(kept["tile"]).tolist())
        changes = self.dbscan.update(kept["time_ms"] / MS, kept["lat"], kept["lon"], numbers)
        self._note(changes)
        self._since_summary += len(numbers)
        columns = (kept["user"], kept["item"], kept["time_ms"] / MS, kept["lat"], kept["lon"])
        self._paired.update(self.covisits.update(*columns).tolist())
        return {"expired": int(len(alive) - alive.sum())}

    def _note(self, changes: ClusterChanges) -> None:
        now_ms = int(self.dbscan.now_s * MS)
        for cluster in changes.born.tolist():
            self.clusters[cluster] = LiveCluster(now_ms, "born")
        for cluster, parent in changes.split.tolist():
            self.clusters[cluster] = LiveCluster(now_ms, "split", parent)
        for cluster, into in changes.merged.tolist():
            self._tell(cluster, "merged", into)
            self._tell(into, "grown")
        for change, ids in (("moved", changes.moved), ("grown", changes.grown), ("shrunk", changes.shrunk)):
            for cluster in ids.tolist():
                self._tell(cluster, change)  # type: ignore[arg-type]
        for cluster in changes.died.tolist():
            self._tell(cluster, "died")
        self._waiting.update(changes.born.tolist(), changes.split[:, 0].tolist())

    def _tell(self, cluster: int, change: ClusterChange, related: int | None = None) -> None:
        known = self.clusters.get(cluster)
        if known is not None:
            if known.published or change in ("merged", "died"):
                known.change, known.related = change, related
            self._waiting.add(cluster)

    def _due_patterns(self, version: int) -> list[Pattern]:
        return self._due_clusters(version) + self._due_covisits(version)

    def _due_covisits(self, version: int) -> list[Pattern]:
        paired, self._paired = sorted(self._paired), set()
        return [update for place in paired if (update := self._covisit(place, version)) is not None]

    def _covisit(self, place: int, version: int) -> CoVisitUpdate | None:
        name, now_s = self.names.get(place), self.dbscan.now_s
        found = [(pair, self.names.get(pair.other)) for pair in self.covisits.neighbours(place, now_s)]
        if name is None or not found:
            return None
        return CoVisitUpdate(
            item_id=name, version=version, event_time_ms=int(now_s * MS),
            neighbours=[
                CoVisit(other, pair.support, pair.confidence, pair.lift, pair.participation_index)
                for pair, other in found if other is not None
            ],
            quality=self.covisit_book.record(
                place, time_s=now_s, claim=found[0][0].other, support=sum(pair.support for pair, _ in found),
                significance=best_of(max(pair.significance for pair, _ in found), len(found)),
            ),
        )  # fmt: skip

    def _due_clusters(self, version: int) -> list[Pattern]:
        if not self._waiting or self._since_summary < SUMMARISE_EVERY * len(self.dbscan):
            return []
        self._since_summary = 0
        waiting, self._waiting = sorted(self._waiting), set()
        numbers, labels, _ = self.dbscan.snapshot()
        self.points.drop_before(int(numbers.min()) if len(numbers) else 2**62)
        order = np.argsort(labels, kind="stable")
        starts = np.searchsorted(labels[order], waiting, side="left")
        ends = np.searchsorted(labels[order], waiting, side="right")
        updates: list[Pattern] = []
        for cluster, start, end in zip(waiting, starts.tolist(), ends.tolist(), strict=True):
            update = self._update(cluster, numbers[order[start:end]], version)
            if update is not None:
                updates.append(update)
        self._count_clusters(numbers, labels, labels[order])
        return updates

    def _count_clusters(self, numbers: np.ndarray, labels: np.ndarray, ordered: np.ndarray) -> None:
        """Close the bins of the public clusters that ended since the last summary, as the clusters are now. O(window)."""
        own = self.settings.region
        bin_ms = round(own.forecasts.bin_s * MS)
        end = int(self.dbscan.now_s * MS) // bin_ms
        start = max(self._counted_to if self._counted_to is not None else end, end - int(own.window_s * MS) // bin_ms)
        self._counted_to = end
        if start >= end:
            return
        public = np.array(sorted(cluster for cluster, known in self.clusters.items() if known.published), np.int64)
        sizes = np.searchsorted(ordered, public, side="right") - np.searchsorted(ordered, public, side="left")
        busiest = np.lexsort((public, -sizes))[: own.forecasts.max_keys]
        keys = np.sort(public[busiest[sizes[busiest] >= own.forecasts.min_events]])
        if not len(keys) and not len(self.rhythms):
            return
        at_bin = self.points.select(numbers)["time_ms"] // bin_ms
        counted = (at_bin >= start) & (at_bin < end) & np.isin(labels, keys)
        table = np.zeros((end - start, len(keys)), np.int64)
        np.add.at(table, (at_bin[counted] - start, np.searchsorted(keys, labels[counted])), 1)
        self.rhythms.close(
            ClosedBin((start + at) * own.forecasts.bin_s, keys, counts)
            for at, counts in enumerate(table[: end - start])
        )

    def _update(self, cluster: int, members: np.ndarray, version: int) -> ClusterUpdate | None:
        known = self.clusters.get(cluster)
        if known is None:
            return None
        if known.change in ("died", "merged") or not len(members):
            del self.clusters[cluster]
            return self._ending(cluster, known, version) if known.published else None
        area_m2 = sum(map(tile_area_m2, self._tiles))
        summary = summarise(self.points.select(members), len(self.dbscan), area_m2)
        if summary.distinct_users < self.settings.region.min_users:
            if not known.published:
                return None
            known.change = "died"  # no longer enough people: withdrawn, and born again when they are back
            update = self._ending(cluster, known, version)
            known.published, known.change = False, "born"
            return update
        known.published = True
        known.lat, known.lon = summary.lat, summary.lon
        return self._message(cluster, known, summary, version)

    def _message(self, cluster: int, known: LiveCluster, summary: ClusterSummary, version: int) -> ClusterUpdate:
        return ClusterUpdate(
            cluster_id=self._id(cluster), version=version, change=known.change,
            event_time_ms=int(self.dbscan.now_s * MS), born_at_ms=known.born_at_ms, lat=summary.lat, lon=summary.lon,
            radius_m=summary.radius_m, count=summary.count, distinct_users=summary.distinct_users,
            related_cluster_id=None if known.related is None else self._id(known.related), hull=summary.hull,
            top_items=[
                NamedCount(name, float(count)) for code, count in summary.items
                if (name := self.names.get(code)) is not None
            ],
            hour_of_week=summary.hour_of_week,
            quality=self.cluster_book.record(
                cluster, time_s=self.dbscan.now_s, claim=summary.items[0][0], support=float(summary.count),
                significance=summary.significance,
            ),
        )  # fmt: skip

    def _ending(self, cluster: int, known: LiveCluster, version: int) -> ClusterUpdate:
        self.cluster_book.retire(cluster)
        change: ClusterChange = "merged" if known.change == "merged" else "died"
        return ClusterUpdate(
            cluster_id=self._id(cluster), version=version, change=change,
            event_time_ms=int(self.dbscan.now_s * MS), born_at_ms=known.born_at_ms, lat=known.lat, lon=known.lon,
            radius_m=0.0, count=0, distinct_users=0,
            related_cluster_id=None if known.related is None else self._id(known.related),
        )  # fmt: skip

    def _id(self, cluster: int) -> str:
        return f"{self.partition}-{cluster}"

    def _own_blobs(self) -> dict[str, bytes]:
        told = {
            "clusters": self.clusters,
            "waiting": sorted(self._waiting),
            "since": self._since_summary,
            "paired": sorted(self._paired),
            "tiles": sorted(self._tiles),
            "counted_to": self._counted_to,
        }
        return {
            "dbscan": self.dbscan.to_bytes(),
            "points": pack_arrays(self.points.state()),
            "covisits": self.covisits.to_bytes(),
            "forecasts": self.rhythms.to_bytes(),
            "cluster_book": self.cluster_book.to_bytes(),
            "covisit_book": self.covisit_book.to_bytes(),
            "told": msgspec.msgpack.encode(told),
        }

    def _load_blobs(self, blobs: Mapping[str, bytes]) -> None:
        self.dbscan = SlidingDBSCAN.from_bytes(blobs["dbscan"])
        self.points.load(unpack_arrays(blobs["points"]))
        told = msgspec.msgpack.decode(blobs["told"])
        self.clusters = msgspec.convert(told["clusters"], dict[int, LiveCluster])
        self._waiting, self._since_summary = set(told["waiting"]), told["since"]
        self._tiles, self._paired = set(told["tiles"]), set(told["paired"])
        self.covisits = CoVisits.from_bytes(blobs["covisits"])
        self._counted_to = told.get("counted_to")
        if "forecasts" in blobs:  # states written before there were forecasts
            self.rhythms.load(blobs["forecasts"])
        if "cluster_book" in blobs:  # states written before patterns had lives
            self.cluster_book = PatternBook.from_bytes(blobs["cluster_book"])
            self.covisit_book = PatternBook.from_bytes(blobs["covisit_book"])
