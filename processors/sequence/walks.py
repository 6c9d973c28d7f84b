"""Random walks with restart on the rows of a transition bank, in bounded work and without chance."""

from __future__ import annotations

from typing import Any

import numpy as np

from processors.sequence.compiled import kernel
from processors.sequence.contexts import find_context
from processors.sequence.hashing import hash_state, slot_of
from processors.sequence.rows import SMALLEST_BLOCK
from processors.sequence.settings import NO_STATE


@kernel
def _add(states: Any, mass: Any, state: int, amount: float) -> None:
    slot = slot_of(hash_state(state), len(states))
    while states[slot] != state and states[slot] != NO_STATE:
        slot = (slot + 1) & (len(states) - 1)
    states[slot] = state
    mass[slot] += amount


@kernel
def _heaviest(states: Any, mass: Any, width: int) -> tuple[Any, Any]:
    """The ``width`` states with the most mass, heaviest first, then by code."""
    held = np.flatnonzero(states != NO_STATE)
    held = held[np.argsort(states[held])]
    held = held[np.argsort(-mass[held], kind="mergesort")][:width]
    return states[held], mass[held]


@kernel
def _table_for(states: int) -> tuple[Any, Any]:
    size = 64
    while size < 2 * states:
        size *= 2
    return np.full(size, NO_STATE, np.int64), np.zeros(size, np.float64)


@kernel
def walk(tables: Any, starts: Any, shares: Any, restart: float, steps: int, width: int) -> tuple[Any, Any]:
    """Where walkers end that start at ``starts`` and stop at each state with probability ``restart``.

    The distribution is carried exactly for ``steps`` steps over the ``width`` heaviest states of each; what is lighter is
    let go, so the ends sum to at most 1. A walker at a state without a row stops there. O(steps * width * row).
    """
    ended_states, ended_mass = _table_for(len(starts) + (steps + 1) * width)
    here, mass = starts, shares
    for step in range(steps + 1):
        reach = np.int64(1)
        for state in here:
            slot = find_context(tables.contexts, NO_STATE, NO_STATE, state)
            reach += np.int64(tables.contexts[slot].used) if slot >= 0 else 0
        next_states, next_mass = _table_for(reach)
        for i in range(len(here)):
            slot = find_context(tables.contexts, NO_STATE, NO_STATE, here[i])
            stays = slot < 0 or step == steps
            _add(ended_states, ended_mass, here[i], mass[i] if stays else restart * mass[i])
            if stays:
                continue
            context = tables.contexts[slot]
            block = np.int64(context.block) * SMALLEST_BLOCK
            for place in range(block, block + np.int64(context.capacity)):
                if tables.entries[place].state != NO_STATE:
                    share = (1.0 - restart) * mass[i] * tables.entries[place].weight / context.total
                    _add(next_states, next_mass, tables.entries[place].state, share)
        here, mass = _heaviest(next_states, next_mass, width)
    return _heaviest(ended_states, ended_mass, len(ended_states))
