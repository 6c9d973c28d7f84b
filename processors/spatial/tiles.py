"""Map tiles: who owns a point, who else must see it, and what a tile tells the union stage.

A tile runs its own `SlidingDBSCAN` over its points and a *halo*: the points within 2 eps of it. Within eps of the tile
every neighbourhood is then complete, so the core status of the tile's own points and of everything they can touch is
exact, and a point of the outer halo that looks core is core. The clusters of a tile are therefore true, but may be parts
of larger ones; the parts share core points near the border, which each tile names in its report (`border_*`).
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numba import njit
from numpy.typing import NDArray

from processors.spatial.dbscan import SlidingDBSCAN
from processors.spatial.geometry import EARTH_RADIUS_M
from processors.spatial.life import NO_PAIRS
from processors.spatial.validation import Metric

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
SLACK = 1 + 1e-6  # a halo may be larger than needed, never smaller
COLUMN_LIMIT = 1 << 31


class TileGrid(msgspec.Struct, frozen=True, kw_only=True):
    """A partition of the plane or the sphere into rectangles of `height` by `width` (degrees, or units of y and x).

    Tiles are numbered by row and column from the origin; on the sphere `width` must divide 360.
    """

    height: float
    width: float
    metric: Metric = "haversine"
    origin_lat: float = -90.0
    origin_lon: float = -180.0

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number, not {value!r}")
        if self.metric == "haversine" and abs(360.0 / self.width - round(360.0 / self.width)) > 1e-9:
            raise ValueError(f"width must divide 360 degrees, not {self.width!r}")

    @property
    def around(self) -> int:
        """Tiles around the sphere; in the plane, a number larger than any column."""
        return round(360.0 / self.width) if self.metric == "haversine" else COLUMN_LIMIT

    def tile_of(self, lat: Floats, lon: Floats) -> Ids:
        """The tile that owns each position: int64[n]. O(n).

        >>> grid = TileGrid(height=2.0, width=2.0)
        >>> grid.tile_of(np.array([40.7, 40.9]), np.array([-74.0, 180.0])) == grid.tile_of(np.array([41.0]), np.array([-180.0]))
        array([False,  True])
        """
        return self._number(self._row(lat), self._column(lon))

    def tiles_near(self, lat: Floats, lon: Floats, radius: float) -> tuple[Ids, Ids]:
        """(index of the position, tile) for every tile, its owner included, within `radius` (metres) of a position.

        A few tiles that are a little farther may be named too. O(n) and the tiles named.
        """
        sphere = self.metric == "haversine"
        angle = radius * SLACK / EARTH_RADIUS_M + 1e-12 if sphere else radius * SLACK
        shape = self.height, self.width, self.origin_lat, self.origin_lon, self.around
        return _tiles_near(lat, lon, angle, sphere, *shape)  # type: ignore[no-any-return]

    def is_near(self, tile: int, lat: Floats, lon: Floats, radius: float) -> NDArray[np.bool_]:
        """Whether each position is within `radius` of a tile, or a little farther."""
        index, tiles = self.tiles_near(lat, lon, radius)
        near = np.zeros(len(lat), np.bool_)
        near[index[tiles == tile]] = True
        return near

    def _row(self, lat: Floats) -> Ids:
        if self.metric == "haversine":
            lat = np.clip(lat, -90.0, 90.0)
        return np.floor((lat - self.origin_lat) / self.height).astype(np.int64)

    def _column(self, lon: Floats) -> Ids:
        return np.floor((lon - self.origin_lon) / self.width).astype(np.int64) % self.around

    def _number(self, row: Ids, column: Ids) -> Ids:
        return row * self.around + column


@njit(cache=True)
def _tiles_near(lat, lon, angle, sphere, height, width, origin_lat, origin_lon, around):  # type: ignore[no-untyped-def]
    boxes = np.empty((len(lat), 4), np.int64)  # southern row, rows, western column, columns
    total = 0
    for point in range(len(lat)):
        dlat, dlon = _margins(lat[point], angle, sphere)
        low, high = lat[point] - dlat, lat[point] + dlat
        if sphere:
            low, high = max(low, -90.0), min(high, 90.0)
        south, west = math.floor((low - origin_lat) / height), math.floor((lon[point] - dlon - origin_lon) / width)
        rows = math.floor((high - origin_lat) / height) - south + 1
        columns = min(math.floor((lon[point] + dlon - origin_lon) / width) - west + 1, around)
        boxes[point] = south, rows, west, columns
        total += rows * columns
    index, tiles, at = np.empty(total, np.int64), np.empty(total, np.int64), 0
    for point in range(len(lat)):
        south, rows, west, columns = boxes[point]
        for row in range(south, south + rows):
            for column in range(west, west + columns):
                index[at], tiles[at] = point, row * around + column % around
                at += 1
    return index, tiles


@njit(cache=True)
def _margins(lat, angle, sphere):  # type: ignore[no-untyped-def]
    """Half the latitude and the longitude extent of a disc around a position."""
    if not sphere:
        return angle, angle
    if abs(math.radians(lat)) + angle >= math.pi / 2:
        return math.degrees(angle), 180.0
    ratio = math.sin(min(angle, math.pi / 2)) / max(math.cos(math.radians(lat)), 1e-300)
    return math.degrees(angle), math.degrees(math.asin(min(ratio, 1.0))) + 1e-9


class TileReport(msgspec.Struct, frozen=True):
    """What a tile tells the union stage: its clusters, and the core points near its border with their cluster.

    `lineage` says which of its clusters took in (parts of) which of those that it had at its last report, other than themselves;
    without it a cluster that another one took in, within the tile, is one that died.
    """

    tile: int
    labels: Ids  # ascending
    own_points: Ids  # per label: core points that the tile owns
    border_ids: Ids  # core points within eps of the border, on either side
    border_labels: Ids
    lineage: Ids = NO_PAIRS  # [n, 2]: label at the last report, label now

    def to_bytes(self) -> bytes:
        """The report as a message, for `from_bytes`."""
        columns = (getattr(self, name) for name in self.__struct_fields__[1:])
        return msgspec.msgpack.encode((self.tile, *(column.astype("<i8", copy=False).tobytes() for column in columns)))

    @classmethod
    def from_bytes(cls, data: bytes) -> TileReport:
        """The report of `to_bytes`. Raises msgspec.DecodeError if `data` is something else."""
        tile, *columns = msgspec.msgpack.decode(data, type=tuple[int, bytes, bytes, bytes, bytes, bytes])
        labels, own_points, border_ids, border_labels, lineage = (np.frombuffer(column, "<i8") for column in columns)
        return cls(tile, labels, own_points, border_ids, border_labels, lineage.reshape(-1, 2))


def report_of(dbscan: SlidingDBSCAN, grid: TileGrid, tile: int) -> TileReport:
    """The report of a tile whose window (its points and its halo) is `dbscan`. O(points)."""
    ids, labels, core = dbscan.snapshot()
    lat, lon = dbscan.positions()
    ids, labels, lat, lon = ids[core], labels[core], lat[core], lon[core]
    owned = grid.tile_of(lat, lon) == tile
    index, tiles = grid.tiles_near(lat, lon, dbscan.settings.eps_m)
    border = np.zeros(len(ids), np.bool_)
    border[index[tiles != tile]] = True
    border |= ~owned
    present, inverse = np.unique(labels, return_inverse=True)
    own_points = np.bincount(inverse, weights=owned, minlength=len(present)).astype(np.int64)
    return TileReport(tile, present, own_points, ids[border], labels[border])


def warm_up() -> None:
    """Compile the kernel ahead of the first position."""
    TileGrid(height=1.0, width=1.0).tiles_near(np.zeros(1), np.zeros(1), 100.0)
