import numpy as np
import pytest

from processors.spatial import SlidingDBSCAN


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("eps_m", 0.0), ("eps_m", -1.0), ("eps_m", float("nan")), ("eps_m", float("inf")), ("eps_m", 1e6),
        ("min_samples", 0), ("min_samples", -3), ("min_samples", 2.5), ("min_samples", True),
        ("window_s", 0.0), ("window_s", float("nan")), ("metric", "manhattan"), ("min_cluster_size", 0),
    ],
)  # fmt: skip
def test_a_setting_out_of_range_is_named(name, value):
    settings = {"eps_m": 10.0, "min_samples": 3, "window_s": 60.0, name: value}
    with pytest.raises(ValueError, match=name):
        SlidingDBSCAN(**settings)


GOOD = {"time_s": [100.0, 101.0], "lat": [1.0, 2.0], "lon": [3.0, 4.0], "ids": [8, 9]}


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("time_s", [100.0, np.nan], ValueError), ("time_s", [100.0, 40.0], ValueError),
        ("lat", [0.0, np.inf], ValueError), ("lat", [0.0, 90.5], ValueError), ("lat", [0.0], ValueError),
        ("lon", [0.0, np.nan], ValueError), ("lon", [-181.0, 0.0], ValueError), ("lon", [[1.0, 2.0]], ValueError),
        ("ids", [5, 5], ValueError), ("ids", [2, 7], ValueError), ("ids", [1.0, 2.0], TypeError), ("ids", [1], ValueError),
        ("ids", np.array([5, 2**63], np.uint64), ValueError),
        ("time_s", np.array(["1970-01-01T00:01:41", "1970-01-01T00:01:42"], "datetime64[s]"), TypeError),
    ],
)  # fmt: skip
def test_a_bad_batch_is_named_and_changes_nothing(name, value, error):
    dbscan = SlidingDBSCAN(1000.0, 2, 60.0)
    dbscan.update([99.0, 100.0, 100.0], [1.0, 1.0, 1.0], [3.0, 3.0, 3.0], [1, 2, 3])
    before = dbscan.to_bytes()
    with pytest.raises(error, match=name):
        dbscan.update(**{**GOOD, name: value})
    assert dbscan.to_bytes() == before
    dbscan.update(**GOOD)
    assert len(dbscan) == 5


def test_an_id_may_come_again_once_its_point_has_expired():
    dbscan = SlidingDBSCAN(1.0, 1, 10.0, "euclidean")
    dbscan.update([0.0, 10.0], [0, 5], [0, 0], [7, 7])
    dbscan.update([20.0], [0], [0], [7])
    assert dbscan.snapshot()[0].tolist() == [7]
    with pytest.raises(ValueError, match="ids"):
        dbscan.update([29.9], [0], [0], [7])


def test_coordinates_too_far_from_the_origin_are_refused():
    with pytest.raises(ValueError, match="lat"):
        SlidingDBSCAN(1e-3, 1, 10.0, "euclidean").update([0.0], [1e9], [0.0], [1])


def test_an_empty_batch_changes_nothing():
    dbscan = SlidingDBSCAN(1.0, 1, 10.0, "euclidean")
    assert not dbscan.update([], [], [], np.zeros(0, np.int64))
    assert len(dbscan) == 0 and all(len(column) == 0 for column in dbscan.snapshot())


def test_advance_needs_a_finite_time():
    with pytest.raises(ValueError, match="time_s"):
        SlidingDBSCAN(1.0, 1, 10.0, "euclidean").advance(float("nan"))
