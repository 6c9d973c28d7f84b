"""The kernel of ``update``: every event counts in order 0 and in each context of its chain."""

from __future__ import annotations

from typing import Any

import numpy as np

from processors.sequence.compiled import kernel
from processors.sequence.contexts import count_transition, find_context
from processors.sequence.hashing import hash_context, hash_state, prefetch, slot_of
from processors.sequence.popularity import count_state
from processors.sequence.rows import SMALLEST_BLOCK
from processors.sequence.settings import NO_STATE
from processors.sequence.tables import ADVANCE_LANDMARK, DONE, EPOCH, EVENT, LANDMARK, STEP, TOUCHED

MAX_EXPONENT = 256.0
"""Half-lives from the landmark to the latest event; beyond, the landmark moves on and all weights are scaled."""
FAR, NEAR = 12, 6  # events ahead whose tables, and whose rows, are called into the cache


@kernel
def context_at(level: int, owner: int, previous: int, last: int) -> Any:
    """The chain of an event, from general to special: (present, owner, previous, last) at level 0, 1, 2.

    Without an owner: nothing, (last), (previous, last). With one: (), (last), (previous, last), each the owner's own.
    """
    absent = np.int64(NO_STATE)
    if level == 0:
        return owner != absent, owner, absent, absent
    if level == 1:
        return last != absent, owner, absent, last
    return last != absent and previous != absent, owner, previous, last


@kernel
def _call_into_cache(tables: Any, owner: Any, previous: Any, last: Any, state: Any, event: int) -> None:
    """Prefetch the tables of an event some way ahead, and the rows of one that is closer."""
    far, near = event + FAR, event + NEAR
    if far < len(state):
        prefetch(tables.states, slot_of(hash_state(state[far]), len(tables.states)))
        for level in range(3):
            present, a, b, c = context_at(level, owner[far], previous[far], last[far])
            if present:
                prefetch(tables.contexts, slot_of(hash_context(a, b, c), len(tables.contexts)))
    if near < len(state):
        for level in range(3):
            present, a, b, c = context_at(level, owner[near], previous[near], last[near])
            if present:
                slot = find_context(tables.contexts, a, b, c)
                if slot >= 0:
                    context = tables.contexts[slot]
                    home = slot_of(hash_state(state[near]), np.int64(context.capacity))
                    prefetch(tables.entries, np.int64(context.block) * SMALLEST_BLOCK + home)


@kernel
def absorb(
    tables: Any,
    owner: Any,
    previous: Any,
    last: Any,
    state: Any,
    time_s: Any,
    action_weight: Any,
    half_life_s: float,
    limits: Any,
    max_states: int,
    touched: Any,
    novel: Any,
) -> int:
    """Count events from where the last call stopped, until all are counted or room must be made.

    One step (order 0, or one context) either happens or changes nothing; ``ints[EVENT]`` and ``ints[STEP]`` say which
    comes next, so that the result does not depend on when room was made. ``touched`` receives the keys of the contexts
    that counted, ``novel`` whether a state was new to the most general context of its event.
    """
    ints = tables.ints
    if ints[LANDMARK] == NO_STATE:
        return ADVANCE_LANDMARK
    decayed, decayed_time = 0.0, np.nan
    for event in range(ints[EVENT], len(state)):
        _call_into_cache(tables, owner, previous, last, state, event)
        if time_s[event] != decayed_time:
            exponent = (time_s[event] - ints[LANDMARK] * half_life_s) / half_life_s
            if exponent > MAX_EXPONENT and ints[STEP] == 0:
                return ADVANCE_LANDMARK
            decayed, decayed_time = np.exp2(exponent), time_s[event]
        weight = decayed * action_weight[event]
        if ints[STEP] == 0:
            status = count_state(tables, state[event], weight, max_states)
            if status != DONE:
                return status
            ints[STEP] = 1
        for level in range(ints[STEP] - 1, 3):
            present, a, b, c = context_at(level, owner[event], previous[event], last[event])
            if present:
                status, slot, is_new = count_transition(tables, a, b, c, state[event], weight, limits)
                if status != DONE:
                    return status
                if level == 0 or (level == 1 and owner[event] == NO_STATE):
                    novel[event] = is_new
                if tables.contexts[slot].epoch != ints[EPOCH]:
                    tables.contexts[slot].epoch = ints[EPOCH]
                    row = touched[ints[TOUCHED]]
                    row[0], row[1], row[2] = a, b, c
                    ints[TOUCHED] += 1
            ints[STEP] = level + 2
        ints[EVENT], ints[STEP] = event + 1, 0
    return DONE
