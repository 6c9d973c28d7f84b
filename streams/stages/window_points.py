"""Who and what the points of a sliding window are, by running point number."""

from collections.abc import Mapping

import numpy as np

from processors.code_index import Ints

COLUMNS: dict[str, type[np.generic]] = {
    "time_ms": np.int64, "user": np.int64, "item": np.int64, "lat": np.float64, "lon": np.float64,
    "source": np.int64, "flags": np.int8,
}  # fmt: skip


class WindowPoints:
    """Columns of points that were numbered in order of arrival; the oldest numbers are dropped when nothing needs them.

    >>> points = WindowPoints()
    >>> row = {name: np.zeros(2, kind) for name, kind in COLUMNS.items()}
    >>> points.append(row).tolist(), points.append(row).tolist()
    ([0, 1], [2, 3])
    >>> points.drop_before(3)
    >>> points.select(np.array([3]))["user"].tolist(), len(points)
    ([0], 1)
    """

    def __init__(self) -> None:
        self._base = 0
        self._end = 0
        self._columns = {name: np.empty(0, kind) for name, kind in COLUMNS.items()}

    def __len__(self) -> int:
        return self._end - self._base

    def append(self, rows: Mapping[str, np.ndarray]) -> Ints:
        """Number the rows and keep them; their numbers. Amortised O(rows)."""
        count, start = len(rows["user"]), self._end - self._base
        for name, column in self._columns.items():
            if start + count > len(column):
                bigger = np.empty(max(2 * len(column), start + count, 1024), column.dtype)
                bigger[:start] = column[:start]
                self._columns[name] = column = bigger
            column[start : start + count] = rows[name]
        numbers = np.arange(self._end, self._end + count)
        self._end += count
        return numbers

    def select(self, numbers: Ints) -> dict[str, np.ndarray]:
        """The columns of points that are still kept."""
        return {name: column[numbers - self._base] for name, column in self._columns.items()}

    def column(self, name: str, numbers: Ints) -> np.ndarray:
        """One column of points that are still kept."""
        return self._columns[name][numbers - self._base]

    def drop_before(self, number: int) -> None:
        """Forget the points before ``number`` once they are the larger part."""
        surplus = min(number, self._end) - self._base
        if surplus * 2 < len(self):
            return
        kept = slice(surplus, self._end - self._base)
        self._columns = {name: column[kept].copy() for name, column in self._columns.items()}
        self._base += surplus

    def state(self) -> dict[str, np.ndarray]:
        """The arrays that hold the state."""
        size = len(self)
        return {name: column[:size] for name, column in self._columns.items()} | {"base": np.array([self._base])}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Become the object of ``state()``."""
        self._base = int(state["base"][0])
        self._columns = {name: np.array(state[name]) for name in COLUMNS}
        self._end = self._base + len(self._columns["user"])
