"""Decayed counts of states, pairs and triples in one pass over the events that end them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from processors.sequence.compiled import kernel
from processors.sequence.hashing import hash_context, prefetch, slot_of
from processors.sequence.heavy_keys import MAX_EXPONENT, HeavyKeys, key_slot
from processors.sequence.settings import NO_STATE

AHEAD = 8
KEYS_PER_EVENT = 7
LEAST_KEYS = 8 * KEYS_PER_EVENT  # of which an eighth makes room for an event


class Totals(NamedTuple):
    """The decayed number of all events, pairs and triples."""

    events: float
    pairs: float
    triples: float


class SequenceCounts(HeavyKeys):
    """:class:`HeavyKeys` whose keys are the states, pairs and triples that events end, and how many there are of each.

    Keys (a, b, c) are triples, (NO_STATE, b, c) pairs, (NO_STATE, NO_STATE, c) single states, whatever was before, and
    (NO_STATE, b, NO_STATE) single states that something follows. (n, NO_STATE, n) is all sequences of n states: so heavy that
    it is never forgotten.

    Example:
        >>> counts = SequenceCounts(half_life_s=np.inf, max_keys=100)
        >>> counts.add_events(np.array([[NO_STATE, 1], [1, 2]]), np.array([2, 3]), np.zeros(2))
        (array([1., 1.]), array([0., 1.]))
        >>> counts.totals(0.0)
        Totals(events=2.0, pairs=2.0, triples=1.0)
    """

    def __init__(self, half_life_s: float, max_keys: int = 1 << 18) -> None:
        if max_keys < LEAST_KEYS:
            raise ValueError(f"max_keys must be at least {LEAST_KEYS}, got {max_keys}")
        super().__init__(half_life_s, max_keys)

    def add_events(self, contexts: Any, states: Any, times: Any) -> tuple[Any, Any]:
        """Count what events end: the count of each one's pair and triple right after it, 0 without one; two float64[n].

        ``contexts`` are int64[n, 2], (previous, last), ``states`` int64[n], ``times`` float64[n]; all contiguous.
        """
        pairs, triples = np.zeros(len(states)), np.zeros(len(states))
        done = 0
        if len(states) and math.isnan(self._landmark_s):
            self._landmark_s = float(times[0])
        while done < len(states):
            bounds = self._landmark_s, self.half_life_s, self._floor, self.max_keys
            done = _add_events(self._table, self._held, contexts, states, times, *bounds, done, pairs, triples)
            if done < len(states):
                self._make_room(float(times[done]), KEYS_PER_EVENT)
        return pairs, triples

    def totals(self, time_s: float) -> Totals:
        """How many events, pairs and triples there were, as of ``time_s``."""
        keys = np.array([(length, NO_STATE, length) for length in (1, 2, 3)])
        return Totals(*self.counts(keys, time_s).tolist())


@kernel
def _count(table: Any, held: Any, a: int, b: int, c: int, weight: float, floor: float) -> float:
    slot = key_slot(table, a, b, c)
    record = table[slot]
    if record.held == 0:
        held[0] += 1
        record.a, record.b, record.c = a, b, c
        record.weight, record.born, record.held = 0.0, floor, 1
    record.weight += weight
    return record.weight


@kernel
def _call_in(table: Any, previous: int, last: int, state: int) -> None:
    """Call the lines of what an event will count into the cache, but for the totals, which are always there."""
    for a, b, c in ((NO_STATE, NO_STATE, state), (NO_STATE, last, NO_STATE), (NO_STATE, last, state)):
        prefetch(table, slot_of(hash_context(a, b, c), len(table)))
    prefetch(table, slot_of(hash_context(previous, last, state), len(table)))


@kernel
def _add_events(
    table: Any,
    held: Any,
    contexts: Any,
    states: Any,
    times: Any,
    landmark_s: float,
    half_life_s: float,
    floor: float,
    max_keys: int,
    start: int,
    pairs: Any,
    triples: Any,
) -> int:
    """Count events from ``start`` on: where it stopped because room must be made for all that one may bring."""
    for event in range(start, len(states)):
        exponent = (times[event] - landmark_s) / half_life_s
        full = held[0] + KEYS_PER_EVENT
        if exponent > MAX_EXPONENT or full > max_keys or 3 * full > 2 * len(table):
            return event
        if event + AHEAD < len(states):
            _call_in(table, contexts[event + AHEAD, 0], contexts[event + AHEAD, 1], states[event + AHEAD])
        scale = np.exp2(exponent)
        state, last, previous = states[event], contexts[event, 1], contexts[event, 0]
        _count(table, held, 1, NO_STATE, 1, scale, floor)
        _count(table, held, NO_STATE, NO_STATE, state, scale, floor)
        if last == NO_STATE:
            continue
        _count(table, held, 2, NO_STATE, 2, scale, floor)
        _count(table, held, NO_STATE, last, NO_STATE, scale, floor)
        after = _count(table, held, NO_STATE, last, state, scale, floor)
        pairs[event] = after / scale if scale > 0.0 else 0.0
        if previous == NO_STATE:
            continue
        _count(table, held, 3, NO_STATE, 3, scale, floor)
        after = _count(table, held, previous, last, state, scale, floor)
        triples[event] = after / scale if scale > 0.0 else 0.0
    return len(states)
