"""A stream of events as columns, and what the protocol needs to know of each event beforehand."""

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from schemas.events import BehaviorEvent

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
HOUR_S = 3600.0
WEEK_H = 168.0
MONDAY_S = 3 * 86400.0


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """Events in time order as columns [n]; users, items and categories are numbered in the order of their first event.

    ``previous`` is the index of the user's event before (-1: none), ``has_next`` whether the user comes again.
    ``revisit``: the user touched the item before. ``known``: somebody did. ``week_h`` is the local hour of the week (by the
    event's ``utc_offset_s``, else by its longitude). ``lat`` and ``lon`` are NaN where there is no place.
    """

    events: Sequence[BehaviorEvent]
    user: Ints
    item: Ints
    category: Ints
    time_s: Floats
    week_h: Floats
    lat: Floats
    lon: Floats
    previous: Ints
    has_next: Bools
    revisit: Bools
    known: Bools
    text: Sequence[str]
    users: int
    items: int
    categories: int

    def __len__(self) -> int:
        return len(self.user)

    def own_numbers(self) -> Ints:
        """How many events each event's user had before it, [n]."""
        number = np.zeros(len(self), np.int64)
        for at in np.flatnonzero(self.previous >= 0):
            number[at] = number[self.previous[at]] + 1
        return number


def stream_of(events: Iterable[BehaviorEvent]) -> Stream:
    """The columns of events in time order. O(events).

    >>> from schemas.events import BehaviorEvent
    >>> stream = stream_of(BehaviorEvent(event_id=str(n), user_id=u, item_id=i, action="view", event_time_ms=n)
    ...                    for n, (u, i) in enumerate(["ax", "bx", "ay", "ax"]))
    >>> stream.previous.tolist(), stream.revisit.tolist(), stream.known.tolist()
    ([-1, -1, 0, 2], [False, False, False, True], [False, True, False, True])

    Raises ValueError if there is no event or time goes backwards.
    """
    events = list(events)
    if not events:
        raise ValueError("the stream holds no events")
    time_s = np.array([event.event_time_ms for event in events]) / 1000.0
    if (np.diff(time_s) < 0).any():
        raise ValueError("events are not in time order")
    user, users = _numbered([event.user_id for event in events])
    item, items = _numbered([event.item_id for event in events])
    category, categories = _numbered([event.context.get("category", "") for event in events])
    lat = np.array([np.nan if event.lat is None else event.lat for event in events])
    lon = np.array([np.nan if event.lon is None else event.lon for event in events])
    offset = np.nan_to_num(np.round(lon / 15) * HOUR_S)
    for n, event in enumerate(events):
        if "utc_offset_s" in event.context:
            offset[n] = float(event.context["utc_offset_s"])
    previous = _previous(user)
    has_next = np.zeros(len(events), bool)
    has_next[previous[previous >= 0]] = True
    return Stream(
        events=events, user=user, item=item, category=category, time_s=time_s,
        week_h=(time_s + offset + MONDAY_S) / HOUR_S % WEEK_H, lat=lat, lon=lon, previous=previous, has_next=has_next,
        revisit=_previous(user * items + item) >= 0, known=_previous(item) >= 0,
        text=[event.context.get("text", "") for event in events], users=users, items=items, categories=categories,
    )  # fmt: skip


def scored_events(stream: Stream, warmup: float, score_from: float) -> Bools:
    """Which events are scored: the user has an earlier event, and the event lies after the warm-up, both shares of the stream."""
    for name, share in (("warmup", warmup), ("score_from", score_from)):
        if not 0 <= share < 1:
            raise ValueError(f"{name} must be in [0, 1), got {share}")
    return (stream.previous >= 0) & (np.arange(len(stream)) >= max(warmup, score_from) * len(stream))


def _numbered(names: Sequence[str]) -> tuple[Ints, int]:
    codes: dict[str, int] = {}
    numbers = np.array([codes.setdefault(name, len(codes)) for name in names], np.int64)
    return numbers, len(codes)


def _previous(keys: Ints) -> Ints:
    order = np.argsort(keys, kind="stable")
    same = np.r_[False, keys[order][1:] == keys[order][:-1]]
    previous = np.full(len(keys), -1, np.int64)
    previous[order[same]] = order[np.flatnonzero(same) - 1]
    return previous
