"""Which two codes a pair code stands for."""

import numpy as np
import numpy.typing as npt

from processors.code_index import CodeIndex, Ints, grown
from processors.sequence import NO_STATE
from streams.stages.mixing import pair_codes


class PairNames:
    """The (left, right) codes behind pair codes, bounded: beyond ``max_pairs`` the older half is forgotten.

    >>> pairs = PairNames(max_pairs=10)
    >>> keys = pairs.keys(np.array([1, 1]), np.array([5, 6]))
    >>> pairs.of(int(keys[1])), pairs.of(99)
    ((1, 6), None)
    """

    def __init__(self, max_pairs: int) -> None:
        self.max_pairs = max_pairs
        self._index = CodeIndex()
        self._left = np.empty(0, np.int64)
        self._right = np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self._index)

    def keys(self, left: Ints, right: Ints) -> Ints:
        """The pair code of each row, remembered. O(rows)."""
        self._forget_surplus()
        codes = pair_codes(left, right)
        rows = self._index.rows(codes)
        self._left, self._right = (grown(side, len(self._index), 0) for side in (self._left, self._right))
        self._left[rows], self._right[rows] = left, right
        return codes

    def of(self, key: int) -> tuple[int, int] | None:
        """The two codes of a pair code; None if it was never seen or is forgotten."""
        left, right, known = self.both(np.array([key]))
        return (int(left[0]), int(right[0])) if known[0] else None

    def both(self, keys: Ints) -> tuple[Ints, Ints, npt.NDArray[np.bool_]]:
        """The two codes of each pair code (NO_STATE for unknown ones), and which are known. O(keys)."""
        rows = self._index.find(keys)
        known = rows >= 0
        left, right = np.full(len(keys), NO_STATE), np.full(len(keys), NO_STATE)
        left[known], right[known] = self._left[rows[known]], self._right[rows[known]]
        return left, right, known

    def state(self) -> dict[str, Ints]:
        """The columns that hold the state, one row per pair."""
        size = len(self)
        return {"left": self._left[:size], "right": self._right[:size]}

    def load(self, state: dict[str, Ints]) -> None:
        """Become the object of ``state()``."""
        left, right = np.array(state["left"]), np.array(state["right"])
        self._index = CodeIndex(pair_codes(left, right))
        self._left, self._right = left, right

    def _forget_surplus(self) -> None:
        size = len(self)
        if size > self.max_pairs:
            self.load({name: column[size // 2 :] for name, column in self.state().items()})
