"""An item lies in the cluster whose circle holds it: what is chosen coarsely first is what measuring every pair finds."""

import numpy as np
import pytest

from model_server.items import ItemTable, metres_between
from model_server.live_clusters import LiveClusters
from schemas.events import Item
from schemas.patterns import ClusterUpdate


def cluster(name: str, lat: float, lon: float, radius_m: float, change: str = "born") -> ClusterUpdate:
    return ClusterUpdate(
        cluster_id=name, version=1, change=change, event_time_ms=0, born_at_ms=0, lat=lat, lon=lon, radius_m=radius_m,
        count=5, distinct_users=5,
    )  # type: ignore[arg-type]  # fmt: skip


@pytest.mark.parametrize("latitude", [0.0, 40.0, 89.0, -60.0])
def test_items_lie_in_the_first_cluster_that_holds_them(latitude: float) -> None:
    rng = np.random.default_rng(0)
    items, clusters = ItemTable(), LiveClusters()
    places = [(latitude + north, 179.9 + east) for north, east in rng.uniform(-0.5, 0.5, (200, 2))]
    items.upsert([Item(item_id=f"i{n}", lat=lat, lon=lon) for n, (lat, lon) in enumerate(places)])
    circles = [
        cluster(f"c{n}", latitude + north, 179.9 + east, radius_m)
        for n, (north, east, radius_m) in enumerate(rng.uniform((-0.5, -0.5, 10), (0.5, 0.5, 40_000), (30, 3)))
    ]
    clusters.note(circles)
    expected = [
        next((c.cluster_id for c in circles if metres_between(*place, c.lat, c.lon) <= c.radius_m), None)
        for place in places
    ]
    assert clusters.holding(items, [f"i{n}" for n in range(200)]) == expected
    assert len(set(expected)) > 3


def test_what_has_no_place_lies_nowhere_and_dead_clusters_hold_nothing() -> None:
    items, clusters = ItemTable(), LiveClusters()
    items.upsert([Item(item_id="web"), Item(item_id="cafe", lat=40.0, lon=0.0)])
    assert clusters.holding(items, ["cafe"]) == [None]
    clusters.note([cluster("square", 40.0, 0.0, 50.0)])
    assert clusters.holding(items, ["web", "unknown", "cafe"]) == [None, None, "square"]
    clusters.note([cluster("square", 41.0, 0.0, 50.0, "moved")])
    assert clusters.holding(items, ["cafe"]) == [None]
    clusters.note([cluster("square", 40.0, 0.0, 50.0, "moved"), cluster("square", 40.0, 0.0, 50.0, "died")])
    assert (clusters.holding(items, ["cafe"]), len(clusters)) == ([None], 0)
