"""The last two items of each user, which turn events into transitions."""

import numpy as np
from numba import njit

from processors.sequence import NO_STATE
from streams.stages.code_index import CodeIndex, Ints, grown

NEVER_MS = -(2**62)


class LastItems:
    """Per user the latest two items by event time; bounded by ``max_users``, the longest absent are forgotten first.

    The state does not depend on how a stream is cut into batches, except for which users are forgotten at the bound.
    """

    def __init__(self, max_users: int) -> None:
        self.max_users = max_users
        self._index = CodeIndex()
        self._last = np.empty(0, np.int64)
        self._previous = np.empty(0, np.int64)
        self._time_ms = np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self._index)

    def advance(self, user: Ints, item: Ints, time_ms: Ints) -> tuple[Ints, Ints]:
        """The (previous, last) item before each event, NO_STATE where there is none; then the event's item is the last.

        An event that is older than the user's latest one follows nothing and is followed by nothing. O(events).
        """
        rows = self._index.rows(user)
        self._last = grown(self._last, len(self._index), NO_STATE)
        self._previous = grown(self._previous, len(self._index), NO_STATE)
        self._time_ms = grown(self._time_ms, len(self._index), NEVER_MS)
        previous, last = np.empty(len(user), np.int64), np.empty(len(user), np.int64)
        _advance(rows, item, time_ms, self._last, self._previous, self._time_ms, previous, last)
        return previous, last

    def forget_surplus(self) -> Ints:
        """Forget the longest absent users down to 7/8 of the bound if it is exceeded; the codes of the forgotten."""
        if len(self) <= self.max_users:
            return np.empty(0, np.int64)
        size, keep = len(self), self.max_users * 7 // 8
        order = np.argsort(self._time_ms[:size], kind="stable")
        kept, codes = np.sort(order[size - keep :]), self._index.codes
        forgotten = codes[order[: size - keep]].copy()
        columns = {name: column[kept] for name, column in self.state().items()}
        self._load(columns)
        return forgotten

    def state(self) -> dict[str, Ints]:
        """The columns that hold the state, one row per user."""
        size = len(self)
        return {
            "user": self._index.codes.copy(),
            "last": self._last[:size].copy(),
            "previous": self._previous[:size].copy(),
            "time_ms": self._time_ms[:size].copy(),
        }

    @classmethod
    def from_state(cls, max_users: int, state: dict[str, Ints]) -> "LastItems":
        """The object of ``state()``."""
        items = cls(max_users)
        items._load(state)
        return items

    def _load(self, state: dict[str, Ints]) -> None:
        self._index = CodeIndex(state["user"])
        self._last, self._previous, self._time_ms = (np.array(state[name]) for name in ("last", "previous", "time_ms"))


def warm_up() -> None:
    """Compile the kernel ahead of the first event."""
    codes = np.zeros(1, np.int64)
    LastItems(1).advance(codes, codes, codes)


@njit(cache=True)
def _advance(rows, item, time_ms, last, previous, latest_ms, before_last, before):  # type: ignore[no-untyped-def]
    for i in range(len(rows)):
        row = rows[i]
        if time_ms[i] < latest_ms[row]:
            before_last[i] = NO_STATE
            before[i] = NO_STATE
            continue
        before_last[i] = previous[row]
        before[i] = last[row]
        previous[row], last[row], latest_ms[row] = last[row], item[i], time_ms[i]
