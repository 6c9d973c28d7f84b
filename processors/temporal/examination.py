"""Which keys are worth examining again, and when a change is worth telling."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from processors.temporal.event_rings import RING, Rings
from processors.temporal.periods import Period

# Share of a key's known events that must be new before another look can change the verdict.
_WORTHWHILE_GROWTH = 0.15
# Cycles without an event after which a published period is tested for its end.
_MISSED_CYCLES = 3.0
_PERIOD_TOLERANCE = 0.02
_DUE_TOLERANCE = 0.1


class PeriodChange(NamedTuple):
    """A key and its periods now; none when all are retired."""

    key: int
    periods: tuple[Period, ...]


class PeriodLook(NamedTuple):
    """A key that was examined, its periods now, and whether they are others than before."""

    key: int
    periods: tuple[Period, ...]
    has_changed: bool


def choose_slots(rings: Rings, n_keys: int, min_events: int, budget: int, now_s: float) -> npt.NDArray[np.int64]:
    """At most `budget` slots: first the overdue, then those whose events are newest relative to what was seen."""
    if budget <= 0 or n_keys == 0:
        return np.empty(0, np.int64)
    worth = worth_of(rings, n_keys, min_events, now_s)
    slots = np.flatnonzero(worth > 0.0)
    if len(slots) > budget:
        slots = slots[np.argpartition(-worth[slots], budget)[:budget]]
    return slots[np.argsort(-worth[slots], kind="stable")]


def worth_of(rings: Rings, n_keys: int, min_events: int, now_s: float) -> npt.NDArray[np.float64]:
    """What examining each slot is worth: nothing, its share of new events, or infinitely much if it is overdue."""
    new = (rings.seen[:n_keys] - rings.examined[:n_keys]).astype(np.float64)
    worth: npt.NDArray[np.float64] = new / np.clip(rings.examined[:n_keys], min_events, RING)
    worth[(rings.size[:n_keys] < min_events) | (worth < _WORTHWHILE_GROWTH)] = 0.0
    worth[rings.recheck_s[:n_keys] <= now_s] = np.inf
    return worth


def recheck_time(periods: Sequence[Period], now_s: float) -> float:
    """When a period will have missed enough cycles to be tested for its end; infinity without a period."""
    return min((max(one.next_due_s, now_s) + _MISSED_CYCLES * one.period_s for one in periods), default=np.inf)


def differs(before: Sequence[Period], after: Sequence[Period]) -> bool:
    """Whether the periods changed by more than a shift of the due time by whole cycles."""
    if len(before) != len(after):
        return True
    return any(_is_other(one, other) for one, other in zip(before, after))


def _is_other(before: Period, after: Period) -> bool:
    if before.kind != after.kind or abs(after.period_s / before.period_s - 1) > _PERIOD_TOLERANCE:
        return True
    turns = (after.next_due_s - before.next_due_s) / after.period_s
    return abs(turns - round(turns)) > _DUE_TOLERANCE
