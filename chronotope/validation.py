"""What the workers would say about a stream of events, without a cluster."""

import time
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from schemas.events import BehaviorEvent
from schemas.validation import EventLimits, problem_of


class ValidationReport(msgspec.Struct, frozen=True, kw_only=True):
    """How many events, users and items, over which time, and how many would be rejected for which reason."""

    events: int
    users: int
    items: int
    first_time: str
    last_time: str
    rejected: dict[str, int]
    first_rejected: dict[str, str]


def examine(events: Iterable[BehaviorEvent], limits: EventLimits) -> ValidationReport:
    """Apply the workers' rules to each event, as of now. Memory grows with the distinct users and items."""
    now_ms = time.time_ns() // 1_000_000
    users: set[str] = set()
    items: set[str] = set()
    rejected: Counter[str] = Counter()
    first_rejected: dict[str, str] = {}
    count, first_ms, last_ms = 0, 1 << 62, -(1 << 62)
    for event in events:
        count += 1
        users.add(event.user_id)
        items.add(event.item_id)
        first_ms, last_ms = min(first_ms, event.event_time_ms), max(last_ms, event.event_time_ms)
        problem = problem_of(event, limits, now_ms)
        if problem is not None:
            rejected[problem] += 1
            first_rejected.setdefault(problem, event.event_id)
    return ValidationReport(
        events=count,
        users=len(users),
        items=len(items),
        first_time=_utc(first_ms),
        last_time=_utc(last_ms),
        rejected=dict(rejected),
        first_rejected=first_rejected,
    )


def _utc(time_ms: int) -> str:
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{time_ms} ms"
