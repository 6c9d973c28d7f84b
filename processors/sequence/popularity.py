"""Order 0: one decayed count per state, bounded, with its heaviest states always at hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from processors.sequence.compiled import kernel
from processors.sequence.hashing import hash_state, slot_of
from processors.sequence.tables import (
    DONE,
    DROP_STATES,
    EMPTY,
    EVENT_WEIGHT,
    GONE,
    GROW_STATES,
    HELD,
    LIST_LENGTH,
    LIST_THRESHOLD,
    LISTED,
    LISTED_STATES,
    STATE_FLOOR,
    STATES,
    TRIM_LIST,
    Tables,
)


@kernel
def find_state(states: Any, state: int) -> int:
    """The slot of a state, or -1 - slot of the empty slot where it belongs."""
    size = len(states)
    slot = slot_of(hash_state(state), size)
    while states[slot].status != EMPTY:
        if states[slot].state == state:
            return slot
        slot = (slot + 1) & (size - 1)
    return -1 - slot


@kernel
def weights_of(states: Any, wanted: Any, weights: Any) -> None:
    """The stored weight of each of ``wanted``, 0 for states that are not held."""
    for row in range(len(wanted)):
        slot = find_state(states, wanted[row])
        weights[row] = states[slot].weight if slot >= 0 else 0.0


@kernel
def count_state(tables: Any, state: int, weight: float, max_states: int) -> int:
    """Add ``weight`` to a state. Nothing has changed unless the status is DONE."""
    states, ints, floats = tables.states, tables.ints, tables.floats
    slot = find_state(states, state)
    known = slot >= 0
    if not known:
        slot = -1 - slot
        if ints[STATES] >= max_states:
            return DROP_STATES
        if 3 * (ints[STATES] + 1) > 2 * len(states):
            return GROW_STATES
    reached = weight + (states[slot].weight if known else 0.0)
    enters_list = reached > floats[LIST_THRESHOLD] and states[slot].status != LISTED
    if enters_list and ints[LISTED_STATES] == len(tables.listed):
        return TRIM_LIST
    if not known:
        states[slot].state, states[slot].born, states[slot].status = state, floats[STATE_FLOOR], HELD
        ints[STATES] += 1
    states[slot].weight = reached
    floats[EVENT_WEIGHT] += weight
    if enters_list:
        states[slot].status = LISTED
        tables.listed[ints[LISTED_STATES]] = slot
        ints[LISTED_STATES] += 1
    return DONE


@kernel
def move_states(states: Any, target: Any) -> None:
    """Re-insert all states into an empty table of another size."""
    size = len(target)
    for slot in range(len(states)):
        if states[slot].status != EMPTY:
            free = slot_of(hash_state(states[slot].state), size)
            while target[free].status != EMPTY:
                free = (free + 1) & (size - 1)
            target[free] = states[slot]


@kernel
def remove_states(states: Any) -> None:
    """Take out all states whose status is ``GONE``, closing the gaps so that probing still finds the others."""
    mask = len(states) - 1
    for slot in range(len(states)):
        while states[slot].status == GONE:
            hole, place = slot, (slot + 1) & mask
            while states[place].status != EMPTY:
                home = slot_of(hash_state(states[place].state), len(states))
                if ((place - home) & mask) >= ((place - hole) & mask):
                    states[hole] = states[place]
                    hole = place
                place = (place + 1) & mask
            states[hole].status = EMPTY


def find_listed(tables: Tables) -> None:
    """Find the listed states again after states have moved. The threshold stands."""
    slots = np.flatnonzero(tables.states["status"] == LISTED)
    tables.listed[: len(slots)] = slots
    tables.ints[LISTED_STATES] = len(slots)


def list_heaviest(tables: Tables, candidates: np.ndarray[Any, Any]) -> None:
    """Make the list anew from the slots ``candidates``: every state heavier than its threshold is on it."""
    states, listed = tables.states, tables.listed
    weights = states["weight"][candidates]
    states["status"][candidates] = HELD
    threshold = -1.0
    if len(candidates) > LIST_LENGTH:
        heaviest = np.argpartition(-weights, LIST_LENGTH - 1)[:LIST_LENGTH]
        threshold, candidates = float(weights[heaviest].min()), candidates[heaviest]
    states["status"][candidates] = LISTED
    listed[: len(candidates)] = candidates
    tables.ints[LISTED_STATES] = len(candidates)
    tables.floats[LIST_THRESHOLD] = threshold
