"""The heaviest next states of many contexts in one pass, for those who publish them."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from processors.sequence.columns import Floats, Ints
from processors.sequence.compiled import kernel
from processors.sequence.contexts import find_context
from processors.sequence.rows import SMALLEST_BLOCK, find
from processors.sequence.settings import NO_STATE


class HeaviestStates(msgspec.Struct, frozen=True):
    """For each of n contexts its k heaviest states, heaviest first, then by code; NO_STATE and 0 where there are fewer."""

    states: Ints
    """int64[n, k]."""
    counts: Floats
    """float64[n, k], decayed."""
    total: Floats
    """float64[n], the decayed count of all transitions from the context; 0 if it is not held."""
    held: Ints
    """int64[n], how many states are held for the context, those that are not listed too."""


@kernel
def list_heaviest(
    tables: Any, owners: Any, previous: Any, last: Any, factor: Any, states: Any, counts: Any, total: Any, held: Any
) -> None:
    """Fill the columns of :class:`HeaviestStates`; ``states`` must hold NO_STATE. O(k) per state held."""
    length = states.shape[1]
    for row in range(len(owners)):
        slot = find_context(tables.contexts, owners[row], previous[row], last[row])
        if slot < 0:
            continue
        context = tables.contexts[slot]
        total[row], held[row] = context.total * factor[row], context.used
        block, used = np.int64(context.block) * SMALLEST_BLOCK, 0
        for place in range(block, block + np.int64(context.capacity)):
            state, weight = tables.entries[place].state, tables.entries[place].weight
            if state == NO_STATE:
                continue
            at = used
            while at > 0 and (
                weight > counts[row, at - 1] or (weight == counts[row, at - 1] and state < states[row, at - 1])
            ):
                at -= 1
            if at == length:
                continue
            used = min(used + 1, length)
            for moved in range(used - 1, at, -1):
                states[row, moved], counts[row, moved] = states[row, moved - 1], counts[row, moved - 1]
            states[row, at], counts[row, at] = state, weight
        counts[row, :used] *= factor[row]


@kernel
def list_counts(
    tables: Any, owners: Any, previous: Any, last: Any, wanted: Any, factor: float, counts: Any, total: Any
) -> None:
    """The decayed count of one ``wanted`` state per context and that of all its transitions, 0 for what is not held."""
    for row in range(len(owners)):
        slot = find_context(tables.contexts, owners[row], previous[row], last[row])
        if slot < 0:
            counts[row] = total[row] = 0.0
            continue
        context = tables.contexts[slot]
        block, capacity = np.int64(context.block) * SMALLEST_BLOCK, np.int64(context.capacity)
        place = find(tables.entries, block, capacity, wanted[row])
        counts[row] = tables.entries[place].weight * factor if place >= 0 else 0.0
        total[row] = context.total * factor
