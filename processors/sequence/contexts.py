"""The table of contexts: find one, count a transition from it, move the table or its rows to larger arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from processors.sequence import rows
from processors.sequence.compiled import kernel
from processors.sequence.hashing import hash_context, slot_of
from processors.sequence.rows import SMALLEST_BLOCK
from processors.sequence.settings import NO_STATE
from processors.sequence.tables import (
    ARENA_TOP,
    CONTEXT_FLOOR,
    CONTEXTS,
    DONE,
    EVICT_CONTEXTS,
    GROW_ARENA,
    GROW_CONTEXTS,
    NEEDED,
    TRANSITIONS,
)

GONE = -1
"""The epoch of a context that is about to be removed."""


@kernel
def find_context(contexts: Any, owner: int, previous: int, last: int) -> int:
    """The slot of a context, or -1 - slot of the empty slot where it belongs."""
    size = len(contexts)
    slot = slot_of(hash_context(owner, previous, last), size)
    while contexts[slot].capacity != 0:
        context = contexts[slot]
        if context.last == last and context.previous == previous and context.owner == owner:
            return slot
        slot = (slot + 1) & (size - 1)
    return -1 - slot


@kernel
def _open_context(
    tables: Any, slot: int, owner: int, previous: int, last: int, state: int, weight: float, max_contexts: int
) -> int:
    ints = tables.ints
    if ints[CONTEXTS] >= max_contexts:
        return EVICT_CONTEXTS
    if 3 * (ints[CONTEXTS] + 1) > 2 * len(tables.contexts):
        return GROW_CONTEXTS
    if ints[ARENA_TOP] + SMALLEST_BLOCK > len(tables.entries):
        ints[NEEDED] = SMALLEST_BLOCK
        return GROW_ARENA
    context, floor, block = tables.contexts[slot], tables.floats[CONTEXT_FLOOR], ints[ARENA_TOP]
    context.owner, context.previous, context.last = owner, previous, last
    context.total, context.born, context.floor = weight, floor, floor
    context.block, context.capacity, context.used, context.epoch = block // SMALLEST_BLOCK, SMALLEST_BLOCK, 1, 0
    rows.clear(tables.entries, block, SMALLEST_BLOCK)
    rows.put(tables.entries, -1 - rows.find(tables.entries, block, SMALLEST_BLOCK, state), state, weight, floor)
    ints[ARENA_TOP] += SMALLEST_BLOCK
    ints[CONTEXTS] += 1
    ints[TRANSITIONS] += 1
    return DONE


@kernel
def _widen_row(tables: Any, slot: int) -> int:
    context, ints = tables.contexts[slot], tables.ints
    capacity, block = np.int64(context.capacity), np.int64(context.block) * SMALLEST_BLOCK
    if ints[ARENA_TOP] + 2 * capacity > len(tables.entries):
        ints[NEEDED] = 2 * capacity
        return GROW_ARENA
    rows.copy_row(tables.entries, block, capacity, tables.entries, ints[ARENA_TOP], 2 * capacity)
    context.block, context.capacity = ints[ARENA_TOP] // SMALLEST_BLOCK, 2 * capacity
    ints[ARENA_TOP] += 2 * capacity
    return DONE


@kernel
def _add_to_row(tables: Any, slot: int, state: int, weight: float, max_used: int) -> int:
    """Count a state that the row does not hold: in a free entry, or in the place of the lightest."""
    context, entries = tables.contexts[slot], tables.entries
    if context.used < max_used:
        if not rows.fits(context.used + 1, context.capacity):
            status = _widen_row(tables, slot)
            if status != DONE:
                return status
        context.used += 1
        tables.ints[TRANSITIONS] += 1
    else:
        block, capacity = np.int64(context.block) * SMALLEST_BLOCK, np.int64(context.capacity)
        leaver = rows.lightest(entries, block, capacity)
        context.floor = max(context.floor, entries[leaver].weight + entries[leaver].error)
        rows.remove(entries, block, capacity, leaver)
    block, capacity = np.int64(context.block) * SMALLEST_BLOCK, np.int64(context.capacity)
    rows.put(entries, -1 - rows.find(entries, block, capacity, state), state, weight, context.floor)
    return DONE


@kernel
def count_transition(
    tables: Any, owner: int, previous: int, last: int, state: int, weight: float, limits: Any
) -> tuple[int, int, bool]:
    """Add ``weight`` to one context's state: (status, slot of the context, whether the state was new to it).

    Nothing has changed unless the status is DONE.
    """
    max_used, max_contexts, max_transitions = limits
    slot = find_context(tables.contexts, owner, previous, last)
    if slot < 0:
        slot = -1 - slot
        if tables.ints[TRANSITIONS] >= max_transitions:
            return EVICT_CONTEXTS, slot, True
        return _open_context(tables, slot, owner, previous, last, state, weight, max_contexts), slot, True
    context = tables.contexts[slot]
    place = rows.find(tables.entries, np.int64(context.block) * SMALLEST_BLOCK, np.int64(context.capacity), state)
    if place >= 0:
        tables.entries[place].weight += weight
    else:
        if context.used < max_used and tables.ints[TRANSITIONS] >= max_transitions:
            return EVICT_CONTEXTS, slot, True
        status = _add_to_row(tables, slot, state, weight, max_used)
        if status != DONE:
            return status, slot, True
    context.total += weight
    return DONE, slot, place < 0


@kernel
def move_contexts(contexts: Any, target: Any) -> None:
    """Re-insert all contexts into an empty table of another size."""
    _insert_all(contexts, target)


@kernel
def _insert_all(contexts: Any, target: Any) -> None:
    size = len(target)
    for slot in range(len(contexts)):
        if contexts[slot].capacity != 0:
            context = contexts[slot]
            free = slot_of(hash_context(context.owner, context.previous, context.last), size)
            while target[free].capacity != 0:
                free = (free + 1) & (size - 1)
            target[free] = context


@kernel
def spread_contexts(contexts: Any, size: int) -> None:
    """Re-insert the contexts of the first ``size`` slots into the whole table, of twice that; the second half is empty."""
    mask, start = len(contexts) - 1, 0
    while contexts[start].capacity != 0:
        start += 1
    # The run at the start may continue one at the end: its contexts may go before any of the others only when these have gone.
    aside = contexts[:start].copy()
    for slot in range(start):
        contexts[slot].capacity = 0
    for slot in range(start, size):  # nothing that was not moved yet lies between a context's home and its slot
        context = contexts[slot]
        if context.capacity != 0:
            free = slot_of(hash_context(context.owner, context.previous, context.last), len(contexts))
            while free != slot and contexts[free].capacity != 0:
                free = (free + 1) & mask
            if free != slot:
                contexts[free] = context
                contexts[slot].capacity = 0
    _insert_all(aside, contexts)


@kernel
def remove_marked(contexts: Any) -> None:
    """Take out all contexts whose epoch is ``GONE``, closing the gaps so that probing still finds the others."""
    mask = len(contexts) - 1
    for slot in range(len(contexts)):
        while contexts[slot].capacity != 0 and contexts[slot].epoch == GONE:
            hole, place = slot, (slot + 1) & mask
            while contexts[place].capacity != 0:
                context = contexts[place]
                home = slot_of(hash_context(context.owner, context.previous, context.last), len(contexts))
                if ((place - home) & mask) >= ((place - hole) & mask):
                    contexts[hole] = context
                    hole = place
                place = (place + 1) & mask
            contexts[hole].capacity = 0


@kernel
def move_rows(contexts: Any, entries: Any, target: Any) -> Any:
    """Copy every row to the start of another arena, leaving abandoned blocks behind: the new top."""
    top = np.int64(0)
    for slot in range(len(contexts)):
        context = contexts[slot]
        if context.capacity != 0:
            capacity = np.int64(context.capacity)
            block = np.int64(context.block) * SMALLEST_BLOCK
            target[top : top + capacity] = entries[block : block + capacity]
            context.block = top // SMALLEST_BLOCK
            top += capacity
    return top


@kernel
def close_gaps(contexts: Any, entries: Any, slots: Any) -> Any:
    """Move the rows of ``slots``, which come in the order of their blocks, to the start of their arena: the new top."""
    top = np.int64(0)
    for slot in slots:
        context = contexts[slot]
        block = np.int64(context.block) * SMALLEST_BLOCK
        for place in range(np.int64(context.capacity)):  # a slice that overlaps itself would be copied first
            entries[top + place] = entries[block + place]
        context.block = top // SMALLEST_BLOCK
        top += np.int64(context.capacity)
    return top


@kernel
def fade_rows(contexts: Any, entries: Any, scale: float, least: float, target: Any) -> tuple[int, int]:
    """Scale all weights, forget states below ``least``, copy the rest to another arena: (new top, states held)."""
    top, held = 0, 0
    for slot in range(len(contexts)):
        context = contexts[slot]
        if context.capacity == 0:
            continue
        capacity, block = np.int64(context.capacity), np.int64(context.block) * SMALLEST_BLOCK
        context.total *= scale
        context.born *= scale
        context.floor *= scale
        alive = 0
        for place in range(block, block + capacity):
            if entries[place].state != NO_STATE:
                entries[place].weight *= scale
                entries[place].error *= scale
                if entries[place].weight + entries[place].error < least:
                    entries[place].state = NO_STATE
                else:
                    alive += 1
        new_capacity = rows.capacity_for(max(alive, 1))
        rows.copy_row(entries, block, capacity, target, top, new_capacity)
        context.block, context.capacity, context.used = top // SMALLEST_BLOCK, new_capacity, alive
        top += new_capacity
        held += alive
    return top, held
