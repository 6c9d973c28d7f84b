"""From events to transitions: who was where before, within the same session."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from processors.sequence.recent import RecentStates
from processors.sequence.settings import NO_STATE


class Transitions(NamedTuple):
    """Columns for ``TransitionCounts.update``: contexts int64[n, 2] (previous, last), next states, times, owners."""

    contexts: np.ndarray[Any, np.dtype[np.int64]]
    next_states: np.ndarray[Any, np.dtype[np.int64]]
    time_s: np.ndarray[Any, np.dtype[np.float64]]
    owners: np.ndarray[Any, np.dtype[np.int64]]


class Sessions:
    """Turns users' events into (context, next state) columns that never cross a session's end.

    ``counts.update(*sessions.update(...)[:3])`` learns the population's transitions, ``counts.update(*sessions.update(...))``
    each user's own. One object per kind of state: items, categories, clusters. The first event of a session has no context
    and so counts in order 0 alone; see :class:`RecentStates` for late events and for the bound.

    Args:
        gap_s: the longest pause within a session; infinite for one endless session per user.
        max_users: users remembered.

    Example:
        >>> from processors.sequence import TransitionCounts
        >>> sessions, counts = Sessions(gap_s=1800.0), TransitionCounts()
        >>> columns = sessions.update([1, 1, 2, 1], [10, 20, 10, 10], [0.0, 60.0, 90.0, 7200.0])
        >>> _ = counts.update(*columns[:3])
        >>> counts.count(10, 20, 60.0), counts.count(20, 10, 60.0)
        (1.0, 0.0)
    """

    def __init__(self, gap_s: float = 1800.0, max_users: int = 1 << 20) -> None:
        self._recent = RecentStates(depth=2, gap_s=gap_s, max_users=max_users)

    @property
    def recent(self) -> RecentStates:
        """The users' last states."""
        return self._recent

    def update(self, users: Any, states: Any, time_s: Any, sessions: Any = None) -> Transitions:
        """The transition that each event ends.

        Args:
            users, states: int64[n].
            time_s: float64[n], each user's events in order; a late one gets no context.
            sessions: int64[n] or None: the producer's session ids; a new one ends the session whatever the pause.

        Raises:
            TypeError, ValueError: as :meth:`RecentStates.update`.
        """
        before, _, _ = self._recent.update(users, states, time_s, sessions)
        next_states, owners = np.asarray(states, np.int64), np.asarray(users, np.int64)
        return Transitions(before[:, ::-1].copy(), next_states, np.asarray(time_s, np.float64), owners)

    def to_bytes(self) -> bytes:
        return self._recent.to_bytes()

    @classmethod
    def from_bytes(cls, payload: bytes) -> Sessions:
        """The object of :meth:`to_bytes`. Raises ValueError for any other payload."""
        sessions = cls()
        sessions._recent = RecentStates.from_bytes(payload)
        return sessions


def steps_back(before: Any, states: Any, time_s: Any, distinct: bool = False) -> tuple[Any, Any, Any, Any]:
    """Pairs of what a session met earlier and later: earlier and later states, the later's time, 1 / steps between.

    ``before`` is int64[n, depth] of :meth:`RecentStates.update`. ``counts.update(earlier, later, time, weights=weights)`` learns
    what follows within some steps. With ``distinct`` only the latest of equal earlier states counts, and a state is no
    pair with itself.

    Example:
        >>> recent = RecentStates(depth=3, gap_s=60.0)
        >>> states, times = np.array([7, 8, 9]), np.arange(3.0)
        >>> before, _, _ = recent.update(np.ones(3, np.int64), states, times)
        >>> earlier, later, _, weights = steps_back(before, states, times)
        >>> list(zip(earlier.tolist(), later.tolist(), weights.tolist()))
        [(7, 8, 1.0), (8, 9, 1.0), (7, 9, 0.5)]
    """
    later = np.broadcast_to(np.asarray(states, np.int64)[:, None], before.shape)
    joined = before != NO_STATE
    if distinct:
        joined &= before != later
        for step in range(1, before.shape[1]):
            joined[:, step] &= (before[:, step, None] != before[:, :step]).all(axis=1)
    steps = np.broadcast_to(np.arange(1.0, before.shape[1] + 1), before.shape)[joined]
    times = np.repeat(np.asarray(time_s, np.float64), joined.sum(axis=1))
    return before[joined], later[joined], times, 1 / steps
