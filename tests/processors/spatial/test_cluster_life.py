import numpy as np
import pytest
from streams_of_points import make_case

from processors.spatial import ClusterChanges, SlidingDBSCAN

LEFT, RIGHT, MIDDLE = -1.0, 1.0, 0.0


class Line:
    """A window of points on a line, eps 1, three make a core."""

    def __init__(self, window_s: float = 1000.0, min_cluster_size: int = 1) -> None:
        self.dbscan = SlidingDBSCAN(1.0, 3, window_s, "euclidean", min_cluster_size=min_cluster_size)
        self.time, self.id = 0.0, 0

    def add(self, *x: float, at: float | None = None) -> ClusterChanges:
        n = len(x)
        self.time = self.time + 1 if at is None else at
        ids = np.arange(self.id, self.id + n)
        self.id += n
        return self.dbscan.update(np.full(n, self.time), np.zeros(n), np.array(x, float), ids)

    def label(self, point: int) -> int:
        ids, labels, _ = self.dbscan.snapshot()
        return int(labels[ids == point][0])


def test_a_cluster_is_born_and_dies():
    line = Line(window_s=10.0)
    assert not line.add(0.0, 0.1)
    assert line.add(0.2).born.tolist() == [0]
    changes = line.dbscan.advance(100.0)
    assert changes.died.tolist() == [0] and len(changes.born) == 0


def test_on_a_merge_the_older_id_stays():
    line = Line()
    assert line.add(0.0, 0.1, 0.2).born.tolist() == [0]
    assert line.add(*np.linspace(3, 4, 9)).born.tolist() == [1]
    changes = line.add(1.1, 2.05)
    assert changes.merged.tolist() == [[1, 0]] and len(changes.died) == 0
    assert line.dbscan.n_clusters == 1 and line.label(0) == line.label(5) == 0


def test_on_a_split_the_side_with_more_core_points_keeps_the_id():
    line = Line(window_s=100.0)
    line.add(1.1, 2.05)
    line.add(0.0, 0.1, 0.2, at=50.0)
    line.add(*np.linspace(3, 4, 9), at=51.0)
    assert line.dbscan.n_clusters == 1
    old = line.label(2)
    changes = line.dbscan.advance(120.0)
    assert line.label(8) == old and line.label(2) != old
    assert changes.split.tolist() == [[line.label(2), old]]


def test_a_bridge_that_breaks_and_comes_back_restores_the_old_id():
    line = Line(window_s=100.0)
    line.add(1.1, 2.05)
    line.add(0.0, 0.1, 0.2, at=50.0)
    line.add(*np.linspace(3, 4, 9), at=51.0)
    old = line.label(2)
    new = int(line.dbscan.advance(120.0).split[0, 0])
    assert line.add(1.1, 2.05, at=121.0).merged.tolist() == [[new, old]]


def test_only_clusters_above_the_minimum_size_are_told():
    line = Line(min_cluster_size=5)
    assert not line.add(0.0, 0.1, 0.2)
    assert line.add(0.1, 0.1).born.tolist() == [0]
    assert line.label(0) == 0


def test_a_cluster_below_the_minimum_size_is_told_to_have_died():
    line = Line(window_s=10.0, min_cluster_size=5)
    line.add(0.0, 0.1, 0.2, at=0.0)
    assert line.add(0.1, 0.1, at=5.0).born.tolist() == [0]
    line.add(0.1, 0.1, at=9.0)
    assert line.dbscan.advance(11.0).died.tolist() == [0]
    assert line.label(4) == 0
    assert line.add(0.1, 0.1, at=12.0).born.tolist() == [0]


def test_growth_and_shrinkage_are_told_from_a_fifth_on():
    line = Line(window_s=10.0)
    line.add(*[0.0] * 10, at=0.0)
    assert not line.add(0.0, at=9.0)
    assert line.add(0.0, 0.0, 0.0, at=9.5).grown.tolist() == [0]
    assert line.add(0.0, at=10.5).shrunk.tolist() == [0]


def test_a_cluster_that_walks_away_has_moved_but_kept_its_id():
    line = Line(window_s=8.0)
    moved = []
    for step in range(60):
        changes = line.add(*(step * 0.2 + np.array([0.0, 0.05])))
        moved += changes.moved.tolist()
    assert set(moved) == {0} and 5 <= len(moved) <= 14
    assert line.dbscan.n_clusters == 1


@pytest.mark.parametrize("metric", ["euclidean", "haversine"])
@pytest.mark.parametrize("min_size", [1, 12])
def test_the_changes_add_up_to_the_live_clusters(metric, min_size):
    rng = np.random.default_rng(min_size)
    for kind in ("gaussians", "bridge", "moving_crowd", "one_venue"):
        case = make_case(rng, kind, metric, 3000)
        dbscan = SlidingDBSCAN(case.eps, 4, 400.0, metric, min_cluster_size=min_size)
        told: set[int] = set()
        for at in range(0, 3000, 50):
            batch = slice(at, at + 50)
            changes = dbscan.update(np.arange(3000.0)[batch], case.lat[batch], case.lon[batch], np.arange(3000)[batch])
            born = changes.born.tolist() + changes.split[:, 0].tolist()
            gone = changes.died.tolist() + changes.merged[:, 0].tolist()
            assert len(set(born)) == len(born) and not told & set(born)
            assert len(set(gone)) == len(gone) and set(gone) <= told
            told = (told | set(born)) - set(gone)
            assert set(changes.merged[:, 1].tolist()) <= told
            assert set(changes.live.tolist()) <= told
            _, labels, core = dbscan.snapshot()
            found, sizes = np.unique(labels[core], return_counts=True)
            assert told == set(found[sizes >= min_size].tolist())


def test_ids_are_never_used_twice():
    rng = np.random.default_rng(4)
    case = make_case(rng, "gaussians", "euclidean", 4000)
    dbscan = SlidingDBSCAN(0.02, 3, 200.0, "euclidean")
    highest, seen = -1, set()
    for at in range(4000):
        changes = dbscan.update([float(at)], case.lat[at : at + 1], case.lon[at : at + 1], [at])
        for cluster in changes.born.tolist() + changes.split[:, 0].tolist():
            assert cluster not in seen and cluster > highest
            seen.add(cluster)
        highest = max([highest, *seen])
    assert len(seen) > 100
