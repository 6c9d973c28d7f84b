import numpy as np
import pytest
from sklearn.cluster import DBSCAN
from streams_of_points import KINDS, make_case, replay

from processors.spatial import EARTH_RADIUS_M, SlidingDBSCAN


def cluster(points, eps, min_samples, ids=None, metric="euclidean"):
    points = np.asarray(points, float)
    dbscan = SlidingDBSCAN(eps, min_samples, 1e9, metric)
    dbscan.update(np.arange(len(points)), points[:, 0], points[:, 1], np.arange(len(points)) if ids is None else ids)
    found, labels, core = dbscan.snapshot()
    return dict(zip(found.tolist(), labels.tolist())), dict(zip(found.tolist(), core.tolist()))


@pytest.mark.parametrize("metric", ["euclidean", "haversine"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_prefix_equals_scikit_learn(kind, metric):
    rng = np.random.default_rng([list(KINDS).index(kind), len(metric)])
    for _ in range(3):
        case = make_case(rng, kind, metric, 2500)
        assert replay(case, rng, prefixes=3) == []


def test_a_pair_at_exactly_eps_is_within_eps():
    labels, core = cluster([(0, 0), (0, 3.0), (0, 6.000001)], eps=3.0, min_samples=2)
    assert core == {0: True, 1: True, 2: False}
    assert labels == {0: 0, 1: 0, 2: -1}


def test_min_samples_one_makes_every_point_a_cluster():
    labels, core = cluster([(0, 0), (10, 0), (20, 0)], eps=1.0, min_samples=1)
    assert sorted(labels.values()) == [0, 1, 2] and all(core.values())


def test_border_point_joins_nearest_core():
    left = [(0.0, x) for x in (0.0, 0.1, 0.2)]
    right = [(0.0, x) for x in (2.0, 2.1, 2.2)]
    labels, core = cluster([*left, *right, (0.0, 1.15)], eps=0.95, min_samples=4, ids=None)
    assert not core[6]
    labels, core = cluster([*left, (0.0, -0.1), *right, (0.0, 2.3), (0.0, 1.15)], eps=0.95, min_samples=4)
    assert not core[8] and labels[8] == labels[4] != labels[0]


def test_border_point_between_two_cores_takes_that_of_the_lowest_id():
    left = [(0.0, -1.0), (0.0, -1.1), (0.0, -1.2), (0.0, -1.3)]
    right = [(0.0, 1.0), (0.0, 1.1), (0.0, 1.2), (0.0, 1.3)]
    for ids in ([10, 11, 12, 13, 5, 21, 22, 23, 0], [4, 11, 12, 13, 5, 21, 22, 23, 0]):
        labels, core = cluster([*left, *right, (0.0, 0.0)], eps=1.0, min_samples=4, ids=ids)
        assert not core[0]
        assert labels[0] == labels[min(ids[0], ids[4])]


def test_crowd_across_the_antimeridian_is_one_cluster():
    lon = np.array([179.9999, 180.0, -180.0, -179.9999])
    labels, _ = cluster(np.stack([np.zeros(4), lon], axis=1), 30.0, 4, metric="haversine")
    assert set(labels.values()) == {0}


@pytest.mark.parametrize("pole", [-90.0, 90.0])
def test_crowd_around_a_pole_is_one_cluster(pole):
    lat, lon = np.full(12, pole * (1 - 1e-6)), np.arange(-180.0, 180.0, 30.0)
    labels, core = cluster(np.stack([lat, lon], axis=1), 25.0, 12, metric="haversine")
    assert set(labels.values()) == {0} and all(core.values())


@pytest.mark.parametrize("eps_m", [1.0, 1e3, 2e4, 1e5, 5e5])
def test_points_of_the_whole_sphere_equal_scikit_learn(eps_m):
    rng = np.random.default_rng(int(eps_m))
    n = 1500
    lat, lon = np.degrees(np.arcsin(rng.uniform(-1, 1, n))), rng.uniform(-180, 180, n)
    close = rng.random(n) < 0.7
    lat[close] = np.clip(rng.choice([-90, -84, -45, 0, 31.7, 60, 83.9, 90], close.sum()), -90, 90)
    lat[close] = np.clip(lat[close] + rng.normal(size=close.sum()) * eps_m / 6e4, -90, 90)
    dbscan = SlidingDBSCAN(eps_m, 3, 1e9)
    dbscan.update(np.arange(n), lat, lon, np.arange(n))
    _, labels, core = dbscan.snapshot()
    oracle = DBSCAN(eps=eps_m / EARTH_RADIUS_M, min_samples=3, metric="haversine", algorithm="ball_tree")
    oracle.fit(np.radians(np.stack([lat, lon], axis=1)))
    assert np.array_equal(np.flatnonzero(core), oracle.core_sample_indices_)
    pairs = set(zip(oracle.labels_[core].tolist(), labels[core].tolist()))
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
    assert np.array_equal(oracle.labels_ < 0, labels < 0)


@pytest.mark.parametrize("late_share", [0.0, 0.3])
@pytest.mark.parametrize("step", [1, 1_000])
def test_runs_of_clusters_are_the_snapshot_cluster_by_cluster(late_share, step):
    rng = np.random.default_rng(8)
    time_s = np.arange(3_000) / 10 - np.where(rng.random(3_000) < late_share, rng.uniform(0, 150, 3_000), 0.0)
    dbscan, at = SlidingDBSCAN(1.0, 4, 200.0, "euclidean"), rng.uniform(0, 45, (2, 3_000))
    for batch in np.array_split(np.arange(3_000), 7):
        dbscan.update(time_s[batch], *at[:, batch], step * rng.permutation(batch))
        ids, labels, core = dbscan.snapshot()
        runs, order = dbscan.clusters(), np.lexsort((ids, labels))[(labels < 0).sum() :]
        assert np.array_equal(runs.ids, ids[order]) and np.array_equal(runs.is_core, core[order])
        assert np.array_equal(runs.window_ids, np.sort(ids))
        expected, start = np.unique(labels[order], return_index=True)
        assert np.array_equal(runs.labels, expected) and np.array_equal(runs.start, start)
    assert len(runs.labels) > 20


def test_an_empty_window_has_no_runs():
    assert all(len(column) == 0 for column in SlidingDBSCAN(1.0, 4, 200.0).clusters())


def test_window_is_open_at_its_old_end():
    dbscan = SlidingDBSCAN(1.0, 1, 10.0, "euclidean")
    dbscan.update([0.0, 0.5, 10.0], [0, 0, 0], [0, 0, 0], [1, 2, 3])
    assert dbscan.snapshot()[0].tolist() == [2, 3]
    dbscan.advance(10.5)
    assert dbscan.snapshot()[0].tolist() == [3] and len(dbscan) == 1
    assert dbscan.advance(1e6) and len(dbscan) == 0 and dbscan.n_clusters == 0


def test_time_never_runs_backwards():
    dbscan = SlidingDBSCAN(1.0, 1, 10.0, "euclidean")
    dbscan.update([100.0], [0], [0], [1])
    dbscan.update([95.0], [0], [0], [2])
    dbscan.advance(50.0)
    assert dbscan.now_s == 100.0
    assert dbscan.snapshot()[0].tolist() == [2, 1]


def test_result_does_not_depend_on_the_batches():
    rng = np.random.default_rng(3)
    case = make_case(rng, "bridge", "euclidean", 3000)
    results = []
    for batch in (1, 17, 3000):
        dbscan = SlidingDBSCAN(0.03, 4, 500.0, "euclidean")
        for at in range(0, 3000, batch):
            part = slice(at, at + batch)
            dbscan.update(np.arange(3000)[part], case.lat[part], case.lon[part], np.arange(3000)[part])
        results.append([column.tolist() for column in dbscan.snapshot()])
    assert results[0] == results[1] == results[2]


def test_a_restored_window_has_the_same_labels_and_goes_on_alike():
    rng = np.random.default_rng(5)
    for metric in ("euclidean", "haversine"):
        case = make_case(rng, "moving_crowd", metric, 3000)
        time_s = np.arange(3000.0)
        dbscan = SlidingDBSCAN(case.eps, 5, 700.0, metric)
        dbscan.update(time_s[:2000], case.lat[:2000], case.lon[:2000], np.arange(2000))
        twin = SlidingDBSCAN.from_bytes(dbscan.to_bytes())
        for at in range(2000, 3000, 100):
            part = slice(at, at + 100)
            for a, b in zip(dbscan.snapshot(), twin.snapshot()):
                assert np.array_equal(a, b)
            changes = [
                d.update(time_s[part], case.lat[part], case.lon[part], np.arange(3000)[part]) for d in (dbscan, twin)
            ]
            for name in ("born", "died", "merged", "split", "moved", "grown", "shrunk"):
                a, b = (np.sort(getattr(c, name), axis=0).tolist() for c in changes)
                assert a == b, name


def test_from_bytes_refuses_other_bytes():
    with pytest.raises(ValueError, match="data"):
        SlidingDBSCAN.from_bytes(b"something else")


def test_members_are_the_points_with_the_label():
    rng = np.random.default_rng(8)
    for metric in ("euclidean", "haversine"):
        case = make_case(rng, "lattice", metric, 1500)
        dbscan = SlidingDBSCAN(case.eps, 4, 1e9, metric)
        dbscan.update(np.arange(1500), case.lat, case.lon, np.arange(1500))
        ids, labels, _ = dbscan.snapshot()
        for label in np.unique(labels[labels >= 0]).tolist():
            assert np.sort(dbscan.members(label)).tolist() == np.sort(ids[labels == label]).tolist()
        assert len(dbscan.members(10**9)) == 0


def test_memory_shrinks_to_what_the_window_needs_not_the_stream():
    dbscan = SlidingDBSCAN(0.01, 4, 500.0, "euclidean")
    rng = np.random.default_rng(0)
    sizes = []
    for at in range(0, 40_000, 500):
        dbscan.update(np.arange(at, at + 500), rng.random(500), at + rng.random(500), np.arange(at, at + 500))
        sizes.append(dbscan.nbytes)
    assert max(sizes[20:]) <= 1.2 * sizes[19]
