"""When a pattern is worth publishing again: when its support has grown by a share since it was published last."""

import math

import numpy as np
from numba import njit

from processors.code_index import CodeIndex, Ints, grown


class GrowthLedger:
    """Counts events per key and says which keys have grown enough, so that n events give O(log n) publications.

    A key is due at ``min_support`` events, and again whenever its events have grown by the share ``growth``, at the latest after
    ``at_most`` more. Bounded by
    ``max_keys``: the lightest eighth is forgotten (and starts anew).

    >>> ledger = GrowthLedger(min_support=2, growth=0.5, max_keys=100)
    >>> [ledger.due(np.array([7])).tolist() for _ in range(5)]
    [[], [7], [7], [], [7]]
    """

    def __init__(self, *, min_support: int, growth: float, max_keys: int, at_most: int = 2**62) -> None:
        self.min_support = min_support
        self.growth = growth
        self.max_keys = max_keys
        self.at_most = at_most
        self._index = CodeIndex()
        self._seen = np.zeros(0, np.int64)
        self._published = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self._index)

    def due(self, keys: Ints) -> Ints:
        """Count one event for each of ``keys``; the distinct keys that are due now, which count as published. O(keys)."""
        self._forget_surplus()
        rows = self._index.rows(keys)
        self._seen = grown(self._seen, len(self._index), 0)
        self._published = grown(self._published, len(self._index), 0)
        ready = _grown_enough(rows, self._seen, self._published, self.min_support, self.growth, self.at_most)
        return self._index.codes[ready]

    def seen(self, keys: Ints) -> Ints:
        """The events counted for each key, 0 for unknown ones."""
        rows = self._index.find(keys)
        return np.where(rows >= 0, self._seen[rows], 0) if len(self._seen) else np.zeros(len(keys), np.int64)

    def state(self) -> dict[str, Ints]:
        """The columns that hold the state, one row per key."""
        size = len(self)
        return {"key": self._index.codes.copy(), "seen": self._seen[:size], "published": self._published[:size]}

    def load(self, state: dict[str, Ints]) -> None:
        """Become the ledger of ``state()``."""
        self._index = CodeIndex(state["key"])
        self._seen, self._published = np.array(state["seen"]), np.array(state["published"])

    def _forget_surplus(self) -> None:
        size = len(self)
        if size <= self.max_keys:
            return
        kept = np.sort(np.argsort(self._seen[:size], kind="stable")[size - self.max_keys * 7 // 8 :])
        self.load({name: column[kept] for name, column in self.state().items()})


def warm_up() -> None:
    """Compile the kernel ahead of the first event."""
    GrowthLedger(min_support=2, growth=1.0, max_keys=8).due(np.zeros(1, np.int64))


@njit(cache=True)
def _grown_enough(rows, seen, published, min_support, growth, at_most):  # type: ignore[no-untyped-def]
    """Count each row's events, then mark and return the distinct rows that are due, ascending."""
    for row in rows:
        seen[row] += 1
    ready = np.empty(len(rows), np.int64)
    count = 0
    for row in rows:
        told = published[row]
        needed = min_support if told == 0 else max(math.ceil(min(told * growth, at_most)), 1)
        if seen[row] - told >= needed:
            published[row] = seen[row]
            ready[count] = row
            count += 1
    return np.sort(ready[:count])
