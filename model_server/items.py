"""What the rules need to know of every item: availability, categories and place, as columns by row."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence, Set

import numpy as np
import numpy.typing as npt

from schemas.events import Item

EARTH_RADIUS_M = 6_371_000.0
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


def metres_between(lat: float, lon: float, other_lat: float, other_lon: float) -> float:
    """Great-circle distance in metres of two points (WGS84 degrees): ``distance_m`` for one pair, without arrays.

    >>> round(metres_between(0.0, 0.0, 0.0, 1.0))
    111195
    """
    phi, other_phi = math.radians(lat), math.radians(other_lat)
    half_chord = (
        math.sin((other_phi - phi) / 2) ** 2
        + math.cos(phi) * math.cos(other_phi) * math.sin(math.radians(other_lon - lon) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(half_chord)))


def distance_m(lat: float | Floats, lon: float | Floats, lats: Floats, lons: Floats) -> Floats:
    """Great-circle distances in metres from one point to many, or from each to its own (WGS84 degrees); NaN where a place is
    unknown.

    >>> float(distance_m(0.0, 0.0, np.array([0.0]), np.array([1.0]))[0].round())
    111195.0
    """
    phi, phis = np.radians(lat), np.radians(lats)
    half_chord = np.sin((phis - phi) / 2) ** 2 + np.cos(phi) * np.cos(phis) * np.sin(np.radians(lons - lon) / 2) ** 2
    distances: Floats = 2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(np.clip(half_chord, 0.0, 1.0)))
    return distances


class ItemTable:
    """Items by row, in order of first appearance; an item touched by an event exists before the catalogue announces it.

    Beyond ``limit`` items no new one is to be let in: ``admits`` says so, and whoever takes in events and items asks it.

    >>> items = ItemTable()
    >>> items.upsert([Item(item_id="cafe", categories=["coffee"], lat=40.7, lon=-74.0), Item(item_id="bar", available=False)])
    >>> items.touch(["cafe", "gym"])
    >>> items.available.tolist(), items.in_categories({"coffee"}).tolist()
    ([True, False, True], [True, False, False])
    """

    def __init__(self, limit: int = 2**62) -> None:
        self._limit = limit
        self.clear()

    def clear(self) -> None:
        """Know no item any more."""
        self.item_ids: list[str] = []
        self.categories: list[tuple[str, ...]] = []
        self._main_category: list[str | None] = []
        self.version: list[int] = []
        self.withdrawn: set[str] = set()
        self._row: dict[str, int] = {}
        self._rows_in: dict[str, set[int]] = defaultdict(set)
        self._available = np.ones(1024, np.bool_)
        self._lat = np.full(1024, np.nan)
        self._lon = np.full(1024, np.nan)

    def __len__(self) -> int:
        return len(self.item_ids)

    @property
    def available(self) -> Mask:
        """bool[rows]: not withdrawn."""
        return self._available[: len(self)]

    def row(self, item_id: str) -> int | None:
        """The row of a known item. O(1)."""
        return self._row.get(item_id)

    def admits(self, item_id: str) -> bool:
        """Whether an item is known or there is room for it. O(1)."""
        return item_id in self._row or len(self) < self._limit

    def is_available(self, item_id: str) -> bool:
        """Known and not withdrawn. O(1)."""
        return item_id in self._row and item_id not in self.withdrawn

    def are_available(self, item_ids: Set[str]) -> bool:
        """All known and none withdrawn. O(items)."""
        return item_ids <= self._row.keys() and self.withdrawn.isdisjoint(item_ids)

    def place(self, item_id: str) -> tuple[float, float] | None:
        """Where an item is (WGS84 degrees), if that is known."""
        row = self._row.get(item_id)
        if row is None:
            return None
        lat, lon = self._lat.item(row), self._lon.item(row)
        return None if math.isnan(lat) else (lat, lon)

    def places(self, item_ids: Iterable[str]) -> tuple[Floats, Floats]:
        """The latitudes and longitudes of these items (WGS84 degrees), NaN where a place is not known. O(items)."""
        row_of = self._row.get
        rows = np.array([row_of(item_id, -1) for item_id in item_ids], np.int64)
        known = rows >= 0
        return np.where(known, self._lat[rows], np.nan), np.where(known, self._lon[rows], np.nan)

    def categories_of(self, item_id: str) -> tuple[str, ...]:
        """The categories of an item; none if it is unknown."""
        row = self._row.get(item_id)
        return self.categories[row] if row is not None else ()

    def main_categories(self, item_ids: Iterable[str]) -> list[str | None]:
        """The first category of each item; None for one without any. O(items)."""
        row_of, main = self._row.get, self._main_category
        return [None if (row := row_of(item_id)) is None else main[row] for item_id in item_ids]

    def touch(self, item_ids: Iterable[str]) -> None:
        """These items exist."""
        for item_id in item_ids:
            if item_id not in self._row:
                self._append(item_id)

    def locate(self, item_id: str, lat: float, lon: float) -> None:
        """An event told where an item is; the catalogue's own word is not overruled."""
        row = self._row[item_id]
        if np.isnan(self._lat[row]):
            self._lat[row], self._lon[row] = lat, lon

    def upsert(self, items: Sequence[Item]) -> None:
        """Admit or change items; an older version of an item changes nothing, a negative one (a tombstone) always does."""
        for item in items:
            row = self._row.get(item.item_id)
            if row is None:
                row = self._append(item.item_id)
            elif 0 <= item.version < self.version[row]:
                continue
            self.version[row] = item.version
            self._available[row] = item.available
            if item.available:
                self.withdrawn.discard(item.item_id)
            else:
                self.withdrawn.add(item.item_id)
            self._lat[row] = np.nan if item.lat is None else item.lat
            self._lon[row] = np.nan if item.lon is None else item.lon
            for category in self.categories[row]:
                self._rows_in[category].discard(row)
            self.categories[row] = tuple(item.categories)
            self._main_category[row] = item.categories[0] if item.categories else None
            for category in item.categories:
                self._rows_in[category].add(row)

    def in_categories(self, names: Iterable[str]) -> Mask:
        """bool[rows]: in at least one of the categories. O(rows)."""
        mask = np.zeros(len(self), np.bool_)
        for name in names:
            rows = self._rows_in.get(name)
            if rows:
                mask[np.fromiter(rows, np.int64, len(rows))] = True
        return mask

    def within(self, lat: float, lon: float, radius_m: float) -> Mask:
        """bool[rows]: not farther than ``radius_m`` from a point; an item without a place is not. O(rows)."""
        rows = len(self)
        near: Mask = distance_m(lat, lon, self._lat[:rows], self._lon[:rows]) <= radius_m
        return near

    def _append(self, item_id: str) -> int:
        row = self._row[item_id] = len(self.item_ids)
        self.item_ids.append(item_id)
        self.categories.append(())
        self._main_category.append(None)
        self.version.append(-1)
        if row == len(self._available):
            self._available = np.concatenate((self._available, np.ones(row, np.bool_)))
            self._lat = np.concatenate((self._lat, np.full(row, np.nan)))
            self._lon = np.concatenate((self._lon, np.full(row, np.nan)))
        return row
