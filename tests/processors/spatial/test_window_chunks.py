import numpy as np
import pytest
from streams_of_points import make_case

from processors.spatial import ChunkLog, SlidingDBSCAN, pack_identities, rebuild
from processors.spatial.chunks import pack_points, unpack_points


@pytest.mark.parametrize("metric", ["euclidean", "haversine"])
def test_a_window_rebuilt_from_its_chunks_has_the_same_labels_and_ids(metric):
    rng = np.random.default_rng(21)
    case = make_case(rng, "gaussians", metric, 3000)
    dbscan = SlidingDBSCAN(case.eps, 4, 600.0, metric)
    log, store = ChunkLog("r", window_s=600.0, bucket_s=100.0), {}
    for at in range(0, 3000, 75):
        part = slice(at, at + 75)
        time_s, ids = np.arange(3000.0)[part] + rng.normal(size=75) * 20, np.arange(3000)[part]
        keep = time_s > dbscan.now_s - 600.0
        columns = time_s[keep], case.lat[part][keep], case.lon[part][keep], ids[keep]
        dbscan.update(*columns)
        store.update(log.append(*columns))
        for key in log.expired(dbscan.now_s):
            del store[key]
        if at % 600 == 0:
            twin = rebuild(dbscan.settings, store, pack_identities(dbscan))
            for a, b in zip(dbscan.snapshot(), twin.snapshot()):
                assert np.array_equal(a, b)
    assert max(key.bucket for key in store) - min(key.bucket for key in store) <= 8
    resumed = ChunkLog("r", window_s=600.0, bucket_s=100.0)
    resumed.resume(store)
    assert resumed.expired(1e9) == sorted(store)


def test_a_clock_that_ran_on_without_events_is_kept():
    dbscan = SlidingDBSCAN(1.0, 1, 10.0, "euclidean")
    log = ChunkLog("r", window_s=10.0, bucket_s=100.0)
    columns = np.array([1.0, 5.0]), np.zeros(2), np.zeros(2), np.array([1, 2])
    dbscan.update(*columns)
    dbscan.advance(12.0)
    twin = rebuild(dbscan.settings, log.append(*columns), pack_identities(dbscan))
    assert twin.now_s == 12.0 and twin.snapshot()[0].tolist() == [2]


def test_damaged_chunks_are_refused():
    good = pack_points(np.zeros(3), np.zeros(3), np.zeros(3), np.arange(3))
    assert unpack_points(good)[3].tolist() == [0, 1, 2]
    for bad in (b"", b"XXXX1234", good[:-5], good[:8] + b"\0" + good[9:]):
        with pytest.raises(ValueError, match="data"):
            unpack_points(bad)


def test_identities_of_other_points_are_refused():
    dbscan = SlidingDBSCAN(1.0, 1, 10.0, "euclidean")
    dbscan.update([1.0], [0.0], [0.0], [1])
    with pytest.raises(ValueError, match="identities"):
        rebuild(dbscan.settings, {}, pack_identities(dbscan))
    with pytest.raises(ValueError, match="identities"):
        rebuild(dbscan.settings, {}, b"?")
