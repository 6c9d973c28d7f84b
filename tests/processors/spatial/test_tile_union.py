import numpy as np
import pytest
from streams_of_points import KINDS, make_case

from processors.spatial import EARTH_RADIUS_M, ClusterUnion, SlidingDBSCAN, TileGrid, report_of


def random_grid(case, metric, rng):
    eps = case.eps if metric == "euclidean" else np.degrees(case.eps / EARTH_RADIUS_M)
    height = float(rng.uniform(3, 30)) * eps
    if metric == "euclidean":
        return TileGrid(
            height=height, width=float(rng.uniform(1, 12)) * eps, metric=metric, origin_lat=rng.random(), origin_lon=0.3
        )
    width = 360.0 / int(rng.integers(1, max(2, int(360 / (3 * eps)))))
    return TileGrid(height=height, width=width)


def tiled(case, grid, metric, window_s, upto, state=None):
    """The windows of all tiles after the events up to `upto`."""
    now = case.time_s[:upto].max()
    live = np.flatnonzero(case.time_s[:upto] > now - window_s)
    windows = {}
    index, tiles = grid.tiles_near(case.lat[live], case.lon[live], 2 * case.eps)
    for tile in np.unique(grid.tile_of(case.lat[live], case.lon[live])).tolist():
        mine = live[np.unique(index[tiles == tile])]
        dbscan = windows[tile] = SlidingDBSCAN(case.eps, case.min_samples, window_s, metric)
        dbscan.update(case.time_s[mine], case.lat[mine], case.lon[mine], mine)
        dbscan.advance(now)
    return windows


def union_snapshot(case, grid, windows, union):
    found = {}
    for tile, dbscan in windows.items():
        ids, labels, core = dbscan.snapshot()
        owned = grid.tile_of(case.lat[ids], case.lon[ids]) == tile
        ids, labels, core = ids[owned], union.global_ids(tile, labels[owned]), core[owned]
        found.update(zip(ids.tolist(), zip(labels.tolist(), core.tolist())))
    return found


@pytest.mark.parametrize("metric", ["euclidean", "haversine"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_union_over_any_tiling_equals_one_process(kind, metric):
    rng = np.random.default_rng([11, list(KINDS).index(kind), len(metric)])
    for _ in range(2):
        case = make_case(rng, kind, metric, 900)
        grid = random_grid(case, metric, rng)
        while len(np.unique(grid.tiles_near(case.lat, case.lon, case.eps)[1])) > 80:
            case = make_case(rng, kind, metric, 900)
            grid = random_grid(case, metric, rng)
        single = SlidingDBSCAN(case.eps, case.min_samples, 400.0, metric)
        order = np.argsort(case.time_s, kind="stable")
        single.update(case.time_s[order], case.lat[order], case.lon[order], order)
        windows = tiled(case, grid, metric, 400.0, 900)
        union = ClusterUnion()
        for tile, dbscan in windows.items():
            union.update(report_of(dbscan, grid, tile))
        union.resolve()
        found = union_snapshot(case, grid, windows, union)
        ids, labels, core = single.snapshot()
        assert sorted(found) == sorted(ids.tolist())
        pairs = set()
        for point, label, is_core in zip(ids.tolist(), labels.tolist(), core.tolist()):
            assert found[point][1] == is_core and (found[point][0] < 0) == (label < 0)
            pairs.add((label, found[point][0]))
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def test_global_ids_live_on_as_those_of_one_process():
    rng = np.random.default_rng(12)
    case = make_case(rng, "bridge", "euclidean", 1200)
    grid = TileGrid(height=0.31, width=0.27, metric="euclidean")
    single, union, windows = SlidingDBSCAN(0.05, 6, 250.0, "euclidean"), ClusterUnion(), {}
    told, twins, events = set(), {}, 0
    for at in range(0, 1200, 20):
        part = slice(at, at + 20)
        time_s, lat, lon, ids = np.arange(1200.0)[part], case.lat[part], case.lon[part], np.arange(1200)[part]
        expected = single.update(time_s, lat, lon, ids)
        index, tiles = grid.tiles_near(lat, lon, 0.1)
        for tile in np.unique(tiles).tolist():
            windows.setdefault(tile, SlidingDBSCAN(0.05, 6, 250.0, "euclidean"))
            mine = index[tiles == tile]
            windows[tile].update(time_s[mine], lat[mine], lon[mine], ids[mine])
        for tile, dbscan in windows.items():
            dbscan.advance(time_s[-1])
            union.update(report_of(dbscan, grid, tile))
        union = ClusterUnion.from_bytes(union.to_bytes())
        changes = union.resolve()
        born = set(changes.born.tolist()) | set(changes.split[:, 0].tolist())
        gone = set(changes.died.tolist()) | set(changes.merged[:, 0].tolist())
        assert not born & told and gone <= told
        told = (told | born) - gone
        found = union_snapshot(case, grid, windows, union)
        now = {label: found[p][0] for p, label in zip(*(c.tolist() for c in single.snapshot()[:2])) if label >= 0}
        quiet = not (len(expected.merged) or len(expected.split) or len(expected.born))
        if quiet:
            assert all(now[label] == twins[label] for label in now.keys() & twins.keys())
        events += not quiet
        twins = now
    assert events > 10


@pytest.mark.parametrize("metric", ["euclidean", "haversine"])
def test_every_tile_within_the_radius_is_named(metric):
    rng = np.random.default_rng(13)
    grid = TileGrid(height=1.0, width=1.0, metric=metric)
    lat, lon = (rng.uniform(-90, 90, 400), rng.uniform(-180, 180, 400))
    radius = 30_000.0 if metric == "haversine" else 0.3
    index, tiles = grid.tiles_near(lat, lon, radius)
    named = set(zip(index.tolist(), tiles.tolist()))
    angle = rng.uniform(0, 2 * np.pi, (400, 50))
    step = radius * np.sqrt(rng.random((400, 50)))
    if metric == "euclidean":
        other_lat, other_lon = lat[:, None] + step * np.sin(angle), lon[:, None] + step * np.cos(angle)
    else:
        d, phi = step / EARTH_RADIUS_M, np.radians(lat)[:, None]
        sin_lat = np.sin(phi) * np.cos(d) + np.cos(phi) * np.sin(d) * np.cos(angle)
        turn = np.arctan2(np.sin(angle) * np.sin(d) * np.cos(phi), np.cos(d) - np.sin(phi) * sin_lat)
        other_lat = np.degrees(np.arcsin(sin_lat))
        other_lon = (lon[:, None] + np.degrees(turn) + 180) % 360 - 180
    for i in range(400):
        for tile in grid.tile_of(other_lat[i], other_lon[i]).tolist():
            assert (i, tile) in named


def test_a_grid_must_divide_the_circle():
    with pytest.raises(ValueError, match="width"):
        TileGrid(height=1.0, width=7.1)
    with pytest.raises(ValueError, match="height"):
        TileGrid(height=0.0, width=1.0)
