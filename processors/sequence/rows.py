"""One context's next states: a small open-addressing block in a shared arena, bounded by Space-Saving.

A block of 2**k entries lies in one array of 24-byte records; a lookup touches one or two cache lines and the whole row
is read in sequence. ``weight`` is what was surely seen, ``error`` what may have been seen before and was forgotten:
the truth lies in [weight, weight + error]. A full row gives the place of its lightest state (lowest code on a tie) to
the newcomer, whose error is the weight of the one that left (Metwally, Agrawal, El Abbadi: "Efficient computation of
frequent and top-k elements in data streams", ICDT 2005). What a row holds never depends on where in the block it lies.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from processors.sequence.compiled import kernel
from processors.sequence.hashing import hash_state, slot_of
from processors.sequence.settings import NO_STATE

ENTRY = np.dtype([("state", np.int64), ("weight", np.float64), ("error", np.float64)])
SMALLEST_BLOCK = 2


@kernel
def fits(used: int, capacity: int) -> bool:
    """Whether a block of ``capacity`` may hold ``used`` entries: small ones fill up, others stay 3/4 full."""
    return used <= capacity if capacity <= 4 else 4 * used <= 3 * capacity


@kernel
def capacity_for(used: int) -> int:
    """The smallest block that may hold ``used`` entries."""
    capacity = SMALLEST_BLOCK
    while not fits(used, capacity):
        capacity *= 2
    return capacity


@kernel
def find(entries: Any, block: int, capacity: int, state: int) -> int:
    """The place of ``state`` in the arena, or -1 - place of the empty entry where it belongs (the block's end if full)."""
    slot = slot_of(hash_state(state), capacity)
    for _ in range(capacity):
        held = entries[block + slot].state
        if held == state:
            return block + slot
        if held == NO_STATE:
            return -1 - (block + slot)
        slot = (slot + 1) & (capacity - 1)
    return -1 - (block + capacity)


@kernel
def clear(entries: Any, block: int, capacity: int) -> None:
    for place in range(block, block + capacity):
        entries[place].state = NO_STATE


@kernel
def put(entries: Any, place: int, state: int, weight: float, error: float) -> None:
    entries[place].state = state
    entries[place].weight = weight
    entries[place].error = error


@kernel
def copy_row(source: Any, block: int, capacity: int, target: Any, new_block: int, new_capacity: int) -> None:
    """Copy a row into another block; the two blocks may lie in the same arena."""
    clear(target, new_block, new_capacity)
    for place in range(block, block + capacity):
        if source[place].state != NO_STATE:
            state = source[place].state
            put(
                target,
                -1 - find(target, new_block, new_capacity, state),
                state,
                source[place].weight,
                source[place].error,
            )


@kernel
def lightest(entries: Any, block: int, capacity: int) -> int:
    """The place of the state with the least upper count; the lowest code on a tie. O(capacity)."""
    best, best_weight, best_state = -1, np.inf, np.int64(0)
    for place in range(block, block + capacity):
        state = entries[place].state
        if state != NO_STATE:
            weight = entries[place].weight + entries[place].error
            if weight < best_weight or (weight == best_weight and state < best_state):
                best, best_weight, best_state = place, weight, state
    return best


@kernel
def remove(entries: Any, block: int, capacity: int, place: int) -> None:
    """Take an entry out and close the gap, so that probing still finds the others."""
    hole = place - block
    slot = hole
    for _ in range(capacity - 1):
        slot = (slot + 1) & (capacity - 1)
        state = entries[block + slot].state
        if state == NO_STATE:
            break
        home = slot_of(hash_state(state), capacity)
        if ((slot - home) & (capacity - 1)) >= ((slot - hole) & (capacity - 1)):
            put(entries, block + hole, state, entries[block + slot].weight, entries[block + slot].error)
            hole = slot
    entries[block + hole].state = NO_STATE


@kernel
def pack_rows(blocks: Any, capacities: Any, entries: Any, packed: Any) -> None:
    """Write the entries of rows (blocks in units of the smallest) one after the other."""
    top = 0
    for row in range(len(blocks)):
        block = np.int64(blocks[row]) * SMALLEST_BLOCK
        for place in range(block, block + np.int64(capacities[row])):
            if entries[place].state != NO_STATE:
                packed[top] = entries[place]
                top += 1


@kernel
def unpack_rows(blocks: Any, capacities: Any, used: Any, packed: Any, entries: Any) -> None:
    """Undo :func:`pack_rows` into empty blocks."""
    top = 0
    for row in range(len(blocks)):
        block, capacity = np.int64(blocks[row]) * SMALLEST_BLOCK, np.int64(capacities[row])
        clear(entries, block, capacity)
        for _ in range(used[row]):
            entries[-1 - find(entries, block, capacity, packed[top].state)] = packed[top]
            top += 1
