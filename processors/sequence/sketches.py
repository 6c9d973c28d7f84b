"""Who is like whom: MinHash sketches of what users touched, on a stream that forgets."""

from __future__ import annotations

from typing import Any

import numpy as np

from processors.payload import decode_payload, encode_payload
from processors.sequence.columns import as_codes, as_times
from processors.sequence.compiled import kernel
from processors.sequence.hashing import hash_state
from processors.sequence.settings import DAY_S

_EMPTY = np.uint32(0xFFFFFFFF)
_STEP, _SHIFT, _HALF = np.uint64(0x9E3779B97F4A7C15), np.uint64(29), np.uint64(32)
_FORMAT = "chronotope.user_sketches.1"


class UserSketches:
    """MinHash sketches of each user's items (Broder 1997), for the Jaccard similarity of any two users.

    A sketch cannot forget one item, so there are two per user, of this and of the previous ``span_s``, read together: an
    item counts for one to two spans after its last touch. The standard error of a similarity J is
    sqrt(J (1 - J) / hashes). O(hashes) per event; finding a user's like compares with all, 4 * hashes bytes each.

    Args:
        hashes: minima per sketch.
        span_s: seconds per sketch.
        max_users: users held; beyond, the eighth that is longest unseen is forgotten.

    Example:
        >>> sketches = UserSketches()
        >>> sketches.update([1, 1, 2, 2, 3], [10, 11, 10, 11, 99], [0.0] * 5)
        >>> users, similarity = sketches.similar_users(1, k=1)
        >>> users.tolist(), similarity.tolist()
        ([2], [1.0])
    """

    def __init__(self, hashes: int = 128, span_s: float = 60 * DAY_S, max_users: int = 200_000) -> None:
        if not 1 <= hashes <= 4096:
            raise ValueError(f"hashes must lie in [1, 4096], got {hashes}")
        if not 0 < span_s < np.inf:
            raise ValueError(f"span_s must be positive and finite, got {span_s}")
        if max_users < 8:
            raise ValueError(f"max_users must be at least 8, got {max_users}")
        self.hashes, self.span_s, self.max_users = hashes, float(span_s), max_users
        self.forgotten_users = 0
        self._row_of: dict[int, int] = {}
        self._users, self._span, self._minima = self._empty(64)

    def _empty(self, rows: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """User codes, their latest spans, and the minima of that span and the one before."""
        return np.zeros(rows, np.int64), np.zeros(rows, np.int64), np.full((rows, 2, self.hashes), _EMPTY)

    def update(self, users: Any, items: Any, time_s: Any) -> None:
        """Take note of who touched what.

        Args:
            users, items: int64[n].
            time_s: float64[n]; an event older than a user's previous span changes nothing.

        Raises:
            TypeError: codes are not integers.
            ValueError: shapes differ or a time is not finite; nothing has changed.
        """
        users, items, times = as_codes("users", users), as_codes("items", items), as_times("time_s", time_s)
        if not users.shape == items.shape == times.shape:
            raise ValueError(
                f"users, items and time_s must be equally long: {users.shape}, {items.shape}, {times.shape}"
            )
        spans = np.floor(times / self.span_s).astype(np.int64)
        for start in range(0, len(users), self.max_users // 2):
            part = slice(start, start + self.max_users // 2)
            rows = self._rows(users[part], spans[part])
            _sketch(self._minima, self._span, rows, items[part], spans[part])

    def _rows(self, users: np.ndarray[Any, Any], spans: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        present = dict.fromkeys(users.tolist())
        while len(self._row_of) + sum(user not in self._row_of for user in present) > self.max_users:
            self._forget_longest_unseen()
        for user, span in zip(users.tolist(), spans.tolist(), strict=True):
            if user not in self._row_of:
                row = len(self._row_of)
                if row == len(self._users):
                    grown = zip((self._users, self._span, self._minima), self._empty(row), strict=True)
                    self._users, self._span, self._minima = (np.concatenate(pair) for pair in grown)
                self._row_of[user] = row
                self._users[row], self._span[row], self._minima[row] = user, span, _EMPTY
        return np.array([self._row_of[user] for user in users.tolist()])

    def _forget_longest_unseen(self) -> None:
        held = len(self._row_of)
        oldest_first = np.lexsort((self._users[:held], self._span[:held]))
        keep = np.sort(oldest_first[max(1, held // 8) :])
        self.forgotten_users += held - len(keep)
        kept = self._users[keep], self._span[keep], self._minima[keep]
        self._users[: len(keep)], self._span[: len(keep)], self._minima[: len(keep)] = kept
        self._row_of = {user: row for row, user in enumerate(self._users[: len(keep)].tolist())}

    def similarity(self, user: int, other: int) -> float:
        """The estimated Jaccard similarity of two users' items, in [0, 1]; 0 if one is unknown."""
        if user not in self._row_of or other not in self._row_of:
            return 0.0
        newest = int(self._span[: len(self._row_of)].max())
        rows = np.array([self._row_of[other]])
        return float(_compare(self._minima, self._span, self._row_of[user], rows, newest)[0])

    def similar_users(self, user: int, k: int = 10) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """The ``k`` users most like ``user`` and their similarities, above 0; ties by user. O(users * hashes)."""
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        if user not in self._row_of:
            return np.empty(0, np.int64), np.empty(0, np.float64)
        held = len(self._row_of)
        newest = int(self._span[:held].max())
        similarity = _compare(self._minima, self._span, self._row_of[user], np.arange(held), newest)
        similarity[self._row_of[user]] = 0.0
        like = np.flatnonzero(similarity)
        like = like[np.lexsort((self._users[like], -similarity[like]))][:k]
        return self._users[like].copy(), similarity[like]

    def __len__(self) -> int:
        return len(self._row_of)

    @property
    def nbytes(self) -> int:
        return self._users.nbytes + self._span.nbytes + self._minima.nbytes

    def to_bytes(self) -> bytes:
        """All sketches; :meth:`from_bytes` goes on exactly like this one."""
        held = len(self._row_of)
        shape = {"hashes": self.hashes, "span_s": self.span_s, "max_users": self.max_users}
        arrays = [array[:held].tobytes() for array in (self._users, self._span, self._minima)]
        return encode_payload(_FORMAT, {"shape": shape, "forgotten_users": self.forgotten_users, "arrays": arrays})

    @classmethod
    def from_bytes(cls, payload: bytes) -> UserSketches:
        """The sketches of :meth:`to_bytes`. Raises ValueError for any other payload."""
        parts = decode_payload(_FORMAT, payload)
        sketches = cls(**parts["shape"])
        users, spans, minima = parts["arrays"]
        codes = np.frombuffer(users, np.int64)
        sketches._users, sketches._span, sketches._minima = sketches._empty(max(64, len(codes)))
        sketches._users[: len(codes)] = codes
        sketches._span[: len(codes)] = np.frombuffer(spans, np.int64)
        sketches._minima[: len(codes)] = np.frombuffer(minima, np.uint32).reshape(-1, 2, sketches.hashes)
        sketches._row_of = {user: row for row, user in enumerate(codes.tolist())}
        sketches.forgotten_users = parts["forgotten_users"]
        return sketches


@kernel
def _sketch(minima: Any, span: Any, rows: Any, items: Any, spans: Any) -> None:
    for event in range(len(rows)):
        row, ahead = rows[event], spans[event] - span[rows[event]]
        if ahead > 0:
            for i in range(minima.shape[2]):
                minima[row, 1, i] = minima[row, 0, i] if ahead == 1 else _EMPTY
                minima[row, 0, i] = _EMPTY
            span[row] = spans[event]
        if ahead < -1:
            continue
        sketch = minima[row, 1 if ahead == -1 else 0]
        seed = hash_state(items[event])
        for i in range(len(sketch)):
            mixed = (seed ^ np.uint64(i + 1)) * _STEP
            value = np.uint32((mixed ^ (mixed >> _SHIFT)) * _STEP >> _HALF)
            sketch[i] = min(sketch[i], value)


@kernel
def _compare(minima: Any, span: Any, row: int, others: Any, newest: int) -> Any:
    """The share of equal minima of a row and others; spans before the previous one no longer count."""
    hashes = minima.shape[2]
    mine = np.full(hashes, _EMPTY)
    out = np.zeros(len(others), np.float64)
    if span[row] < newest - 1:
        return out
    for i in range(hashes):
        mine[i] = minima[row, 0, i] if span[row] == newest - 1 else min(minima[row, 0, i], minima[row, 1, i])
    for j in range(len(others)):
        other = others[j]
        if span[other] < newest - 1:
            continue
        equal = 0
        for i in range(hashes):
            value = minima[other, 0, i]
            if span[other] == newest:
                value = min(value, minima[other, 1, i])
            equal += value == mine[i] and value != _EMPTY
        out[j] = equal / hashes
    return out
