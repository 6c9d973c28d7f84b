"""Which map tile a position lies in: the tiles that people use are the background that a crowd stands out from."""

import math

import numpy as np
import numpy.typing as npt

from processors.spatial import EARTH_RADIUS_M

TILE_DEG = 2.0
COLUMNS = int(360 / TILE_DEG)


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
