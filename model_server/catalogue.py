"""The catalogue as dense arrays: one row per item, tensors that grow on the device."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from schemas.events import Item

EARTH_RADIUS_KM = 6371.0
NO_CATEGORY = 0

Array = npt.NDArray[Any]


def unit_vectors(lat: Tensor, lon: Tensor) -> Tensor:
    """Points on the unit sphere, float32[n, 3], from WGS84 degrees; the chord between two gives their distance exactly."""
    lat, lon = torch.deg2rad(lat.double()), torch.deg2rad(lon.double())
    return torch.stack((lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()), -1).float()


def arc_km(a: Tensor, b: Tensor) -> Tensor:
    """Great-circle distance in km of points on the unit sphere [..., 3] (broadcast); float32 resolves about a metre.

    >>> equator = unit_vectors(torch.tensor([0.0, 0.0]), torch.tensor([0.0, 1.0]))
    >>> round(float(arc_km(equator[0], equator[1])), 1)
    111.2
    """
    chord = (a - b).square().sum(-1).sqrt()
    return 2 * EARTH_RADIUS_KM * torch.asin((chord / 2).clamp(max=1.0))


class Catalogue:
    """Items by row: place, category and availability.

    Rows are never reused, so a row means the same item for the life of a process and of its checkpoints. An item is
    *rankable* once somebody touched it or the catalogue announced it, and while it is available.

    >>> catalogue = Catalogue(torch.device("cpu"))
    >>> catalogue.rows_of(["cafe", "gym", "cafe"])
    [0, 1, 0]
    >>> len(catalogue), catalogue.item_ids
    (2, ['cafe', 'gym'])
    """

    def __init__(self, device: torch.device, capacity: int = 1024) -> None:
        self.device = device
        self.item_ids: list[str] = []
        self.category_names: list[str] = [""]
        self._row: dict[str, int] = {}
        self._category: dict[str, int] = {"": NO_CATEGORY}
        self.position = torch.zeros((capacity, 3), device=device)
        self.has_place = torch.zeros(capacity, dtype=torch.bool, device=device)
        self.category = torch.zeros(capacity, dtype=torch.long, device=device)
        self.available = torch.ones(capacity, dtype=torch.bool, device=device)
        self.known = torch.zeros(capacity, dtype=torch.bool, device=device)

    _TENSORS = ("position", "has_place", "category", "available", "known")

    def __len__(self) -> int:
        return len(self.item_ids)

    def row(self, item_id: str) -> int | None:
        """The row of an item that has one. O(1)."""
        return self._row.get(item_id)

    def rows_of(self, item_ids: Sequence[str]) -> list[int]:
        """Rows of these items; an item never heard of is given the next row. Amortised O(items)."""
        rows = []
        for item_id in item_ids:
            row = self._row.get(item_id)
            if row is None:
                row = self._row[item_id] = len(self.item_ids)
                self.item_ids.append(item_id)
            rows.append(row)
        self._grow(len(self.item_ids))
        return rows

    def category_code(self, name: str) -> int:
        """The code of a category name, a new one if need be; the empty name is ``NO_CATEGORY``."""
        code = self._category.get(name)
        if code is None:
            code = self._category[name] = len(self.category_names)
            self.category_names.append(name)
        return code

    def upsert(self, items: Sequence[Item]) -> None:
        """Admit or change items; the first category is the one that experts use. O(items)."""
        rows = self.rows_of([item.item_id for item in items])
        available, kinds = {}, {}
        for row, item in zip(rows, items):
            available[row] = item.available
            if item.categories:
                kinds[row] = self.category_code(item.categories[0])
        of = self._on_device(list(available), torch.long)
        self.known[of] = True
        self.available[of] = self._on_device(list(available.values()), torch.bool)
        self.category[self._on_device(list(kinds), torch.long)] = self._on_device(list(kinds.values()), torch.long)
        self.place(*placed(zip(rows, ((item.lat, item.lon) for item in items))))

    def place(self, rows: Array, lat: Array, lon: Array) -> None:
        """Say where rows int64 [n] are (float64 [n], WGS84 degrees); of several words on one the last holds. O(n)."""
        rows, last = np.unique(rows[::-1], return_index=True)
        at = torch.from_numpy(rows).to(self.device)
        degrees = (torch.from_numpy(each[::-1][last]) for each in (lat, lon))
        self.position[at] = unit_vectors(*degrees).to(self.device)
        self.has_place[at] = True

    def _on_device(self, values: list[Any], dtype: torch.dtype) -> Tensor:
        return torch.tensor(values, dtype=dtype, device=self.device)

    def rankable(self) -> Tensor:
        """bool[rows]: known to the catalogue or touched by somebody, and not withdrawn."""
        rows = len(self)
        return self.known[:rows] & self.available[:rows]

    def distance_km(self, a: Tensor, b: Tensor) -> Tensor:
        """Great-circle distance of items by row (broadcast), float32 km; 0 where a place is unknown."""
        both = self.has_place[a] & self.has_place[b]
        return arc_km(self.position[a], self.position[b]) * both

    def state(self) -> dict[str, object]:
        """Everything, as tensors and plain lists."""
        rows = len(self)
        tensors = {name: getattr(self, name)[:rows].cpu().clone() for name in self._TENSORS}
        return {"item_ids": list(self.item_ids), "category_names": list(self.category_names), **tensors}

    def load_state(self, state: dict[str, object]) -> None:
        """Take over what ``state`` gave; ValueError if a column is missing or of the wrong length."""
        item_ids, names = state.get("item_ids"), state.get("category_names")
        if not isinstance(item_ids, list) or not isinstance(names, list):
            raise ValueError("state of a catalogue has no item_ids or category_names")
        columns = {name: state.get(name) for name in self._TENSORS}
        for name, column in columns.items():
            if not isinstance(column, Tensor) or len(column) != len(item_ids):
                raise ValueError(f"catalogue column {name} does not have {len(item_ids)} rows")
        self.item_ids, self.category_names = list(item_ids), list(names)
        self._row = {item_id: row for row, item_id in enumerate(item_ids)}
        self._category = {name: code for code, name in enumerate(names)}
        self._grow(len(item_ids))
        for name, column in columns.items():
            getattr(self, name)[: len(item_ids)] = column

    def _grow(self, rows: int) -> None:
        capacity = len(self.known)
        if rows > capacity:
            for name in self._TENSORS:
                fill = 1.0 if name == "available" else 0.0
                setattr(self, name, grown(getattr(self, name), max(2 * capacity, rows), fill))


def placed(rows: Iterable[tuple[int, tuple[float | None, float | None]]]) -> tuple[Array, Array, Array]:
    """Of rows and their places in degrees those whose place is known, as columns int64 [n], float64 [n], float64 [n].

    >>> [column.tolist() for column in placed([(3, (40.7, -74.0)), (4, (None, None))])]
    [[3], [40.7], [-74.0]]
    """
    known = [(row, lat, lon) for row, (lat, lon) in rows if lat is not None and lon is not None]
    columns = np.array(known, np.float64).reshape(-1, 3).T
    return columns[0].astype(np.int64), columns[1], columns[2]


def grown(tensor: Tensor, rows: int, fill: float = 0.0) -> Tensor:
    """The tensor with ``rows`` rows, the new ones filled with ``fill``."""
    more = torch.full((rows - len(tensor), *tensor.shape[1:]), fill, dtype=tensor.dtype, device=tensor.device)
    return torch.cat((tensor, more))
