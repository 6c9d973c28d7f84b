"""The kernels of ``predict``: Witten-Bell mixing of the orders, from general to special.

A context c with total count C, effective number of types T and escape constant a gives

    p(s | c) = (C(c, s) + (a T + U) p(s | shorter context)) / (C + a T),    T = sum over s of min(1, C(c, s)).

While nothing has decayed, T is the number of distinct next states and this is Witten and Bell's method C (IEEE
Transactions on Information Theory 37(4), 1991) in its interpolated form. A type whose count has decayed below one weighs
no more than what is left of it, so that an old long tail does not drown a few fresh transitions. U is the weight
that Space-Saving can no longer name; it backs off too. Order 0 is the plain share of a state in all events.

Instead of one chain, the latest states may each speak through their own order-1 context, the newer the louder: the mixture
transition distribution (Raftery, Journal of the Royal Statistical Society B 47(3), 1985).

Sums over a row are kept in fixed point: they must not depend on the order in which a row lies in memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from processors.sequence import rows
from processors.sequence.absorb import context_at
from processors.sequence.compiled import kernel
from processors.sequence.contexts import find_context
from processors.sequence.hashing import hash_state, slot_of
from processors.sequence.popularity import find_state
from processors.sequence.rows import SMALLEST_BLOCK
from processors.sequence.settings import NO_STATE
from processors.sequence.tables import EMPTY, EVENT_WEIGHT, LIST_THRESHOLD, LISTED_STATES

_ONE = float(1 << 52)
_FARTHEST = 480.0


@kernel
def decay_factor(landmark: int, half_life_s: float, time_s: float) -> float:
    """What turns a stored weight into a count as of ``time_s``."""
    exponent = (landmark * half_life_s - time_s) / half_life_s
    return np.exp2(min(max(exponent, -1000.0), _FARTHEST))


@kernel
def _mass(tables: Any, slot: int, factor: float) -> tuple[float, float]:
    """T / C and U / C of a context."""
    context = tables.contexts[slot]
    block, capacity = np.int64(context.block) * SMALLEST_BLOCK, np.int64(context.capacity)
    unit = context.total * factor
    one = 1.0 / unit if unit > 0.0 else np.inf
    types, named = np.int64(0), np.int64(0)
    for place in range(block, block + capacity):
        if tables.entries[place].state != NO_STATE:
            share = tables.entries[place].weight / context.total
            types += np.int64(min(share, one) * _ONE)
            named += np.int64(share * _ONE)
    lost = max(0.0, 1.0 - named / _ONE) if context.floor > context.born else 0.0
    return types / _ONE, lost


@kernel
def weigh_chain(
    tables: Any, owner: int, previous: int, last: int, factor: float, escapes: Any, slots: Any, coefficients: Any
) -> tuple[int, float]:
    """Which rows of a chain speak, and with what coefficient on their weights: (their number, order 0's coefficient)."""
    count = 0
    general = 1.0 / tables.floats[EVENT_WEIGHT] if tables.floats[EVENT_WEIGHT] > 0.0 else 0.0
    for level in range(3):
        present, a, b, c = context_at(level, owner, previous, last)
        if not present:
            continue
        slot = find_context(tables.contexts, a, b, c)
        if slot < 0 or not tables.contexts[slot].total > 0.0:
            continue
        types, lost = _mass(tables, slot, factor)
        escape = escapes[level] * types
        back_off = (escape + lost) / (1.0 + escape)
        for lower in range(count):
            coefficients[lower] *= back_off
        general *= back_off
        slots[count] = slot
        coefficients[count] = 1.0 / ((1.0 + escape) * tables.contexts[slot].total)
        count += 1
    return count, general


@kernel
def weigh_recent(
    tables: Any, owner: int, recent: Any, fade: float, factor: float, escape: float, slots: Any, coefficients: Any
) -> tuple[int, float]:
    """The same for the mixture of order-1 contexts ``recent``, newest first, each weighing ``fade`` times the one before."""
    count, general = 0, 0.0
    whole = (1.0 - fade ** len(recent)) / (1.0 - fade)
    for step in range(len(recent)):
        share = fade**step / whole
        slot = find_context(tables.contexts, owner, NO_STATE, recent[step])
        if slot < 0 or not tables.contexts[slot].total > 0.0:
            general += share
            continue
        types, lost = _mass(tables, slot, factor)
        general += share * (escape * types + lost) / (1.0 + escape * types)
        slots[count] = slot
        coefficients[count] = share / ((1.0 + escape * types) * tables.contexts[slot].total)
        count += 1
    return count, general / tables.floats[EVENT_WEIGHT] if tables.floats[EVENT_WEIGHT] > 0.0 else 0.0


@kernel
def probabilities_of(
    tables: Any, slots: Any, coefficients: Any, count: int, general: float, states: Any, out: Any
) -> None:
    """The mixed probability of each given state."""
    for i in range(len(states)):
        slot = find_state(tables.states, states[i])
        out[i] = general * tables.states[slot].weight if slot >= 0 else 0.0
        for level in range(count):
            context = tables.contexts[slots[level]]
            block, capacity = np.int64(context.block) * SMALLEST_BLOCK, np.int64(context.capacity)
            place = rows.find(tables.entries, block, capacity, states[i])
            if place >= 0:
                out[i] += coefficients[level] * tables.entries[place].weight


@kernel
def _gather(tables: Any, slots: Any, coefficients: Any, count: int, general: float) -> tuple[Any, Any]:
    """An open-addressing table of the states in the chain's rows, and their probabilities."""
    used = np.int64(1)
    for level in range(count):
        used += np.int64(tables.contexts[slots[level]].used)
    capacity = 4
    while capacity < 2 * used:
        capacity *= 2
    states, scores = np.full(capacity, NO_STATE, np.int64), np.zeros(capacity, np.float64)
    for level in range(count):
        context = tables.contexts[slots[level]]
        block = np.int64(context.block) * SMALLEST_BLOCK
        for place in range(block, block + np.int64(context.capacity)):
            state = tables.entries[place].state
            if state != NO_STATE:
                slot = slot_of(hash_state(state), capacity)
                while states[slot] != state and states[slot] != NO_STATE:
                    slot = (slot + 1) & (capacity - 1)
                if states[slot] == NO_STATE:
                    states[slot] = state
                    known = find_state(tables.states, state)
                    scores[slot] = general * tables.states[known].weight if known >= 0 else 0.0
                scores[slot] += coefficients[level] * tables.entries[place].weight
    return states, scores


@kernel
def _offer(states: Any, scores: Any, held: int, state: int, score: float) -> int:
    """Insert into the best so far (highest score first, then lowest code): how many are held."""
    k = len(states)
    if held == k and (score < scores[k - 1] or (score == scores[k - 1] and state > states[k - 1])):
        return held
    place = held if held < k else k - 1
    while place > 0 and (scores[place - 1] < score or (scores[place - 1] == score and states[place - 1] > state)):
        states[place], scores[place] = states[place - 1], scores[place - 1]
        place -= 1
    states[place], scores[place] = state, score
    return min(held + 1, k)


@kernel
def _in_rows(gathered: Any, state: int) -> bool:
    slot = slot_of(hash_state(state), len(gathered))
    while gathered[slot] != NO_STATE:
        if gathered[slot] == state:
            return True
        slot = (slot + 1) & (len(gathered) - 1)
    return False


@kernel
def most_probable(
    tables: Any, slots: Any, coefficients: Any, count: int, general: float, states: Any, scores: Any
) -> int:
    """Fill ``states`` and ``scores`` with the most probable next states: how many there are."""
    gathered, probability = _gather(tables, slots, coefficients, count, general)
    held = 0
    for slot in range(len(gathered)):
        if gathered[slot] != NO_STATE and probability[slot] > 0.0:
            held = _offer(states, scores, held, gathered[slot], probability[slot])
    if not general > 0.0:
        return held
    from_rows, row_states, row_scores = held, states[:held].copy(), scores[:held].copy()
    for i in range(tables.ints[LISTED_STATES]):
        popular = tables.states[tables.listed[i]]
        if not _in_rows(gathered, popular.state):
            held = _offer(states, scores, held, popular.state, general * popular.weight)
    # A state that is not listed is no heavier than the threshold: only then may it still belong among the best.
    unlisted = general * tables.floats[LIST_THRESHOLD]
    if unlisted > 0.0 and (held < len(states) or scores[len(states) - 1] <= unlisted):
        held, states[:from_rows], scores[:from_rows] = from_rows, row_states, row_scores
        for slot in range(len(tables.states)):
            popular = tables.states[slot]
            if popular.status != EMPTY and popular.weight > 0.0 and not _in_rows(gathered, popular.state):
                held = _offer(states, scores, held, popular.state, general * popular.weight)
    return held
