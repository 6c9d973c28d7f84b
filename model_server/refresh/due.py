"""Due times: refresh a user some time before the visit that the user's own rhythm announces."""

import heapq
from collections.abc import Callable

import msgspec

from schemas.patterns import PeriodicityUpdate

MISSED_PERIODS = 3


class DueVisit(msgspec.Struct, frozen=True, order=True):
    """A user's expected visit at ``due_ms``, to be prepared at ``prepare_at_ms`` (both wall clock, Unix milliseconds).

    ``announced`` counts the periods since the pattern was published.
    """

    prepare_at_ms: int
    due_ms: int
    user_id: str
    entity: str
    version: int
    period_ms: int
    announced: int = 0


class DueTimes:
    """Keeps the next due time of each periodic entity of a user and tells which have come.

    A visit that was missed is expected again one period later, up to three times; patterns of long ago (a replay of old data)
    announce nothing. A visit is prepared ``lead_s`` ahead, or half a period if that is less. note is O(log n); pop_due
    O(log n) per visit.
    """

    def __init__(self, lead_s: float) -> None:
        self._lead_ms = int(lead_s * 1000)
        self._heap: list[DueVisit] = []
        self._version: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._heap)

    def note(self, pattern: PeriodicityUpdate, now_ms: int) -> None:
        """Take in the periods of a user or a user's item; periods of items, clusters and categories concern nobody alone."""
        if pattern.user_id is None or pattern.version <= self._version.get(pattern.entity, -1):
            return
        if not pattern.periods or pattern.periods[0].period_s < 1.0:
            self._version.pop(pattern.entity, None)
            return
        self._version[pattern.entity] = pattern.version
        strongest = pattern.periods[0]
        period_ms = int(strongest.period_s * 1000)
        missed = max(0, -((strongest.next_due_ms - now_ms) // period_ms))
        self._expect(
            DueVisit(
                prepare_at_ms=strongest.next_due_ms + missed * period_ms - self._lead(period_ms),
                due_ms=strongest.next_due_ms + missed * period_ms,
                user_id=pattern.user_id,
                entity=pattern.entity,
                version=pattern.version,
                period_ms=period_ms,
                announced=missed,
            )
        )

    def pop_due(self, now_ms: int) -> list[DueVisit]:
        """The visits whose time to be prepared has come, each once per period."""
        due: list[DueVisit] = []
        while self._heap and self._heap[0].prepare_at_ms <= now_ms:
            visit = heapq.heappop(self._heap)
            if self._version.get(visit.entity) == visit.version:
                due.append(visit)
        for visit in due:
            self._expect(
                msgspec.structs.replace(
                    visit,
                    prepare_at_ms=visit.prepare_at_ms + visit.period_ms,
                    due_ms=visit.due_ms + visit.period_ms,
                    announced=visit.announced + 1,
                )
            )
        return due

    def forget(self, gone: Callable[[str], bool]) -> None:
        """Drop the users that another instance owns now."""
        self._heap = [visit for visit in self._heap if not gone(visit.user_id)]
        heapq.heapify(self._heap)
        live = {visit.entity for visit in self._heap}
        self._version = {entity: version for entity, version in self._version.items() if entity in live}

    def _lead(self, period_ms: int) -> int:
        return min(self._lead_ms, period_ms // 2)

    def _expect(self, visit: DueVisit) -> None:
        if visit.announced > MISSED_PERIODS:
            self._version.pop(visit.entity, None)
        else:
            heapq.heappush(self._heap, visit)
