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
        dlat, dlon = self._margins(lat, radius)
        south, west = self._row(lat - dlat), self._column_unwrapped(lon - dlon)
        rows = self._row(lat + dlat) - south + 1
        columns = np.minimum(self._column_unwrapped(lon + dlon) - west + 1, self.around)
        tiles = rows * columns
        index = np.repeat(np.arange(len(lat), dtype=np.int64), tiles)
        at = np.arange(len(index)) - np.repeat(np.cumsum(tiles) - tiles, tiles)
        row, column = np.divmod(at, columns[index])
        return index, self._number(south[index] + row, (west[index] + column) % self.around)

    def is_near(self, tile: int, lat: Floats, lon: Floats, radius: float) -> NDArray[np.bool_]:
        """Whether each position is within `radius` of a tile, or a little farther."""
        index, tiles = self.tiles_near(lat, lon, radius)
        near = np.zeros(len(lat), np.bool_)
        near[index[tiles == tile]] = True
        return near

    def _margins(self, lat: Floats, radius: float) -> tuple[float, Floats]:
        """Half the latitude and the longitude extent of a disc around each position."""
        if self.metric == "euclidean":
            return radius * SLACK, np.full(len(lat), radius * SLACK)
        angle = radius * SLACK / EARTH_RADIUS_M + 1e-12
        cosine = np.cos(np.radians(lat))
        over_pole = np.abs(np.radians(lat)) + angle >= math.pi / 2
        ratio = np.where(over_pole, 1.0, math.sin(min(angle, math.pi / 2)) / np.maximum(cosine, 1e-300))
        return math.degrees(angle), np.where(over_pole, 180.0, np.degrees(np.arcsin(np.minimum(ratio, 1.0))) + 1e-9)

    def _row(self, lat: Floats) -> Ids:
        if self.metric == "haversine":
            lat = np.clip(lat, -90.0, 90.0)
        return np.floor((lat - self.origin_lat) / self.height).astype(np.int64)

    def _column_unwrapped(self, lon: Floats) -> Ids:
        return np.floor((lon - self.origin_lon) / self.width).astype(np.int64)

    def _column(self, lon: Floats) -> Ids:
        return self._column_unwrapped(lon) % self.around

    def _number(self, row: Ids, column: Ids) -> Ids:
        return row * self.around + column


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
