"""The union stage: the clusters of the whole map from the reports of its tiles.

A true edge between core points of two tiles lies within eps of both, so both tiles see both points as core and each names
them in its report. Joining the tiles' clusters that share a core point gives exactly the clusters of one process over
all points (tests/processors/spatial/test_tile_union.py holds it against one).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from processors.spatial.life import ClusterChanges
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
        self._ids: dict[tuple[int, int], int] = {}
        self._next_id = 0

    def update(self, report: TileReport) -> None:
        """Take a tile's latest report in place of its earlier one."""
        self._reports[report.tile] = report

    def remove(self, tile: int) -> None:
        """Forget a tile."""
        self._reports.pop(tile, None)

    def resolve(self) -> ClusterChanges:
        """Join the tiles' clusters. Returns the changes (born, died, merged, split) since the last call.

        O(clusters + border points), nearly.
        """
        nodes = [(report.tile, label) for report in self._tiles() for label in report.labels.tolist()]
        if nodes:
            part = self._parts(len(nodes))
            sizes = np.bincount(part, weights=np.concatenate([r.own_points for r in self._tiles()])).astype(np.int64)
        else:
            part, sizes = np.zeros(0, np.int64), np.zeros(0, np.int64)
        before = [self._ids.get(node, -1) for node in nodes]
        ids = self._carry_over(part, np.array(before, np.int64), sizes)
        former = set(self._ids.values())
        self._ids = {node: int(ids[p]) for node, p in zip(nodes, part.tolist())}
        return changes_between(former, before, ids, part)

    def global_ids(self, tile: int, labels: Ids) -> Ids:
        """The global ids of a tile's labels as of the last `resolve`; noise (-1) and unknown labels give -1."""
        present, inverse = np.unique(labels, return_inverse=True)
        known = np.array([self._ids.get((tile, label), -1) for label in present.tolist()], np.int64)
        return known[inverse] if len(labels) else np.zeros(0, np.int64)

    def _tiles(self) -> list[TileReport]:
        return [self._reports[tile] for tile in sorted(self._reports)]

    def _parts(self, n: int) -> Ids:
        """The component of each node: nodes that name the same border point belong together."""
        points, owners, first = [], [], 0
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

    def _carry_over(self, part: Ids, before: Ids, sizes: Ids) -> Ids:
        """The id of each part: the oldest of those it held, each going to the largest part that held it."""
        ids = np.full(len(sizes), -1, np.int64)
        held = np.unique(np.stack([before, part], axis=1)[before >= 0], axis=0)
        taken: set[int] = set()
        order = np.lexsort((held[:, 1], -sizes[held[:, 1]], held[:, 0]))
        for former, p in held[order].tolist():
            if former not in taken:
                taken.add(former)
                if ids[p] < 0:
                    ids[p] = former
        fresh = np.flatnonzero(ids < 0)
        ids[fresh] = self._next_id + np.arange(len(fresh))
        self._next_id += len(fresh)
        return ids


def changes_between(former: set[int], before: list[int], ids: Ids, part: Ids) -> ClusterChanges:
    """What became of the former ids, given each node's id before and its part now."""
    now = set(ids.tolist())
    came_from: dict[int, int] = {}
    went_to: dict[int, int] = {}
    for was, p in zip(before, part.tolist()):
        cluster = int(ids[p])
        if was >= 0 and was != cluster:
            if was not in now:
                went_to.setdefault(was, cluster)
            if cluster not in former:
                came_from.setdefault(cluster, was)
    born = sorted(now - former - came_from.keys())
    died = sorted(former - now - went_to.keys())
    return ClusterChanges(
        born=np.array(born, np.int64),
        died=np.array(died, np.int64),
        merged=np.array(sorted(went_to.items()), np.int64).reshape(-1, 2),
        split=np.array(sorted(came_from.items()), np.int64).reshape(-1, 2),
    )
