"""Who is refreshed next: one entry per user, ordered by virtual deadlines, within a budget per second."""

import heapq
from collections.abc import Callable

import msgspec

from schemas.recommendations import Trigger

PRECEDENCE: dict[Trigger, int] = {"pattern": 0, "due": 1, "event": 2, "request": 3}


class Refresh(msgspec.Struct, kw_only=True):
    """One user to refresh: why, by when (a monotonic clock in seconds), and for which time and place.

    ``since_ms`` is the wall time of the earliest cause that the user's published recommendation does not reflect.
    """

    user_id: str
    trigger: Trigger
    not_before_s: float
    deadline_s: float
    since_ms: int
    now_ms: int | None = None


class RefreshScheduler:
    """Coalesces per user and gives out the most valuable refreshes first, starving none.

    A mark's virtual deadline is ``now + patience / value``: of two marks made together the more valuable goes first, and no
    mark waits for ever behind later ones. A mark may be held back (``not_before_s``) so that more causes join it; one of
    higher urgency releases it. With ``per_s`` at most that many refreshes are given out per second (a token bucket
    that holds a tenth of a second's worth). mark and take are O(log n) per user.

    >>> scheduler = RefreshScheduler(patience_s={"event": 0.05, "pattern": 0.5, "due": 0.5, "request": 0.01})
    >>> scheduler.mark("ann", "pattern", now_s=0.0, since_ms=0)
    >>> scheduler.mark("bob", "event", now_s=0.0, since_ms=0)
    >>> scheduler.mark("ann", "pattern", now_s=0.0, since_ms=5)
    >>> [refresh.user_id for refresh in scheduler.take(now_s=0.0, limit=10)]
    ['bob', 'ann']
    """

    def __init__(self, patience_s: dict[Trigger, float], per_s: float | None = None) -> None:
        self._patience_s = patience_s
        self._per_s = per_s
        self._tokens = 0.1 * per_s if per_s else 0.0
        self._refilled_s: float | None = None
        self._pending: dict[str, Refresh] = {}
        self._held: list[tuple[float, str]] = []
        self._ready: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._pending)

    def mark(
        self,
        user_id: str,
        trigger: Trigger,
        *,
        now_s: float,
        since_ms: int,
        now_ms: int | None = None,
        value: float = 1.0,
        not_before_s: float = float("-inf"),
    ) -> None:
        """This user's recommendation is stale since ``since_ms``; ``value`` > 0 scales how much a refresh is worth.

        Of several marks the trigger of higher precedence (event, due, pattern) holds, the earlier deadline and the earlier
        ``not_before_s``, and the latest ``now_ms`` among marks of the holding trigger.
        """
        deadline_s = max(now_s, not_before_s) + self._patience_s[trigger] / value
        pending = self._pending.get(user_id)
        if pending is None:
            pending = self._pending[user_id] = Refresh(
                user_id=user_id,
                trigger=trigger,
                not_before_s=not_before_s,
                deadline_s=deadline_s,
                since_ms=since_ms,
                now_ms=now_ms,
            )
            self._push(pending, now_s)
            return
        pending.since_ms = min(pending.since_ms, since_ms)
        if PRECEDENCE[trigger] > PRECEDENCE[pending.trigger]:
            pending.trigger, pending.now_ms = trigger, now_ms
        elif trigger == pending.trigger and now_ms is not None:
            pending.now_ms = max(now_ms, pending.now_ms or now_ms)
        if deadline_s < pending.deadline_s or not_before_s < pending.not_before_s:
            pending.deadline_s = min(deadline_s, pending.deadline_s)
            pending.not_before_s = min(not_before_s, pending.not_before_s)
            self._push(pending, now_s)

    def take(self, now_s: float, limit: int) -> list[Refresh]:
        """At most ``limit`` refreshes within the budget, earliest virtual deadline first."""
        while self._held and self._held[0][0] <= now_s:
            pending = self._pending.get(heapq.heappop(self._held)[1])
            if pending is not None and pending.not_before_s <= now_s:
                heapq.heappush(self._ready, (pending.deadline_s, pending.user_id))
        limit = self._afford(now_s, limit)
        taken: list[Refresh] = []
        while self._ready and len(taken) < limit:
            deadline_s, user_id = heapq.heappop(self._ready)
            pending = self._pending.get(user_id)
            if pending is not None and pending.deadline_s == deadline_s:
                taken.append(self._pending.pop(user_id))
        if self._per_s is not None:
            self._tokens -= len(taken)
        return taken

    def forget(self, gone: Callable[[str], bool], now_s: float) -> None:
        """Drop the users that another instance owns now."""
        self._pending = {user: refresh for user, refresh in self._pending.items() if not gone(user)}
        self._held, self._ready = [], []
        for refresh in self._pending.values():
            self._push(refresh, now_s)

    def _push(self, refresh: Refresh, now_s: float) -> None:
        if refresh.not_before_s > now_s:
            heapq.heappush(self._held, (refresh.not_before_s, refresh.user_id))
        else:
            heapq.heappush(self._ready, (refresh.deadline_s, refresh.user_id))

    def _afford(self, now_s: float, limit: int) -> int:
        if self._per_s is None:
            return limit
        elapsed_s = now_s - self._refilled_s if self._refilled_s is not None else 0.0
        self._refilled_s = now_s
        self._tokens = min(self._tokens + elapsed_s * self._per_s, max(0.1 * self._per_s, 2.0))
        return min(limit, int(self._tokens))
