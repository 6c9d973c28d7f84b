"""The sequences that are frequent enough to be watched: who was seen doing them, and how they were told last."""

from __future__ import annotations

from typing import Any

import numpy as np

from processors.growing import roomy_zeros
from processors.sequence.compiled import kernel
from processors.sequence.hashing import hash_context, hash_state, slot_of

WATCHED = np.dtype(
    [
        ("a", np.int64),
        ("b", np.int64),
        ("c", np.int64),
        ("owners", np.uint64),  # a bit for each owner's hash: never more bits than owners
        ("due", np.float64),  # the support from which it is worth telling again
        ("support", np.float64),  # as it was told; 0 if it is not
        ("lift", np.float64),
        ("held", np.int64),
    ]
)
"""One sequence, one cache line."""


class WatchedSequences:
    """A table of int64 triples with what was told of each; it grows, and ``keep`` makes it small again."""

    def __init__(self, records: np.ndarray[Any, Any] | None = None) -> None:
        self._table = roomy_zeros(64, WATCHED)
        self._held = np.zeros(1, np.int64)
        if records is not None:
            self.keep(records)

    def __len__(self) -> int:
        return int(self._held[0])

    @property
    def records(self) -> np.ndarray[Any, Any]:
        """A copy of what is held (WATCHED), sorted by key."""
        held = self._table[self._table["held"] != 0]
        return held[np.lexsort((held["c"], held["b"], held["a"]))]

    def notice(
        self, keys: Any, support: Any, owners: Any, growth: float, min_owners: int
    ) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Take note of occurrences, int64[n, 3], with the support after each and its owner: the rows that are due.

        A sequence is due once ``min_owners`` were seen doing it, and again when its support has grown by the share ``growth``.
        O(1) per row.
        """
        due = np.empty(len(keys), np.int64)
        found, done = 0, 0
        while done < len(keys):
            arguments = keys, support, owners, 1.0 + growth, min_owners
            done, found = _notice(self._table, self._held, *arguments, done, due, found)
            if done < len(keys):
                self._rebuild(self._table[self._table["held"] != 0], 2 * len(self._table))
        return due[:found]

    def told(self, key: tuple[int, int, int], support: float, lift: float) -> None:
        """Note how a sequence was told; support 0 if it was withdrawn. One that is not held is ignored."""
        record = self._table[_watched_slot(self._table, *key)]
        if record["held"]:
            record["support"], record["lift"] = support, lift

    def keep(self, records: np.ndarray[Any, Any]) -> None:
        """Hold these records (WATCHED) and no others."""
        size = 64
        while 3 * (len(records) + 1) > 2 * size:
            size *= 2
        self._rebuild(records, size)

    def _rebuild(self, records: np.ndarray[Any, Any], size: int) -> None:
        self._table = roomy_zeros(size, WATCHED)
        _insert_watched(self._table, records)
        self._held[0] = len(records)


@kernel
def _watched_slot(table: Any, a: int, b: int, c: int) -> int:
    slot = slot_of(hash_context(a, b, c), len(table))
    while table[slot].held != 0 and not (table[slot].c == c and table[slot].b == b and table[slot].a == a):
        slot = (slot + 1) & (len(table) - 1)
    return slot


@kernel
def _bits(word: np.uint64) -> int:
    count = 0
    while word != np.uint64(0):
        word &= word - np.uint64(1)
        count += 1
    return count


@kernel
def _notice(
    table: Any,
    held: Any,
    keys: Any,
    support: Any,
    owners: Any,
    factor: float,
    min_owners: int,
    start: int,
    due: Any,
    found: int,
) -> tuple[int, int]:
    """Take note of rows from ``start`` on: where it stopped because the table must grow, and how many are due."""
    for row in range(start, len(keys)):
        a, b, c = keys[row, 0], keys[row, 1], keys[row, 2]
        slot = _watched_slot(table, a, b, c)
        record = table[slot]
        if record.held == 0:
            if 3 * (held[0] + 1) > 2 * len(table):
                return row, found
            held[0] += 1
            record.a, record.b, record.c, record.held = a, b, c, 1
            record.owners, record.due, record.support, record.lift = np.uint64(0), 0.0, 0.0, 0.0
        record.owners |= np.uint64(1) << (hash_state(owners[row]) & np.uint64(63))
        if support[row] >= record.due and _bits(record.owners) >= min_owners:
            record.due = support[row] * factor
            due[found] = row
            found += 1
    return len(keys), found


@kernel
def _insert_watched(table: Any, records: Any) -> None:
    for i in range(len(records)):
        table[_watched_slot(table, records[i].a, records[i].b, records[i].c)] = records[i]
