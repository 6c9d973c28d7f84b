import numpy as np
import pytest

from processors.spatial import CrowdTracker, SlidingDBSCAN
from processors.spatial.summary import hull_of, offsets_of

HOUR = 3600.0


def crowd(lat, lon, n, rng, spread_m=20.0):
    return lat + rng.normal(size=n) * spread_m / 111_195, lon + rng.normal(size=n) * spread_m / 111_195 / np.cos(
        np.radians(lat)
    )


def test_a_summary_tells_where_who_what_and_when():
    rng = np.random.default_rng(1)
    lat, lon = crowd(40.7, -74.0, 200, rng)
    noise_lat, noise_lon = rng.uniform(40.5, 40.9, 300), rng.uniform(-74.2, -73.8, 300)
    time_s = np.full(500, 5 * 86400 + 19.5 * HOUR)  # Tuesday 1970-01-06, 19:30
    users, items = np.arange(500) % 50, np.where(np.arange(500) % 3 == 0, 7, 8)
    tracker = CrowdTracker(SlidingDBSCAN(100.0, 8, 7 * HOUR), min_users=5)
    told = tracker.update(
        time_s,
        np.concatenate([lat, noise_lat]),
        np.concatenate([lon, noise_lon]),
        np.arange(500),
        users,
        items,
        items + 100,
    )
    (summary,) = told.summaries
    assert summary.lat == pytest.approx(40.7, abs=1e-4) and summary.lon == pytest.approx(-74.0, abs=1e-4)
    assert summary.radius_m == pytest.approx(20 * np.sqrt(2), rel=0.15)
    assert summary.count == 200 and summary.distinct_users == 50
    assert summary.top_items == [(8, 133), (7, 67)]
    assert summary.top_categories == [(108, 133), (107, 67)]
    assert summary.hour_of_week[24 + 19] == 200 == sum(summary.hour_of_week)
    assert summary.significance > 20 and summary.age_s == 0.0
    assert 3 <= len(summary.hull) <= 32


def test_the_hull_encloses_every_point():
    rng = np.random.default_rng(2)
    lat, lon = crowd(-60.0, 179.9999, 400, rng, spread_m=500.0)
    north, east = offsets_of(lat, lon, (-60.0, 179.9999), "haversine")
    assert np.hypot(north, east).max() < 3000
    corners = hull_of(north, east)
    flat = np.stack([east, north], axis=1)
    for a, b in zip(corners, np.roll(corners, -1)):
        (ex, ey), offset = flat[b] - flat[a], flat - flat[a]
        assert (ex * offset[:, 1] - ey * offset[:, 0] >= -1e-6).all()


def test_a_crowd_of_too_few_people_is_never_told():
    tracker = CrowdTracker(SlidingDBSCAN(100.0, 3, HOUR), min_users=3)
    told = tracker.update(np.arange(9.0), np.zeros(9), np.zeros(9), np.arange(9), users=np.arange(9) % 2)
    assert told.summaries == [] and told.withdrawn == []
    assert tracker.summary(0) is None


def test_a_told_crowd_that_people_leave_is_withdrawn():
    tracker = CrowdTracker(SlidingDBSCAN(100.0, 3, 100.0), min_users=3)
    zeros = np.zeros(9)
    assert tracker.update(np.zeros(9), zeros, zeros, np.arange(9), users=np.arange(9)).summaries
    tracker.update(np.full(9, 99.0), zeros, zeros, np.arange(9, 18), users=np.zeros(9, int))
    told = tracker.update(np.full(9, 101.0), zeros, zeros, np.arange(18, 27), users=np.zeros(9, int))
    told2 = tracker.update(np.full(9, 102.0), zeros, zeros, np.arange(27, 36), users=np.zeros(9, int))
    assert told.withdrawn + told2.withdrawn == [0] and not told2.summaries


def test_the_budget_bounds_the_points_read_and_nothing_is_forgotten():
    rng = np.random.default_rng(6)
    tracker = CrowdTracker(SlidingDBSCAN(50.0, 4, 1e9), min_users=1, budget=0.5)
    n, read, told = 4000, 0, set()
    lat, lon = np.repeat(np.arange(40), 100) * 0.01, rng.normal(size=n) * 1e-4
    order = rng.permutation(n)
    for at in range(0, n, 100):
        batch = order[at : at + 100]
        changes = tracker.update(np.full(100, float(at)), lat[batch], lon[batch], batch, users=batch)
        read += sum(s.count for s in changes.summaries)
        told |= {s.cluster_id for s in changes.summaries}
    assert read <= 1000 + 0.5 * n
    for at in range(200):
        changes = tracker.update([float(n + at)], [80.0], [float(at % 90)], [n + at], users=[0])
        told |= {s.cluster_id for s in changes.summaries}
        tracker._credit += 1000
    assert told == set(np.unique(tracker.dbscan.snapshot()[1]).tolist()) - {-1}


def test_a_summary_equals_one_from_the_snapshot():
    rng = np.random.default_rng(7)
    n = 2000
    lat, lon, users = rng.uniform(0, 0.05, n), rng.uniform(0, 0.05, n), rng.integers(0, 300, n)
    tracker = CrowdTracker(SlidingDBSCAN(120.0, 4, 900.0), min_users=2)
    for at in range(0, n, 100):
        batch = slice(at, at + 100)
        tracker.update(np.arange(n)[batch], lat[batch], lon[batch], np.arange(n)[batch], users[batch])
    ids, labels, _ = tracker.dbscan.snapshot()
    for label in np.unique(labels[labels >= 0]).tolist():
        members = ids[labels == label]
        summary = tracker.summary(label)
        assert summary.count == len(members) and summary.distinct_users == len(np.unique(users[members]))
        assert summary.lat == pytest.approx(lat[members].mean(), abs=1e-6)


def test_a_restored_tracker_goes_on_alike():
    rng = np.random.default_rng(9)
    tracker = CrowdTracker(SlidingDBSCAN(200.0, 4, 500.0), min_users=2, budget=1.0)
    twin = None
    for at in range(0, 2000, 100):
        time_s, ids = np.arange(at, at + 100.0), np.arange(at, at + 100)
        lat, lon, users = rng.uniform(0, 0.03, 100), rng.uniform(0, 0.03, 100), rng.integers(0, 99, 100)
        told = tracker.update(time_s, lat, lon, ids, users)
        if twin is not None:
            again = twin.update(time_s, lat, lon, ids, users)
            assert [(s.cluster_id, s.count) for s in again.summaries] == [
                (s.cluster_id, s.count) for s in told.summaries
            ]
        if at == 900:
            twin = CrowdTracker.from_bytes(tracker.to_bytes())


@pytest.mark.parametrize(("name", "value"), [("users", [1, 2]), ("items", [1]), ("categories", [1, 2, 3, 4])])
def test_a_bad_column_is_named_and_changes_nothing(name, value):
    tracker = CrowdTracker(SlidingDBSCAN(100.0, 3, HOUR))
    with pytest.raises(ValueError, match=name):
        tracker.update(np.arange(3.0), np.zeros(3), np.zeros(3), np.arange(3), **{"users": np.arange(3), name: value})
    assert len(tracker.dbscan) == 0
    with pytest.raises(ValueError, match="min_users"):
        CrowdTracker(SlidingDBSCAN(100.0, 3, HOUR), min_users=0)
