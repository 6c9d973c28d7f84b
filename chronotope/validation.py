"""What the workers would say about a stream of events, without a cluster."""

import math
import time
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from chronotope.datasets import DatasetError
from schemas.events import BehaviorEvent
from schemas.validation import EventLimits, problem_of

NAMED = 5
ACTIONS = 10


class ValidationReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream holds, and how many of its events would be rejected for which reason.

    ``placed`` events have a place, between ``south_west`` and ``north_east`` (latitude, longitude); ``actions`` are the most
    frequent ones. ``repeated`` events have an event_id that was there before, and would be passed over. ``unreadable`` rows are
    no events at all: the first of them in words.
    """

    events: int
    users: int
    items: int
    first_time: str
    last_time: str
    placed: int
    south_west: tuple[float, float] | None
    north_east: tuple[float, float] | None
    actions: dict[str, int]
    categories: int
    repeated: int
    rejected: dict[str, int]
    first_rejected: dict[str, str]
    unreadable: int
    first_unreadable: list[str]

    @property
    def sound(self) -> bool:
        """Whether everything could be sent and would be accepted."""
        return not self.rejected and not self.unreadable


class Unreadable:
    """Counts the rows that cannot be read and keeps the first few: a reader's ``refused``.

    >>> from pathlib import Path
    >>> rows = Unreadable()
    >>> rows(DatasetError(Path("a.csv"), 7, "user is empty"))
    >>> rows.count, rows.first
    (1, ['a.csv:7: user is empty'])
    """

    def __init__(self) -> None:
        self.count = 0
        self.first: list[str] = []

    def __call__(self, error: DatasetError) -> None:
        self.count += 1
        if len(self.first) < NAMED:
            self.first.append(str(error))


class Box:
    """The smallest box of latitudes and longitudes that holds the events with a place."""

    def __init__(self) -> None:
        self.events = 0
        self.south = self.west = math.inf
        self.north = self.east = -math.inf

    def take(self, event: BehaviorEvent) -> None:
        """Widen the box for one event."""
        lat, lon = event.lat, event.lon
        if lat is None or lon is None:
            return
        self.events += 1
        self.south, self.north = min(self.south, lat), max(self.north, lat)
        self.west, self.east = min(self.west, lon), max(self.east, lon)


def examine(
    events: Iterable[BehaviorEvent], limits: EventLimits, unreadable: Unreadable | None = None
) -> ValidationReport:
    """Apply the workers' rules to each event, as of now. Memory grows with the distinct users and items, and by some 60 bytes an
    event with the ids.

    ``unreadable`` has been told of every row that is not among the events once these are over.
    """
    now_ms = time.time_ns() // 1_000_000
    users: set[str] = set()
    items: set[str] = set()
    categories: set[str] = set()
    ids: set[int] = set()
    actions: Counter[str] = Counter()
    box = Box()
    rejected: Counter[str] = Counter()
    first_rejected: dict[str, str] = {}
    count, first_ms, last_ms = 0, 1 << 62, -(1 << 62)
    for event in events:
        count += 1
        users.add(event.user_id)
        items.add(event.item_id)
        ids.add(hash(event.event_id))
        categories.add(event.context.get("category", ""))
        actions[event.action] += 1
        box.take(event)
        first_ms, last_ms = min(first_ms, event.event_time_ms), max(last_ms, event.event_time_ms)
        problem = problem_of(event, limits, now_ms)
        if problem is not None:
            rejected[problem] += 1
            first_rejected.setdefault(problem, event.event_id)
    return ValidationReport(
        events=count,
        users=len(users),
        items=len(items),
        first_time=_utc(first_ms) if count else "",
        last_time=_utc(last_ms) if count else "",
        placed=box.events,
        south_west=(box.south, box.west) if box.events else None,
        north_east=(box.north, box.east) if box.events else None,
        actions=dict(actions.most_common(ACTIONS)),
        categories=len(categories - {""}),
        repeated=count - len(ids),
        rejected=dict(rejected),
        first_rejected=first_rejected,
        unreadable=unreadable.count if unreadable is not None else 0,
        first_unreadable=unreadable.first if unreadable is not None else [],
    )


def _utc(time_ms: int) -> str:
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{time_ms} ms"
