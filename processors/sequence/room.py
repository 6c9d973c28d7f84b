"""Making room between two steps of a kernel: growing, compacting, evicting, moving the landmark."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from processors.sequence.contexts import fade_rows, move_contexts, move_rows
from processors.sequence.eviction import lightest_eighth
from processors.sequence.hashing import aligned_zeros, hash_contexts, hash_states
from processors.sequence.popularity import list_heaviest, move_states
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
    GROW_ARENA,
    GROW_CONTEXTS,
    GROW_STATES,
    LANDMARK,
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
        return evict_contexts(tables)
    if status == GROW_CONTEXTS:
        return grow_contexts(tables), NO_KEYS
    if status == GROW_ARENA:
        return grow_arena(tables), NO_KEYS
    if status == GROW_STATES:
        return resize_states(tables, np.ones(len(tables.states), np.bool_), 2 * len(tables.states)), NO_KEYS
    if status == DROP_STATES:
        return _drop_states(tables), NO_KEYS
    assert status == TRIM_LIST
    list_heaviest(tables, tables.listed[: tables.ints[LISTED_STATES]].copy())
    return tables, NO_KEYS


def keys_of(contexts: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The (owner, previous, last) of context records, int64[m, 3]."""
    return np.stack([contexts["owner"], contexts["previous"], contexts["last"]], axis=1)


def _resize_contexts(tables: Tables, keep: np.ndarray[Any, Any], size: int) -> Tables:
    target = aligned_zeros(size, CONTEXT)
    move_contexts(tables.contexts, keep, target)
    return tables._replace(contexts=target)


def grow_contexts(tables: Tables) -> Tables:
    return _resize_contexts(tables, np.ones(len(tables.contexts), np.bool_), 2 * len(tables.contexts))


def grow_arena(tables: Tables) -> Tables:
    live = int(tables.contexts["capacity"].sum(dtype=np.int64))
    spare = max(live // 2, int(tables.ints[NEEDED]), 256)
    target = aligned_zeros(live + spare, ENTRY)
    tables.ints[ARENA_TOP] = move_rows(tables.contexts, tables.entries, target)
    return tables._replace(entries=target)


def resize_states(tables: Tables, keep: np.ndarray[Any, Any], size: int) -> Tables:
    target = aligned_zeros(size, STATE)
    move_states(tables.states, keep, target)
    tables = tables._replace(states=target)
    list_heaviest(tables, np.flatnonzero(target["status"] != EMPTY))
    return tables


def evict_contexts(tables: Tables) -> tuple[Tables, np.ndarray[Any, Any]]:
    held = np.flatnonzero(tables.contexts["capacity"])
    records = tables.contexts[held]
    hashes = hash_contexts(keys_of(records))
    leaves, floor = lightest_eighth(records["total"], records["born"], float(tables.floats[CONTEXT_FLOOR]), hashes)
    return _without(tables, held[leaves], floor)


def _without(tables: Tables, slots: np.ndarray[Any, Any], floor: float) -> tuple[Tables, np.ndarray[Any, Any]]:
    gone = tables.contexts[slots]
    keep = np.ones(len(tables.contexts), np.bool_)
    keep[slots] = False
    tables.ints[CONTEXTS] -= len(slots)
    tables.ints[TRANSITIONS] -= int(gone["used"].sum(dtype=np.int64))
    tables.floats[CONTEXT_FLOOR] = floor
    return _resize_contexts(tables, keep, len(tables.contexts)), keys_of(gone)


def _drop_states(tables: Tables) -> Tables:
    held = np.flatnonzero(tables.states["status"] != EMPTY)
    records = tables.states[held]
    hashes = hash_states(records["state"].copy())
    leaves, floor = lightest_eighth(records["weight"], records["born"], float(tables.floats[STATE_FLOOR]), hashes)
    keep = np.ones(len(tables.states), np.bool_)
    keep[held[leaves]] = False
    tables.ints[STATES] -= int(leaves.sum())
    tables.floats[STATE_FLOOR] = floor
    return resize_states(tables, keep, len(tables.states))


def advance_landmark(tables: Tables, landmark: int) -> tuple[Tables, np.ndarray[Any, Any]]:
    """Express all weights relative to a later landmark: an exact scaling by a power of two. Faded ones are forgotten."""
    ints, floats = tables.ints, tables.floats
    if ints[LANDMARK] == NO_STATE:
        ints[LANDMARK] = landmark
        return tables, NO_KEYS
    scale = math.ldexp(1.0, -min(landmark - int(ints[LANDMARK]), 4000))
    ints[LANDMARK] = landmark
    target = aligned_zeros(len(tables.entries), ENTRY)
    ints[ARENA_TOP], ints[TRANSITIONS] = fade_rows(tables.contexts, tables.entries, scale, FADED, target)
    tables = tables._replace(entries=target)
    floats[CONTEXT_FLOOR] *= scale
    floats[STATE_FLOOR] *= scale
    floats[EVENT_WEIGHT] *= scale
    tables.states["weight"] *= scale
    tables.states["born"] *= scale
    alive = tables.states["weight"] + tables.states["born"] >= FADED
    ints[STATES] = int(np.count_nonzero(alive & (tables.states["status"] != EMPTY)))
    tables = resize_states(tables, alive, len(tables.states))
    faded = np.flatnonzero((tables.contexts["capacity"] != 0) & (tables.contexts["used"] == 0))
    return _without(tables, faded, float(floats[CONTEXT_FLOOR]))
