"""Map tiles: coarse ones are the background that a crowd stands out from, fine ones say which partition owns a position."""

import math

import numpy as np
import numpy.typing as npt

from processors.spatial import EARTH_RADIUS_M, TileGrid

TILE_DEG = 2.0
COLUMNS = int(360 / TILE_DEG)
# The side of a fine tile in radii of a crowd: a few percent of its points lie in the halo of another.
SIDE_IN_EPS = 64.0
SPREAD = np.uint64(0x9E3779B97F4A7C15)


def tile_of(lat: npt.NDArray[np.float64], lon: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The number of the tile of each position (degrees): int64[n] >= 0. O(n).

    >>> tile_of(np.array([40.7, 40.9]), np.array([-74.0, -73.8])).tolist()
    [11753, 11753]
    """
    row = np.clip(np.floor((lat + 90.0) / TILE_DEG), 0, 180 / TILE_DEG - 1)
    column = np.floor((lon + 180.0) / TILE_DEG) % COLUMNS
    return (row * COLUMNS + column).astype(np.int64)


def tile_area_m2(tile: int) -> float:
    """The area of a tile in square metres.

    >>> round(tile_area_m2(11753) / 1e6, -3)
    37000.0
    """
    south = math.radians(tile // COLUMNS * TILE_DEG - 90.0)
    north = south + math.radians(TILE_DEG)
    return EARTH_RADIUS_M**2 * math.radians(TILE_DEG) * (math.sin(north) - math.sin(south))


class Background:
    """The coarse tiles in which anything happened.

    >>> background = Background()
    >>> background.note(np.array([40.7]), np.array([-74.0]))
    >>> background.area_m2 == tile_area_m2(11753)
    True
    """

    def __init__(self, numbers: npt.NDArray[np.int64] | None = None) -> None:
        self.numbers = np.empty(0, np.int64) if numbers is None else numbers
        self._area_m2 = sum(map(tile_area_m2, self.numbers.tolist()))

    def note(self, lat: npt.NDArray[np.float64], lon: npt.NDArray[np.float64]) -> None:
        """Something happened at these positions. O(n)."""
        new = np.setdiff1d(tile_of(lat, lon), self.numbers)
        if len(new):
            self.numbers = np.union1d(self.numbers, new)
            self._area_m2 = sum(map(tile_area_m2, self.numbers.tolist()))

    @property
    def area_m2(self) -> float:
        """Their area in square metres."""
        return self._area_m2


class Regions:
    """The fine tiles of the map, dealt to partitions: neighbours share a crowd's work, whatever its city.

    >>> regions = Regions(eps_m=100.0, partitions=4)
    >>> lat, lon = np.array([40.70, 40.75]), np.array([-74.0, -74.0])
    >>> bool((regions.near(lat, lon, 200.0)[np.arange(2), regions.owners(lat, lon)]).all())
    True
    """

    def __init__(self, eps_m: float, partitions: int) -> None:
        self.partitions = partitions
        side = math.degrees(SIDE_IN_EPS * eps_m / EARTH_RADIUS_M)
        self.grid = TileGrid(height=side, width=360.0 / max(1, math.floor(360.0 / side)))

    def owners(self, lat: npt.NDArray[np.float64], lon: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """The partition that owns each position. O(n)."""
        return self._dealt(self.grid.tile_of(lat, lon))

    def near(
        self, lat: npt.NDArray[np.float64], lon: npt.NDArray[np.float64], radius_m: float
    ) -> npt.NDArray[np.bool_]:
        """Whether a tile of each partition is within a distance of each position (or a little farther): bool[n, partitions]."""
        near = np.zeros((len(lat), self.partitions), np.bool_)
        index, tiles = self.grid.tiles_near(lat, lon, radius_m)
        near[index, self._dealt(tiles)] = True
        return near

    def _dealt(self, tiles: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        mixed = (tiles.astype(np.uint64) * SPREAD) >> np.uint64(40)
        return (mixed % np.uint64(self.partitions)).astype(np.int64)
