"""The last two items of each user and their categories, which turn events into transitions."""

from typing import NamedTuple

import numpy as np
from numba import njit

from processors.code_index import CodeIndex, Ints, grown
from processors.sequence import NO_STATE

NEVER_MS = -(2**62)


COLUMNS = ("last", "previous", "last_category", "previous_category")


class Before(NamedTuple):
    """The two items before each event and their categories, NO_STATE where there is none: int64[n] each."""

    previous: Ints
    last: Ints
    previous_category: Ints
    last_category: Ints


class LastItems:
    """Per user the latest two items by event time; bounded by ``max_users``, the longest absent are forgotten first.

    The state does not depend on how a stream is cut into batches, except for which users are forgotten at the bound.
    """

    def __init__(self, max_users: int) -> None:
        self.max_users = max_users
        self._index = CodeIndex()
        self._held = dict.fromkeys(COLUMNS, np.empty(0, np.int64))
        self._time_ms = np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self._index)

    def advance(self, user: Ints, item: Ints, category: Ints, time_ms: Ints) -> Before:
        """What was before each event; then the event's item is the last.

        An event that is older than the user's latest one follows nothing and is followed by nothing. O(events).
        """
        rows = self._index.rows(user)
        self._held = {name: grown(column, len(self._index), NO_STATE) for name, column in self._held.items()}
        self._time_ms = grown(self._time_ms, len(self._index), NEVER_MS)
        before = Before(*(np.empty(len(user), np.int64) for _ in Before._fields))
        _advance(rows, item, category, time_ms, self._time_ms, *(self._held[name] for name in COLUMNS), *before)
        return before

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
            **{name: column[:size].copy() for name, column in self._held.items()},
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
        nothing = np.full(len(state["user"]), NO_STATE)  # states written before there were categories
        self._held = {name: np.array(state.get(name, nothing)) for name in COLUMNS}
        self._time_ms = np.array(state["time_ms"])


def warm_up() -> None:
    """Compile the kernel ahead of the first event."""
    codes = np.zeros(1, np.int64)
    LastItems(1).advance(codes, codes, codes, codes)


@njit(cache=True)
def _advance(  # type: ignore[no-untyped-def]
    rows, item, category, time_ms, latest_ms, last, previous, last_category, previous_category,
    before_last, before, category_before_last, category_before,
):  # fmt: skip
    for i in range(len(rows)):
        row = rows[i]
        if time_ms[i] < latest_ms[row]:
            before_last[i] = before[i] = category_before_last[i] = category_before[i] = NO_STATE
            continue
        before_last[i], category_before_last[i] = previous[row], previous_category[row]
        before[i], category_before[i] = last[row], last_category[row]
        previous[row], previous_category[row] = last[row], last_category[row]
        last[row], last_category[row], latest_ms[row] = item[i], category[i], time_ms[i]
