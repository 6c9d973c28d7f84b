"""What is told of crowds: when one is born, grows, moves, merges, splits or dies, and that it has enough different people."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec
import numpy as np

from processors.quality import PatternBook
from processors.spatial import ClusterUnion
from schemas.patterns import ClusterChange, ClusterUpdate, NamedCount, Pattern, TransitionUpdate
from streams.stages.cluster_summary import ClusterSummary, summaries
from streams.stages.count_rhythms import CountRhythms
from streams.stages.crossing import RegionReport
from streams.stages.crowd_counts import CrowdCounts
from streams.stages.crowd_moves import CrowdMoves
from streams.stages.crowd_parts import (
    NO_LABELS,
    NO_PARTS,
    CrowdParts,
    CrowdSums,
    SomeParts,
    crowds_of,
    joined,
    offsets_m,
    pack_parts,
    sums_of,
    unpack_listed,
    unpack_parts,
)
from streams.stages.names import Names
from streams.stages.packing import pack_blobs, unpack_blobs
from streams.stages.settings import MATERIAL_SHARE, RegionStageSettings

MS = 1000.0
T = TypeVar("T")
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
        self._parts: dict[int, CrowdParts] = {}  # of each region, in order of their labels
        self._fresh: dict[int, np.ndarray] = {}
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
        """Take a region's report, or a piece of it, in place of what it said before. O(what is held of the region)."""
        region = report.partition
        self._points[region] = report.points
        if report.visits is not None:  # the first piece
            self.counts.take(region, report.visits)
            self.moves.forget(region)
        if report.whereabouts is not None:
            self.moves.take(region, report.whereabouts)
        held, new = self._parts.get(region, NO_PARTS), np.append(report.parts.labels, report.gone)
        kept = ~np.isin(held.labels, new)
        if report.structure is not None:
            self.union.update(report.structure)
            kept &= np.isin(held.labels, report.structure.labels)
        if len(new) or not kept.all():
            both = joined([held.select(np.flatnonzero(kept)), report.parts])
            self._parts[region] = both.select(np.argsort(both.labels))
            self._fresh[region] = np.union1d(self._fresh.get(region, NO_LABELS), new)

    def tell(self, now_ms: int, window_area_m2: float, names: Names, version: int) -> list[Pattern]:
        """The messages that the reports since the last call give rise to; they must all be of one moment. O(clusters).

        Moves between the crowds are left to ``tell_moves``.
        """
        changes = self.union.resolve()
        regions, labels, ids, cores = self.union.nodes()
        order = np.argsort(ids, kind="stable")
        regions, labels, ids = regions[order], labels[order], ids[order]
        present, start = np.unique(ids, return_index=True)
        several = np.diff(np.append(start, len(ids))) > 1
        is_large = np.add.reduceat(cores[order], start) >= self._settings.min_samples if len(start) else several
        large = set(present[is_large].tolist())
        into, parents = dict(changes.merged.tolist()), dict(changes.split.tolist())
        ended = [self._ended(one, into, now_ms, version) for one in sorted(self.clusters.keys() - large)]
        due = self._touched(regions, labels, ids, np.repeat(several, np.diff(np.append(start, len(ids))))) & large
        for one in large - self.clusters.keys():
            self.clusters[one] = LiveCluster(now_ms, "split" if one in parents else "born", parents.get(one))
            due.add(one)
        parts = self._parts_of(regions, labels, ids, np.array(sorted(due), np.int64))
        news = self._news(sums_of(parts))
        looked_at = self._looked_at(crowds_of(parts, news), now_ms, window_area_m2, names, version)
        self._close_bins(now_ms, self._public)
        self.moves.close(now_ms, self._points)
        return [*(message for message in ended if message is not None), *looked_at]

    def tell_moves(self, version: int) -> list[TransitionUpdate]:
        """The moves between crowds as of the last ``tell``, before anything else is taken; nothing if they were told."""
        return self.moves.tell(self._public, self.union.global_ids, version) if self.moves.is_closed else []

    def _parts_of(self, regions: np.ndarray, labels: np.ndarray, ids: np.ndarray, due: np.ndarray) -> list[SomeParts]:
        """The parts of the clusters that are ``due``, region by region, with the clusters' ids."""
        wanted, found = np.isin(ids, due), list[SomeParts]()
        for region, held in sorted(self._parts.items()):
            own = np.flatnonzero(wanted & (regions == region))
            at = np.minimum(np.searchsorted(held.labels, labels[own]), len(held) - 1) if len(held) else own[:0]
            own = own[: len(at)]
            told = held.labels[at] == labels[own]
            found.append(SomeParts(held, at[told], ids[own[told]]))
        return found

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

    def _touched(self, regions: np.ndarray, labels: np.ndarray, ids: np.ndarray, several: np.ndarray) -> set[int]:
        """The clusters of which a part was told anew, and those that consist of other parts than before."""
        touched, parts = set[int](), dict[int, list[Node]]()
        for region, fresh in self._fresh.items():
            touched.update(ids[(regions == region) & np.isin(labels, fresh)].tolist())
        columns = (column[several].tolist() for column in (regions, labels, ids))
        for region, label, one in zip(*columns, strict=True):
            parts.setdefault(one, []).append((region, label))
        before, self._shared = self._shared, parts
        self._fresh = {}
        return touched | {one for one in before.keys() | parts.keys() if before.get(one) != parts.get(one)}

    def _looked_at(
        self, crowds: CrowdParts, now_ms: int, window_area_m2: float, names: Names, version: int
    ) -> list[ClusterUpdate]:
        """The messages about these crowds, of which there is news."""
        enough = crowds.distinct_users >= self._settings.min_users
        summary_of = summaries(crowds.select(np.flatnonzero(enough)), self.window_points, window_area_m2)
        told = []
        for cluster, is_public in zip(crowds.labels.tolist(), enough.tolist(), strict=True):
            known = self.clusters[cluster]
            if is_public:
                known.published = True
                told.append(self._message(cluster, known, next(summary_of), now_ms, names, version))
            elif known.published:  # no longer enough people: withdrawn, and born again when they are back
                known.change = "died"
                told.append(self._ending(cluster, known, now_ms, version))
                known.published, known.change = False, "born"
        return told

    def _news(self, crowds: CrowdSums) -> np.ndarray:
        """Those of the crowds that differ enough from what they were at the last look; notes how, and what they are."""
        clusters = [self.clusters[one] for one in crowds.labels.tolist()]
        count = np.array([known.count for known in clusters], np.float64)
        centre = np.array([known.lat for known in clusters]), np.array([known.lon for known in clusters])
        lat, lon = crowds.centres
        resized = np.abs(crowds.counts - count) >= MATERIAL_SHARE * count
        north_m, east_m = offsets_m(centre, lat, lon)
        news = np.flatnonzero(resized | (np.hypot(north_m, east_m) > self._settings.eps_m))
        columns = (column[news].tolist() for column in (crowds.counts, lat, lon, resized))
        for row, points, *place, is_resized in zip(news.tolist(), *columns, strict=True):
            known = clusters[row]
            if known.count and known.published:
                known.change = ("grown" if points > known.count else "shrunk") if is_resized else "moved"
                known.related = None
            known.count, (known.lat, known.lon) = points, place
        return crowds.labels[news]

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
            "parts": {region: pack_parts(parts) for region, parts in self._parts.items()},
            "fresh": {region: labels.tolist() for region, labels in self._fresh.items()},
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
        if isinstance(told["parts"], list):  # states written when each part was held by itself
            listed = _grouped((region, (label, packed)) for (region, label), packed in told["parts"])
            parts = {region: unpack_listed(sorted(some)) for region, some in listed.items()}
            fresh = _grouped(told["fresh"])
        else:
            parts = {region: unpack_parts(packed) for region, packed in told["parts"].items()}
            fresh = told["fresh"]
        self._parts = parts
        self._fresh = {region: np.array(sorted(labels), np.int64) for region, labels in fresh.items()}
        self._points = told["points"]
        self._shared = {one: [(region, label) for region, label in nodes] for one, nodes in told["shared"].items()}


def _grouped(pairs: Iterable[tuple[int, T]]) -> dict[int, list[T]]:
    """The second elements of the pairs with the same first one."""
    groups: dict[int, list[T]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups
