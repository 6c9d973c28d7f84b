"""Where crowds lie: held against the same sums written with numpy."""

import numpy as np
import pytest

from processors.spatial import EARTH_RADIUS_M
from processors.spatial.extents import extents
from processors.spatial.hull import convex_hull


def unit_vectors(lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    phi, theta = np.radians(lat), np.radians(lon)
    return np.stack([np.cos(phi) * np.cos(theta), np.cos(phi) * np.sin(theta), np.sin(phi)])


def some_places(number: int, seed: int, lon: float = 139.7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    lat, east = 35.6 + rng.normal(0, 3e-4, number), lon + rng.normal(0, 3e-4, number)
    return lat, (east + 180.0) % 360.0 - 180.0


@pytest.mark.parametrize("lon", [139.7, 180.0, -180.0])
def test_sums_and_spread_are_those_of_the_points(lon: float) -> None:
    lat, lon_of = some_places(500, 1, lon)
    found = extents(lat, lon_of, np.array([0]))
    sums = unit_vectors(lat, lon_of).sum(axis=1)
    assert np.concatenate([found.x, found.y, found.z]) == pytest.approx(sums, rel=1e-12)
    centre = sums / np.linalg.norm(sums)
    away_m = EARTH_RADIUS_M * np.linalg.norm(unit_vectors(lat, lon_of) - centre[:, None], axis=0)
    assert found.spread_m2[0] == pytest.approx((away_m**2).sum(), rel=1e-4)


@pytest.mark.parametrize("lon", [139.7, 180.0])
def test_the_outline_is_the_hull_of_the_points_around_their_centre(lon: float) -> None:
    lat, lon_of = some_places(300, 2, lon)
    found = extents(lat, lon_of, np.array([0]))
    x, y, z = unit_vectors(lat, lon_of).sum(axis=1)
    middle = np.arctan2(z, np.hypot(x, y))
    east = (lon_of - np.degrees(np.arctan2(y, x)) + 180.0) % 360.0 - 180.0
    north_m, east_m = EARTH_RADIUS_M * np.radians([lat - np.degrees(middle), east * np.cos(middle)])
    assert found.corners.tolist() == convex_hull(east_m.round(1), north_m.round(1)).tolist()
    assert found.n_corners.tolist() == [len(found.corners)]


def test_extents_of_many_crowds_at_once_are_those_of_each() -> None:
    sizes = [1, 40, 2, 300]
    lat, lon = some_places(sum(sizes), 3)
    start = np.cumsum([0, *sizes[:-1]])
    found = extents(lat, lon, start)
    each = [extents(lat[a : a + n], lon[a : a + n], np.array([0])) for a, n in zip(start, sizes, strict=True)]
    for name in ("x", "y", "z", "spread_m2", "n_corners"):
        assert getattr(found, name).tolist() == [getattr(one, name)[0] for one in each]
    corners = np.concatenate([one.corners + a for one, a in zip(each, start, strict=True)])
    assert found.corners.tolist() == corners.tolist()


def test_a_single_point_is_its_own_outline_without_spread() -> None:
    found = extents(np.array([10.0]), np.array([20.0]), np.array([0]))
    assert found.spread_m2[0] == pytest.approx(0.0, abs=1e-6)
    assert (found.corners.tolist(), found.n_corners.tolist()) == ([0], [1])


def test_no_crowds_have_no_extents() -> None:
    none = extents(np.empty(0), np.empty(0), np.empty(0, np.int64))
    assert all(len(column) == 0 for column in none)
