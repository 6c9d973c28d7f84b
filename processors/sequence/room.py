"""Making room between two steps of a kernel: growing, compacting, evicting, moving the landmark."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from processors.growing import in_place, roomy_zeros
from processors.sequence.contexts import GONE as CONTEXT_GONE
from processors.sequence.contexts import close_gaps, fade_rows, move_contexts, move_rows, remove_marked, spread_contexts
from processors.sequence.eviction import lightest_eighth
from processors.sequence.hashing import hash_contexts, hash_states
from processors.sequence.popularity import find_listed, list_heaviest, move_states, remove_states
from processors.sequence.rows import ENTRY
from processors.sequence.settings import NO_STATE
from processors.sequence.tables import (
    ADVANCE_LANDMARK,
    ARENA_TOP,
    CONTEXT,
    CONTEXT_FLOOR,
    CONTEXTS,
    DROP_STATES,
    EMPTY,
    EVENT_WEIGHT,
    EVICT_CONTEXTS,
    GONE,
    GROW_ARENA,
    GROW_CONTEXTS,
    GROW_STATES,
    LANDMARK,
    LIST_THRESHOLD,
    LISTED_STATES,
    NEEDED,
    STATE,
    STATE_FLOOR,
    STATES,
    TRANSITIONS,
    TRIM_LIST,
    Tables,
)

FADED = 2.0**-200
"""A count below this is forgotten when the landmark moves."""

NO_KEYS = np.empty((0, 3), np.int64)


def make_room(status: int, tables: Tables, next_landmark: int) -> tuple[Tables, np.ndarray[Any, Any]]:
    """Do what a kernel asked for: the tables to go on with, and the keys (int64[m, 3]) of evicted contexts."""
    if status == ADVANCE_LANDMARK:
        return advance_landmark(tables, next_landmark)
    if status == EVICT_CONTEXTS:
        return tables, _evict_contexts(tables)
    if status == GROW_CONTEXTS:
        return grow_contexts(tables), NO_KEYS
    if status == GROW_ARENA:
        return grow_arena(tables), NO_KEYS
    if status == GROW_STATES:
        return _grow_states(tables), NO_KEYS
    if status == DROP_STATES:
        _drop_states(tables)
    else:
        assert status == TRIM_LIST
        list_heaviest(tables, tables.listed[: tables.ints[LISTED_STATES]].copy())
    return tables, NO_KEYS


def keys_of(contexts: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The (owner, previous, last) of context records, int64[m, 3]."""
    return np.stack([contexts["owner"], contexts["previous"], contexts["last"]], axis=1)


def grow_contexts(tables: Tables) -> Tables:
    """A table twice as long: where it lies if there is room, which spares the clearing of pages for all of it."""
    size = len(tables.contexts)
    longer = in_place(tables.contexts, 2 * size)
    if longer is not None:
        spread_contexts(longer, size)
        return tables._replace(contexts=longer)
    target = roomy_zeros(2 * size, CONTEXT)
    move_contexts(tables.contexts, target)
    return tables._replace(contexts=target)


def grow_arena(tables: Tables) -> Tables:
    """Room for half as much again; abandoned blocks are left behind, unless they are few and the arena has room behind it.

    A bank that has come to evict hardly grows and stays in the same one: another arena each time would leave holes of all sizes
    in the heap.
    """
    contexts, needed = tables.contexts, int(tables.ints[NEEDED])
    live = int(contexts["capacity"].sum(dtype=np.int64))
    is_full = tables.floats[CONTEXT_FLOOR] > 0
    if is_full and live + max(live // 4, needed, 64) <= len(tables.entries):
        held = np.flatnonzero(contexts["capacity"])
        tables.ints[ARENA_TOP] = close_gaps(contexts, tables.entries, held[np.argsort(contexts["block"][held])])
        return tables
    more, top = max(live // 2, needed, 256), int(tables.ints[ARENA_TOP])
    longer = in_place(tables.entries, top + more) if top - live <= live // 4 else None
    if longer is not None:
        return tables._replace(entries=longer)
    target = roomy_zeros(live + more, ENTRY)
    tables.ints[ARENA_TOP] = move_rows(contexts, tables.entries, target)
    return tables._replace(entries=target)


def _grow_states(tables: Tables) -> Tables:
    target = roomy_zeros(2 * len(tables.states), STATE)
    move_states(tables.states, target)
    tables = tables._replace(states=target)
    find_listed(tables)
    return tables


def _evict_contexts(tables: Tables) -> np.ndarray[Any, Any]:
    contexts = tables.contexts
    held = np.flatnonzero(contexts["capacity"])
    floor = float(tables.floats[CONTEXT_FLOOR])
    leaves, tables.floats[CONTEXT_FLOOR] = lightest_eighth(
        contexts["total"][held],
        contexts["born"][held],
        floor,
        lambda tied: hash_contexts(keys_of(contexts[held[tied]])),
    )
    return _remove_contexts(tables, held[leaves])


def _remove_contexts(tables: Tables, slots: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    gone = tables.contexts[slots]
    tables.ints[CONTEXTS] -= len(slots)
    tables.ints[TRANSITIONS] -= int(gone["used"].sum(dtype=np.int64))
    tables.contexts["epoch"][slots] = CONTEXT_GONE
    remove_marked(tables.contexts)
    return keys_of(gone)


def _drop_states(tables: Tables) -> None:
    states = tables.states
    held = np.flatnonzero(states["status"] != EMPTY)
    floor = float(tables.floats[STATE_FLOOR])
    leaves, tables.floats[STATE_FLOOR] = lightest_eighth(
        states["weight"][held], states["born"][held], floor, lambda tied: hash_states(states["state"][held[tied]])
    )
    _remove_states(tables, held[leaves])


def _remove_states(tables: Tables, slots: np.ndarray[Any, Any]) -> None:
    tables.ints[STATES] -= len(slots)
    tables.states["status"][slots] = GONE
    remove_states(tables.states)
    find_listed(tables)


def advance_landmark(tables: Tables, landmark: int) -> tuple[Tables, np.ndarray[Any, Any]]:
    """Express all weights relative to a later landmark: an exact scaling by a power of two. Faded ones are forgotten."""
    ints, floats = tables.ints, tables.floats
    if ints[LANDMARK] == NO_STATE:
        ints[LANDMARK] = landmark
        return tables, NO_KEYS
    scale = math.ldexp(1.0, -min(landmark - int(ints[LANDMARK]), 4000))
    ints[LANDMARK] = landmark
    target = roomy_zeros(len(tables.entries), ENTRY)
    ints[ARENA_TOP], ints[TRANSITIONS] = fade_rows(tables.contexts, tables.entries, scale, FADED, target)
    tables = tables._replace(entries=target)
    floats[CONTEXT_FLOOR] *= scale
    floats[STATE_FLOOR] *= scale
    floats[EVENT_WEIGHT] *= scale
    floats[LIST_THRESHOLD] *= scale
    tables.states["weight"] *= scale
    tables.states["born"] *= scale
    faded = (tables.states["status"] != EMPTY) & (tables.states["weight"] + tables.states["born"] < FADED)
    _remove_states(tables, np.flatnonzero(faded))
    unused = (tables.contexts["capacity"] != 0) & (tables.contexts["used"] == 0)
    return tables, _remove_contexts(tables, np.flatnonzero(unused))
