"""What is told of crowds: when one is born, grows, moves, merges, splits or dies, and that it has enough different people."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from processors.quality import PatternBook
from processors.spatial import ClusterUnion
from schemas.patterns import ClusterChange, ClusterUpdate, NamedCount, Pattern
from streams.stages.cluster_summary import ClusterSummary, summarise
from streams.stages.count_rhythms import CountRhythms
from streams.stages.crossing import RegionReport
from streams.stages.crowd_counts import CrowdCounts
from streams.stages.crowd_moves import CrowdMoves
from streams.stages.crowd_parts import CrowdPart, added, distance_m, pack_part, unpack_part
from streams.stages.names import Names
from streams.stages.packing import pack_blobs, unpack_blobs
from streams.stages.settings import MATERIAL_SHARE, RegionStageSettings

MS = 1000.0
Node = tuple[int, int]


class LiveCluster(msgspec.Struct):
    """What has been said about a cluster: when it was born, what happened since the last message, how it was told.

    ``count``, ``lat`` and ``lon`` are those of the last look at it, whether it was published or not.
    """

    born_at_ms: int
    change: ClusterChange
    related: int | None = None
    published: bool = False
    count: int = 0
    lat: float = 0.0
    lon: float = 0.0


class CrowdTeller:
    """The clusters of the whole map from the latest reports of its regions, the messages about them, and their rhythms."""

    def __init__(self, settings: RegionStageSettings, partition: int) -> None:
        self._settings = settings
        self._partition = partition
        self.union = ClusterUnion()
        self.clusters: dict[int, LiveCluster] = {}
        self._book = PatternBook(settings.max_names)
        self.counts = CrowdCounts(settings)
        self.rhythms = CountRhythms(settings.forecasts, "cluster", self._id)
        self.moves = CrowdMoves(settings, self._id)
        self._parts: dict[Node, CrowdPart] = {}
        self._fresh: set[Node] = set()
        self._points: dict[int, int] = {}
        self._shared: dict[int, list[Node]] = {}  # the clusters of several parts

    @property
    def window_points(self) -> int:
        """Points in the windows of all regions, each counted once."""
        return sum(self._points.values())

    def sizes(self) -> dict[str, int]:
        """How much is held, by kind. O(clusters)."""
        return {
            "clusters": len(self.clusters),
            "public_clusters": len(self._public),
            "clusters_with_moves": len(self.moves),
        }

    def take(self, report: RegionReport) -> None:
        """Take a region's report, or a piece of it, in place of what it said before. O(its clusters)."""
        region = report.partition
        self._points[region] = report.points
        if report.visits is not None:  # the first piece
            self.counts.take(region, report.visits)
            self.moves.forget(region)
        if report.whereabouts is not None:
            self.moves.take(region, report.whereabouts)
        if report.structure is not None:
            self.union.update(report.structure)
            present = set(report.structure.labels.tolist())
            for node in [node for node in self._parts if node[0] == region and node[1] not in present]:
                del self._parts[node]
        for label, part in report.parts.items():
            self._fresh.add((region, label))
            if part is None:
                self._parts.pop((region, label), None)
            else:
                self._parts[region, label] = part

    def tell(self, now_ms: int, window_area_m2: float, names: Names, version: int) -> list[Pattern]:
        """The messages that the reports since the last call give rise to; they must all be of one moment. O(clusters)."""
        changes = self.union.resolve()
        regions, labels, ids, cores = self.union.nodes()
        order = np.argsort(ids, kind="stable")
        present, start = np.unique(ids[order], return_index=True)
        large = np.add.reduceat(cores[order], start) >= self._settings.min_samples if len(start) else start > 0
        bounds = dict(zip(present[large].tolist(), zip(start[large], np.append(start, len(ids))[1:][large])))
        into, parents = dict(changes.merged.tolist()), dict(changes.split.tolist())
        messages = [self._ended(one, into, now_ms, version) for one in sorted(self.clusters.keys() - bounds.keys())]
        due = self._touched(regions, labels, ids) & bounds.keys()
        for one in bounds.keys() - self.clusters.keys():
            self.clusters[one] = LiveCluster(now_ms, "split" if one in parents else "born", parents.get(one))
            due.add(one)
        told: list[ClusterUpdate | None] = [*messages]
        for one in sorted(due):
            nodes = order[slice(*bounds[one])]
            parts = [self._parts.get(node) for node in zip(regions[nodes].tolist(), labels[nodes].tolist())]
            crowd = added([part for part in parts if part is not None])
            told.append(self._looked_at(one, crowd, now_ms, window_area_m2, names, version))
        public = self._public
        self._close_bins(now_ms, public)
        moves = self.moves.tell(now_ms, public, self._points, self.union.global_ids, version)
        return [*(message for message in told if message is not None), *moves]

    def asks_for_moves(self) -> bool:
        """Whether the reports that are asked for now are to say who was where."""
        due = self.moves.is_due(self.window_points)
        if due:
            self.moves.ask()
        return due

    @property
    def _public(self) -> dict[int, int]:
        """The points of each crowd that is published, as of the last look at it."""
        return {one: known.count for one, known in self.clusters.items() if known.published}

    def _close_bins(self, now_ms: int, public: Mapping[int, int]) -> None:
        closed = self.counts.close(now_ms, public, self.union.global_ids)
        if len(self.rhythms) or any(len(one.keys) for one in closed):
            self.rhythms.close(closed)

    def _touched(self, regions: np.ndarray, labels: np.ndarray, ids: np.ndarray) -> set[int]:
        """The clusters of which a part was told anew, and those that consist of other parts than before."""
        fresh, touched, parts = self._fresh, set[int](), dict[int, list[Node]]()
        _, place, numbers = np.unique(ids, return_inverse=True, return_counts=True)
        several = numbers[place] > 1
        rows = zip(regions.tolist(), labels.tolist(), ids.tolist(), several.tolist(), strict=True)
        for region, label, one, is_part in rows:
            if (region, label) in fresh:
                touched.add(one)
            if is_part:
                parts.setdefault(one, []).append((region, label))
        before, self._shared = self._shared, parts
        self._fresh = set()
        return touched | {one for one in before.keys() | parts.keys() if before.get(one) != parts.get(one)}

    def _looked_at(
        self, cluster: int, crowd: CrowdPart, now_ms: int, window_area_m2: float, names: Names, version: int
    ) -> ClusterUpdate | None:
        known = self.clusters[cluster]
        if not self._is_news(known, crowd):
            return None
        known.count, (known.lat, known.lon) = crowd.count, crowd.centre
        if crowd.distinct_users < self._settings.min_users:
            if not known.published:
                return None
            known.change = "died"  # no longer enough people: withdrawn, and born again when they are back
            update = self._ending(cluster, known, now_ms, version)
            known.published, known.change = False, "born"
            return update
        known.published = True
        summary = summarise(crowd, self.window_points, window_area_m2)
        return self._message(cluster, known, summary, now_ms, names, version)

    def _is_news(self, known: LiveCluster, crowd: CrowdPart) -> bool:
        """Whether a crowd differs enough from what it was at the last look; notes how."""
        resized = abs(crowd.count - known.count) >= MATERIAL_SHARE * known.count
        moved = distance_m(*crowd.centre, known.lat, known.lon) > self._settings.eps_m
        if known.count and known.published and (resized or moved):
            known.change = ("grown" if crowd.count > known.count else "shrunk") if resized else "moved"
            known.related = None
        return resized or moved

    def _message(
        self, cluster: int, known: LiveCluster, summary: ClusterSummary, now_ms: int, names: Names, version: int
    ) -> ClusterUpdate:
        return ClusterUpdate(
            cluster_id=self._id(cluster), version=version, change=known.change, event_time_ms=now_ms,
            born_at_ms=known.born_at_ms, lat=summary.lat, lon=summary.lon,
            radius_m=summary.radius_m, count=summary.count, distinct_users=summary.distinct_users,
            related_cluster_id=None if known.related is None else self._id(known.related), hull=summary.hull,
            top_items=[
                NamedCount(name, float(count)) for code, count in summary.items
                if (name := names.get(code)) is not None
            ],
            hour_of_week=summary.hour_of_week,
            quality=self._book.record(
                cluster, time_s=now_ms / MS, claim=summary.items[0][0], support=float(summary.count),
                significance=summary.significance,
            ),
        )  # fmt: skip

    def _ended(self, cluster: int, into: Mapping[int, int], now_ms: int, version: int) -> ClusterUpdate | None:
        known = self.clusters.pop(cluster)
        known.change, known.related = ("merged", into[cluster]) if cluster in into else ("died", None)
        return self._ending(cluster, known, now_ms, version) if known.published else None

    def _ending(self, cluster: int, known: LiveCluster, now_ms: int, version: int) -> ClusterUpdate:
        self._book.retire(cluster)
        return ClusterUpdate(
            cluster_id=self._id(cluster), version=version, change=known.change, event_time_ms=now_ms,
            born_at_ms=known.born_at_ms, lat=known.lat, lon=known.lon, radius_m=0.0, count=0, distinct_users=0,
            related_cluster_id=None if known.related is None else self._id(known.related),
        )  # fmt: skip

    def _id(self, cluster: int) -> str:
        return f"{self._partition}-{cluster}"

    # -- state

    def to_bytes(self) -> bytes:
        """Everything, for ``load``."""
        told = {
            "clusters": self.clusters,
            "parts": [(node, pack_part(part)) for node, part in self._parts.items()],
            "fresh": sorted(self._fresh),
            "points": self._points,
            "shared": self._shared,
        }
        return pack_blobs(
            {
                "union": self.union.to_bytes(),
                "book": self._book.to_bytes(),
                "counts": self.counts.to_bytes(),
                "rhythms": self.rhythms.to_bytes(),
                "moves": self.moves.to_bytes(),
                "told": msgspec.msgpack.encode(told),
            }
        )

    def load(self, data: bytes) -> None:
        """Become the teller of ``to_bytes``."""
        blobs = unpack_blobs(data)
        told: dict[str, Any] = msgspec.msgpack.decode(blobs["told"], strict=False)
        self.union, self._book = ClusterUnion.from_bytes(blobs["union"]), PatternBook.from_bytes(blobs["book"])
        self.counts.load(blobs["counts"])
        self.rhythms.load(blobs["rhythms"])
        if "moves" in blobs:  # states written before crowds had moves
            self.moves.load(blobs["moves"])
        self.clusters = msgspec.convert(told["clusters"], dict[int, LiveCluster])
        self._parts = {(region, label): unpack_part(part) for (region, label), part in told["parts"]}
        self._fresh = {(region, label) for region, label in told["fresh"]}
        self._points = told["points"]
        self._shared = {one: [(region, label) for region, label in nodes] for one, nodes in told["shared"].items()}
