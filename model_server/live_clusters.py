"""The clusters that people form now, and which of them an item lies in."""

from collections.abc import Sequence

import numpy as np

from model_server.items import EARTH_RADIUS_M, Floats, ItemTable, distance_m
from schemas.patterns import ClusterUpdate, Pattern

SLACK = 1.001  # of a first, coarse choice against rounding: what it lets in is measured


class LiveClusters:
    """Keeps the clusters of a stream of patterns until they die or merge into another.

    >>> from schemas.events import Item
    >>> items, clusters = ItemTable(), LiveClusters()
    >>> items.upsert([Item(item_id="cafe", lat=40.0, lon=-74.0), Item(item_id="far", lat=41.0, lon=-74.0)])
    >>> clusters.note([ClusterUpdate(cluster_id="square", version=1, change="born", event_time_ms=0, born_at_ms=0, lat=40.0,
    ...     lon=-74.0, radius_m=50.0, count=5, distinct_users=5)])
    >>> clusters.holding(items, ["cafe", "far", "web"])
    ['square', None, None]
    """

    def __init__(self) -> None:
        self._clusters: dict[str, ClusterUpdate] = {}
        self._circles: tuple[Floats, Floats, Floats] | None = None  # as columns, until one of them changes

    def __len__(self) -> int:
        return len(self._clusters)

    def note(self, patterns: Sequence[Pattern]) -> None:
        """Take in what these patterns say of clusters."""
        for pattern in patterns:
            if isinstance(pattern, ClusterUpdate):
                self._circles = None
                if pattern.change in ("died", "merged"):
                    self._clusters.pop(pattern.cluster_id, None)
                else:
                    self._clusters[pattern.cluster_id] = pattern

    def holding(self, items: ItemTable, item_ids: Sequence[str]) -> list[str | None]:
        """Of each item the cluster that it lies in, of several the one that was born first; None for none. O(items x clusters).

        Most pairs cost a comparison of latitudes, the rest a distance: with many clusters a loop over them would take longer
        than everything else that a recommendation needs.
        """
        holding: list[str | None] = [None] * len(item_ids)
        if not self._clusters:
            return holding
        if self._circles is None:
            live = self._clusters.values()
            columns = np.array([(each.lat, each.lon, each.radius_m) for each in live])
            self._circles = columns[:, 0], columns[:, 1], columns[:, 2]
        cluster_lat, cluster_lon, radius_m = self._circles
        lat, lon = items.places(item_ids)
        reach_deg = np.degrees(SLACK * radius_m / EARTH_RADIUS_M)
        item, cluster = (np.abs(lat[:, None] - cluster_lat) <= reach_deg).nonzero()
        away_m = distance_m(lat[item], lon[item], cluster_lat[cluster], cluster_lon[cluster])
        inside = away_m <= radius_m[cluster]
        names = list(self._clusters)
        for which, name in zip(reversed(item[inside].tolist()), reversed(cluster[inside].tolist())):
            holding[which] = names[name]  # the first, which comes last
        return holding
