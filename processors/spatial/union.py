"""The union stage: the clusters of the whole map from the reports of its tiles.

A true edge between core points of two tiles lies within eps of both, so both tiles see both points as core and each names
them in its report. Joining the tiles' clusters that share a core point gives exactly the clusters of one process over
all points (tests/processors/spatial/test_tile_union.py holds it against one).
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from processors.spatial.life import NO_IDS, NO_PAIRS, ClusterChanges
from processors.spatial.tiles import TileReport

Ids = NDArray[np.int64]


class ClusterUnion:
    """Global cluster ids over the latest report of every tile.

    Ids live as those of `SlidingDBSCAN` do: on a merge the older stays, on a split the part with more core points keeps
    it, and none is used twice.

    >>> union = ClusterUnion()
    >>> def ids(*values): return np.array(values, np.int64)
    >>> union.update(TileReport(1, ids(0), ids(5), ids(42), ids(0)))
    >>> union.update(TileReport(2, ids(0, 1), ids(9, 4), ids(42), ids(1)))
    >>> union.resolve().born
    array([0, 1])
    >>> union.global_ids(1, ids(0, -1)), union.global_ids(2, ids(0, 1))
    (array([ 0, -1]), array([1, 0]))
    """

    def __init__(self) -> None:
        self._reports: dict[int, TileReport] = {}
        self._resolved: dict[int, tuple[Ids, Ids]] = {}  # per tile its labels, ascending, and their global ids
        self._next_id = 0

    def update(self, report: TileReport) -> None:
        """Take a tile's latest report in place of its earlier one."""
        before = self._reports.get(report.tile)
        if before is not None and len(before.lineage):  # not resolved yet: its clusters went on to what they are now
            report = msgspec.structs.replace(report, lineage=_composed(before.lineage, report))
        self._reports[report.tile] = report

    def remove(self, tile: int) -> None:
        """Forget a tile."""
        self._reports.pop(tile, None)

    def resolve(self) -> ClusterChanges:
        """Join the tiles' clusters. Returns the changes (born, died, merged, split) since the last call.

        O(clusters + border points), nearly.
        """
        reports = self._tiles()
        part = self._parts(sum(len(report.labels) for report in reports))
        sizes = np.bincount(part, weights=_joined([report.own_points for report in reports])).astype(np.int64)
        before = _joined([self.global_ids(report.tile, report.labels) for report in reports])
        former = _joined([ids for _, ids in self._resolved.values()])
        was, went = self._lineage(part)
        was, went = np.concatenate([before, was]), np.concatenate([part, went])
        ids = self._carry_over(was, went, sizes)
        ends = np.cumsum([len(report.labels) for report in reports])[:-1]
        now = np.split(ids[part], ends) if reports else []
        self._resolved = {report.tile: (report.labels, mine) for report, mine in zip(reports, now)}
        self._reports = {tile: _settled(report) for tile, report in self._reports.items()}
        return changes_between(former, was, ids, went)

    def global_ids(self, tile: int, labels: Ids) -> Ids:
        """The global ids of a tile's labels as of the last `resolve`; noise (-1) and unknown labels give -1."""
        known, ids = self._resolved.get(tile, (NO_IDS, NO_IDS))
        if not len(known):
            return np.full(len(labels), -1, np.int64)
        at = np.minimum(np.searchsorted(known, labels), len(known) - 1)
        return np.where(known[at] == labels, ids[at], -1)

    def nodes(self) -> tuple[Ids, Ids, Ids, Ids]:
        """Every tile's clusters as of the last `resolve`: (tile, label, global id, core points that the tile owns)."""
        reports = self._tiles()
        tiles = np.repeat(
            np.array([report.tile for report in reports], np.int64), [len(report.labels) for report in reports]
        )
        labels = _joined([report.labels for report in reports])
        ids = _joined([self.global_ids(report.tile, report.labels) for report in reports])
        return tiles, labels, ids, _joined([report.own_points for report in reports])

    def to_bytes(self) -> bytes:
        """Everything, for `from_bytes`."""
        reports = [report.to_bytes() for report in self._tiles()]
        resolved = {tile: [packed.tobytes() for packed in pair] for tile, pair in self._resolved.items()}
        return msgspec.msgpack.encode([self._next_id, reports, resolved])

    @classmethod
    def from_bytes(cls, data: bytes) -> ClusterUnion:
        """The union that `to_bytes` saved."""
        union = cls()
        union._next_id, reports, resolved = msgspec.msgpack.decode(
            data, type=tuple[int, list[bytes], dict[int, tuple[bytes, bytes]]]
        )
        union._reports = {report.tile: report for report in map(TileReport.from_bytes, reports)}
        union._resolved = {
            tile: (np.frombuffer(labels, np.int64), np.frombuffer(ids, np.int64))
            for tile, (labels, ids) in resolved.items()
        }
        return union

    def _tiles(self) -> list[TileReport]:
        return [self._reports[tile] for tile in sorted(self._reports)]

    def _parts(self, n: int) -> Ids:
        """The component of each node: nodes that name the same border point belong together."""
        points, owners, first = [], [], 0
        if n == 0:
            return NO_IDS
        for report in self._tiles():
            points.append(report.border_ids)
            owners.append(first + np.searchsorted(report.labels, report.border_labels))
            first += len(report.labels)
        point, owner = np.concatenate(points), np.concatenate(owners)
        order = np.argsort(point, kind="stable")
        point, owner = point[order], owner[order]
        same = np.flatnonzero(point[1:] == point[:-1])
        links = coo_array((np.ones(len(same)), (owner[same], owner[same + 1])), shape=(n, n))
        return connected_components(links, directed=False)[1].astype(np.int64)

    def _lineage(self, part: Ids) -> tuple[Ids, Ids]:
        """Former ids that a tile's clusters took in, and the parts of these clusters."""
        was, went, first = [NO_IDS], [NO_IDS], 0
        for report in self._tiles():
            was.append(self.global_ids(report.tile, report.lineage[:, 0]))
            went.append(part[first + np.searchsorted(report.labels, report.lineage[:, 1])])
            first += len(report.labels)
        return np.concatenate(was), np.concatenate(went)

    def _carry_over(self, was: Ids, went: Ids, sizes: Ids) -> Ids:
        """The id of each part: the oldest of those that went into it, each going to the largest part that took it in."""
        ids = np.full(len(sizes), -1, np.int64)
        was, went = was[was >= 0], went[was >= 0]
        order = np.lexsort((went, -sizes[went], was))
        first = order[np.append(True, was[order][1:] != was[order][:-1])[: len(order)]]
        ids[went[first[::-1]]] = was[first[::-1]]  # of several the last one counts: the oldest
        fresh = np.flatnonzero(ids < 0)
        ids[fresh] = self._next_id + np.arange(len(fresh))
        self._next_id += len(fresh)
        return ids


def _joined(parts: list[Ids]) -> Ids:
    return np.concatenate(parts) if parts else NO_IDS


def _composed(earlier: Ids, report: TileReport) -> Ids:
    """The lineage over two reports, of which the later one is `report`."""
    pairs, live = set(map(tuple, report.lineage.tolist())), set(report.labels.tolist())
    for was, label in earlier.tolist():
        pairs.update((was, now) for middle, now in report.lineage.tolist() if middle == label)
        if label in live:
            pairs.add((was, label))
    return np.array(sorted(pairs), np.int64).reshape(-1, 2)


def _settled(report: TileReport) -> TileReport:
    return msgspec.structs.replace(report, lineage=NO_PAIRS) if len(report.lineage) else report


def changes_between(former: Ids, was: Ids, ids: Ids, part: Ids) -> ClusterChanges:
    """What became of the former ids, given pairs of a former id and the part that (some of) its points are in now."""
    former, now = np.unique(former), np.unique(ids)
    cluster = ids[part]
    other = (was >= 0) & (was != cluster)
    went = np.stack([was, cluster], axis=1)[other & ~np.isin(was, now)]
    came = np.stack([cluster, was], axis=1)[other & ~np.isin(cluster, former)]
    went = went[np.unique(went[:, 0], return_index=True)[1]]
    came = came[np.unique(came[:, 0], return_index=True)[1]]
    return ClusterChanges(
        born=np.setdiff1d(np.setdiff1d(now, former), came[:, 0]),
        died=np.setdiff1d(np.setdiff1d(former, now), went[:, 0]),
        merged=went,
        split=came,
    )
