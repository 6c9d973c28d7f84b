import numpy as np
import pytest
from scipy.spatial import ConvexHull

from processors.spatial.hull import convex_hull, convex_hulls


def test_the_corners_are_those_of_quickhull():
    rng = np.random.default_rng(0)
    for _ in range(200):
        x, y = rng.integers(0, 12, (2, rng.integers(8, 60))).astype(float)
        flat = np.unique(np.stack([x, y], axis=1), axis=0)
        corners = convex_hull(x, y)
        expected = {tuple(corner) for corner in flat[ConvexHull(flat).vertices].tolist()}
        assert {(x[at], y[at]) for at in corners} == expected
        assert len(corners) == len(expected)


def test_the_corners_run_counter_clockwise():
    x, y = np.random.default_rng(1).normal(size=(2, 500))
    corners = convex_hull(x, y)
    ahead = np.roll(corners, -1)
    assert (x[corners] * y[ahead] - x[ahead] * y[corners]).sum() > 0


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(3.0, 4.0)], [0]),
        ([(1.0, 1.0)] * 4, [0]),
        ([(0.0, 0.0), (2.0, 4.0), (1.0, 2.0)], [0, 1]),
        ([(5.0, 7.0), (5.0, 6.0), (5.0, 9.0), (5.0, 9.0)], [1, 2]),
        ([], []),
    ],
)
def test_a_point_has_one_corner_and_a_line_two(points, expected):
    x, y = np.array(points).reshape(-1, 2).T
    assert convex_hull(x, y).tolist() == expected


def test_hulls_of_many_crowds_at_once_are_those_of_each() -> None:
    rng = np.random.default_rng(3)
    sizes = [1, 2, 5, 1, 40, 3, 200]
    x, y = rng.integers(0, 12, (2, sum(sizes))).astype(float)
    start = np.cumsum([0, *sizes[:-1]])
    each = [convex_hull(x[a : a + n], y[a : a + n]) + a for a, n in zip(start.tolist(), sizes, strict=True)]
    corners, numbers = convex_hulls(x, y, start)
    assert corners.tolist() == np.concatenate(each).tolist()
    assert numbers.tolist() == [len(hull) for hull in each]


def test_corners_on_upright_edges_are_named_once_and_the_first_of_coincident_points_is() -> None:
    points = [
        (0.0, 1.0),
        (2.0, 3.0),
        (0.0, 0.0),
        (0.0, 2.0),
        (2.0, 0.0),
        (2.0, 1.0),
        (1.0, 1.0),
        (2.0, 3.0),
        (0.0, 0.0),
    ]
    x, y = np.array(points).T
    assert convex_hull(x, y).tolist() == [2, 4, 1, 3]


@pytest.mark.parametrize("round_to", [0, 6])
def test_points_between_the_outermost_ones_are_left_out_without_a_corner_among_them(round_to: int) -> None:
    rng = np.random.default_rng(4)
    for spread in (1e-6, 1.0, 1e6):
        x, y = (rng.normal(40.0, spread, (2, 400))).round(round_to)
        flat = np.unique(np.stack([x, y], axis=1), axis=0)
        if np.linalg.matrix_rank(flat - flat[0]) < 2:
            continue
        corners = {(x[at], y[at]) for at in convex_hull(x, y).tolist()}
        assert corners == {tuple(corner) for corner in flat[ConvexHull(flat).vertices].tolist()}


@pytest.mark.parametrize(("east", "north"), [(1.0, 3.0), (-1.0, 1.0), (1.0, 0.0), (0.0, 1.0)])
def test_many_points_on_one_line_have_the_corners_at_its_ends(east: float, north: float) -> None:
    along = np.random.default_rng(5).permutation(40).astype(float)
    corners = convex_hull(east * along, north * along + 1.0)
    assert sorted(along[corners].tolist()) == [0.0, 39.0]


def test_many_points_at_one_place_have_the_first_as_their_corner() -> None:
    assert convex_hull(np.full(40, 3.0), np.full(40, 4.0)).tolist() == [0]
