"""Dense row numbers for int64 codes, so that per-key state is plain numpy arrays."""

import numpy as np
import numpy.typing as npt
from numba import njit

from processors.growing import lengthened

Ints = npt.NDArray[np.int64]
EMPTY = 0  # others hold a row and one
SMALLEST = 1024


class CodeIndex:
    """Numbers codes 0, 1, 2, ... in the order in which they are first seen, at most 2**31 of them.

    >>> index = CodeIndex()
    >>> index.rows(np.array([50, 7, 50])).tolist(), len(index)
    ([0, 1, 0], 2)
    """

    def __init__(self, codes: Ints | None = None) -> None:
        self._codes = np.empty(SMALLEST, np.int64)
        self._slots = np.zeros(2 * SMALLEST, np.int32)
        self._size = 0
        if codes is not None:
            self.rows(np.array(codes, np.int64))

    def __len__(self) -> int:
        return self._size

    @property
    def codes(self) -> Ints:
        """The codes in row order."""
        return self._codes[: self._size]

    def rows(self, codes: Ints) -> Ints:
        """The row of each code; unseen codes get the next rows. O(len(codes))."""
        self._reserve(len(codes))
        rows = np.empty(len(codes), np.int64)
        self._size = _number(codes, self._codes, self._slots, self._size, rows)
        return rows

    def find(self, codes: Ints) -> Ints:
        """The row of each code, -1 for unseen ones. O(len(codes))."""
        rows = np.empty(len(codes), np.int64)
        _find(codes, self._codes, self._slots, rows)
        return rows

    def _reserve(self, more: int) -> None:
        needed = self._size + more
        if needed <= len(self._codes):
            return
        capacity = max(2 * len(self._codes), needed)
        self._codes = lengthened(self._codes, capacity)
        self._slots = np.zeros(1 << int(2 * capacity - 1).bit_length(), np.int32)
        _fill(self._codes, self._size, self._slots)


def ranks(codes: Ints) -> tuple[Ints, Ints]:
    """(the place of each code among the distinct ones, the distinct ones ascending): ``np.unique`` without sorting all.

    >>> [column.tolist() for column in ranks(np.array([50, 7, 50]))]
    [[1, 0, 1], [7, 50]]
    """
    index = CodeIndex()
    rows = index.rows(codes)
    order = np.argsort(index.codes)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank[rows], index.codes[order]


def grown(array: np.ndarray, rows: int, fill: float) -> np.ndarray:
    """``array`` if it has at least ``rows`` rows, else one twice as long in its place, the new rows holding ``fill``."""
    if len(array) >= rows:
        return array
    bigger = lengthened(array, max(2 * len(array), rows))
    if fill:
        bigger[len(array) :] = fill
    return bigger


def warm_up() -> None:
    """Compile the kernels ahead of the first event."""
    index = CodeIndex(np.arange(2 * SMALLEST, dtype=np.int64))
    index.find(np.arange(2, dtype=np.int64))


@njit(cache=True)
def _home(code, mask):  # type: ignore[no-untyped-def]
    x = np.uint64(code)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return np.int64((x ^ (x >> np.uint64(27))) & np.uint64(mask))


@njit(cache=True)
def _fill(codes, size, slots):  # type: ignore[no-untyped-def]
    mask = len(slots) - 1
    for row in range(size):
        slot = _home(codes[row], mask)
        while slots[slot] != EMPTY:
            slot = (slot + 1) & mask
        slots[slot] = row + 1


@njit(cache=True)
def _number(wanted, codes, slots, size, rows):  # type: ignore[no-untyped-def]
    mask = len(slots) - 1
    for i in range(len(wanted)):
        slot = _home(wanted[i], mask)
        while slots[slot] != EMPTY and codes[slots[slot] - 1] != wanted[i]:
            slot = (slot + 1) & mask
        if slots[slot] == EMPTY:
            codes[size] = wanted[i]
            size += 1
            slots[slot] = size
        rows[i] = slots[slot] - 1
    return size


@njit(cache=True)
def _find(wanted, codes, slots, rows):  # type: ignore[no-untyped-def]
    mask = len(slots) - 1
    for i in range(len(wanted)):
        slot = _home(wanted[i], mask)
        while slots[slot] != EMPTY and codes[slots[slot] - 1] != wanted[i]:
            slot = (slot + 1) & mask
        rows[i] = slots[slot] - 1
