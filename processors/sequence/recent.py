"""The last few states of every user, carried from batch to batch."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from processors.payload import decode_payload, encode_payload
from processors.sequence.columns import as_codes, as_times
from processors.sequence.compiled import kernel
from processors.sequence.hashing import hash_state, hash_states, slot_of
from processors.sequence.settings import NO_STATE

_FORMAT = "chronotope.recent_states.1"


class _Rings(NamedTuple):
    """Open addressing by user; ``length`` 0 marks an empty slot. The newest state lies at place 0."""

    user: np.ndarray[Any, Any]
    length: np.ndarray[Any, Any]
    session: np.ndarray[Any, Any]
    states: np.ndarray[Any, Any]  # [slots, depth]
    times: np.ndarray[Any, Any]  # [slots, depth]
    extras: np.ndarray[Any, Any]  # [slots, depth, m]


class RecentStates:
    """For each event, the same user's up to ``depth`` states before it, newest first.

    A pause of more than ``gap_s``, or another session id, ends a session: what lies before it is forgotten. An event that is
    older than its user's newest cannot be placed: nothing precedes it, and it is not remembered. A user who paused for
    longer than the gap costs no memory in the long run; beyond ``max_users`` active ones the longest idle eighth is
    forgotten and counted. O(depth) per event.

    Args:
        depth: states remembered per user, at least 1.
        gap_s: the longest pause within a session; may be infinite.
        max_users: users remembered.
        extras: numbers remembered with each state, such as a position.

    Example:
        >>> import numpy as np
        >>> recent = RecentStates(depth=2, gap_s=30.0)
        >>> before, when, _ = recent.update([1, 1, 1], [7, 8, 9], [0.0, 10.0, 50.0])
        >>> np.where(before == NO_STATE, -1, before).tolist()
        [[-1, -1], [7, -1], [-1, -1]]
    """

    def __init__(self, depth: int, gap_s: float, max_users: int = 1 << 20, extras: int = 0) -> None:
        if not 1 <= depth <= 1024:
            raise ValueError(f"depth must lie in [1, 1024], got {depth}")
        if not gap_s > 0:
            raise ValueError(f"gap_s must be positive, got {gap_s}")
        if max_users < 8:
            raise ValueError(f"max_users must be at least 8, got {max_users}")
        self.depth, self.gap_s, self.max_users, self.extras = depth, float(gap_s), max_users, extras
        self._rings = self._empty(64)
        self._held = np.zeros(1, np.int64)
        self._latest_s = -math.inf
        self.forgotten_users = 0

    def _empty(self, size: int) -> _Rings:
        return _Rings(
            np.zeros(size, np.int64),
            np.zeros(size, np.int32),
            np.zeros(size, np.int64),
            np.zeros((size, self.depth), np.int64),
            np.zeros((size, self.depth), np.float64),
            np.zeros((size, self.depth, self.extras), np.float64),
        )

    def update(
        self, users: Any, states: Any, time_s: Any, sessions: Any = None, extras: Any = None
    ) -> tuple[Any, Any, Any]:
        """What preceded each event: states int64[n, depth] (NO_STATE where nothing did), times (NaN), extras.

        Args:
            users, states: int64[n].
            time_s: float64[n].
            sessions: int64[n] or None.
            extras: float64[n, m] or None.

        Raises:
            TypeError: codes are not integers.
            ValueError: shapes differ or a time is not finite; nothing has changed.
        """
        users, states = as_codes("users", users), as_codes("states", states)
        sessions = np.zeros(len(users), np.int64) if sessions is None else as_codes("sessions", sessions)
        times = as_times("time_s", time_s)
        extra = np.zeros((len(users), self.extras)) if extras is None else np.ascontiguousarray(extras, np.float64)
        for name, column in (("states", states), ("sessions", sessions), ("time_s", times)):
            if column.shape != users.shape:
                raise ValueError(f"{name} must have the shape of users, {users.shape}, got {column.shape}")
        if extra.shape != (len(users), self.extras):
            raise ValueError(f"extras must have shape ({len(users)}, {self.extras}), got {extra.shape}")
        before = np.full((len(users), self.depth), NO_STATE)
        when = np.full((len(users), self.depth), np.nan)
        beside = np.full((len(users), self.depth, self.extras), np.nan)
        done = 0
        while done < len(users):
            columns = users, states, times, sessions, extra
            stopped = _follow(self._rings, *columns, self.gap_s, self.max_users, self._held, done, before, when, beside)
            self._latest_s = max(self._latest_s, float(times[done:stopped].max(initial=-math.inf)))
            done = stopped
            if done < len(users):
                self._make_room()
        return before, when, beside

    def _make_room(self) -> None:
        rings = self._rings
        held = np.flatnonzero(rings.length)
        keep = held[self._latest_s - rings.times[held, 0] <= self.gap_s]
        size = len(rings.user)
        if len(keep) >= self.max_users:
            oldest_first = np.lexsort((hash_states(rings.user[keep]), rings.times[keep, 0]))
            self.forgotten_users += len(keep) // 8
            keep = keep[oldest_first[len(keep) // 8 :]]
        elif 2 * len(keep) > size // 2:
            size *= 2
        self._rings = self._empty(size)
        _rehash(rings, keep, self._rings)
        self._held[0] = len(keep)

    def __len__(self) -> int:
        return int(self._held[0])

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self._rings)

    def to_bytes(self) -> bytes:
        """All rings; :meth:`from_bytes` goes on exactly like this one."""
        held = np.flatnonzero(self._rings.length)
        parts = {name: array[held].tobytes() for name, array in self._rings._asdict().items()}
        shape = {"depth": self.depth, "gap_s": self.gap_s, "max_users": self.max_users, "extras": self.extras}
        counters = {"latest_s": self._latest_s, "forgotten_users": self.forgotten_users, "held": len(held)}
        return encode_payload(_FORMAT, {"shape": shape, "rings": parts, **counters})

    @classmethod
    def from_bytes(cls, payload: bytes) -> RecentStates:
        """The rings of :meth:`to_bytes`. Raises ValueError for any other payload."""
        parts = decode_payload(_FORMAT, payload)
        recent = cls(**parts["shape"])
        held, size = parts["held"], 64
        while 3 * (held + 1) > 2 * size:
            size *= 2
        recent._rings = recent._empty(size)
        flat = {
            name: np.frombuffer(parts["rings"][name], array.dtype).reshape((held, *array.shape[1:]))
            for name, array in recent._rings._asdict().items()
        }
        _rehash(_Rings(**flat), np.arange(held), recent._rings)
        recent._held[0], recent._latest_s = held, parts["latest_s"]
        recent.forgotten_users = parts["forgotten_users"]
        return recent


@kernel
def _slot(user: Any, rings: Any) -> int:
    size = len(rings.user)
    slot = slot_of(hash_state(user), size)
    while rings.length[slot] != 0 and rings.user[slot] != user:
        slot = (slot + 1) & (size - 1)
    return slot


@kernel
def _follow(
    rings: Any,
    users: Any,
    states: Any,
    times: Any,
    sessions: Any,
    extras: Any,
    gap_s: float,
    max_users: int,
    held: Any,
    start: int,
    before: Any,
    when: Any,
    beside: Any,
) -> int:
    """Place events from ``start`` on: where it stopped because a newcomer found no room."""
    depth = rings.states.shape[1]
    for event in range(start, len(users)):
        slot = _slot(users[event], rings)
        length = rings.length[slot]
        if length == 0:
            if held[0] >= max_users or 3 * (held[0] + 1) > 2 * len(rings.user):
                return event
            held[0] += 1
            rings.user[slot] = users[event]
        elif times[event] < rings.times[slot, 0]:
            continue
        elif times[event] - rings.times[slot, 0] > gap_s or sessions[event] != rings.session[slot]:
            length = 0
        for place in range(length):
            before[event, place], when[event, place] = rings.states[slot, place], rings.times[slot, place]
            beside[event, place] = rings.extras[slot, place]
        for place in range(min(length, depth - 1), 0, -1):
            rings.states[slot, place], rings.times[slot, place] = (
                rings.states[slot, place - 1],
                rings.times[slot, place - 1],
            )
            rings.extras[slot, place] = rings.extras[slot, place - 1]
        rings.states[slot, 0], rings.times[slot, 0] = states[event], times[event]
        rings.extras[slot, 0] = extras[event]
        rings.length[slot], rings.session[slot] = min(length + 1, depth), sessions[event]
    return len(users)


@kernel
def _rehash(rings: Any, keep: Any, target: Any) -> None:
    for old in keep:
        slot = _slot(rings.user[old], target)
        target.user[slot], target.length[slot], target.session[slot] = (
            rings.user[old],
            rings.length[old],
            rings.session[old],
        )
        target.states[slot], target.times[slot], target.extras[slot] = (
            rings.states[old],
            rings.times[old],
            rings.extras[old],
        )
