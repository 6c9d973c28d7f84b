"""Bytes of a bank and of one context's row.

A bank is a msgpack map of its settings, counters and, as packed little-endian records, the contexts held, the entries
of their rows one after the other, and the states of order 0. Where in a table a record lies is not stored: nothing
depends on it.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np

from processors.growing import roomy_zeros
from processors.payload import decode_payload, encode_payload
from processors.sequence import rows
from processors.sequence.contexts import find_context, move_contexts
from processors.sequence.popularity import list_heaviest, move_states
from processors.sequence.room import advance_landmark, grow_arena, grow_contexts
from processors.sequence.rows import ENTRY, SMALLEST_BLOCK
from processors.sequence.settings import NO_STATE, TransitionSettings
from processors.sequence.tables import (
    ARENA_TOP,
    CONTEXT,
    CONTEXT_FLOOR,
    CONTEXTS,
    EMPTY,
    EVENT_WEIGHT,
    FLOATS,
    INTS,
    LANDMARK,
    NEEDED,
    STATE,
    STATE_FLOOR,
    STATES,
    TRANSITIONS,
    Tables,
    empty_tables,
)

ORDER_ZERO = (NO_STATE, NO_STATE, NO_STATE)
_FORMAT = "chronotope.transition_counts.1"
_ROW_FORMAT = "chronotope.transition_row.1"


def dump_bank(settings: TransitionSettings, tables: Tables, evicted_contexts: int) -> bytes:
    held = tables.contexts[tables.contexts["capacity"] != 0]
    packed = np.zeros(int(held["used"].sum(dtype=np.int64)), ENTRY)
    rows.pack_rows(held["block"], held["capacity"], tables.entries, packed)
    return encode_payload(
        _FORMAT,
        {
            "settings": settings,
            "evicted_contexts": evicted_contexts,
            "ints": tables.ints.tobytes(),
            "floats": tables.floats.tobytes(),
            "contexts": held.tobytes(),
            "entries": packed.tobytes(),
            "states": tables.states[tables.states["status"] != EMPTY].tobytes(),
        },
    )


def load_bank(payload: bytes) -> tuple[TransitionSettings, Tables, int]:
    parts = decode_payload(_FORMAT, payload)
    settings = msgspec.convert(parts["settings"], TransitionSettings)
    tables = empty_tables()
    tables.ints[:] = np.frombuffer(parts["ints"], np.int64, INTS)
    tables.floats[:] = np.frombuffer(parts["floats"], np.float64, FLOATS)
    held = np.frombuffer(parts["contexts"], CONTEXT).copy()
    packed = np.frombuffer(parts["entries"], ENTRY)
    capacities = np.array([rows.capacity_for(used) for used in range(int(held["used"].max(initial=1)) + 1)])
    held["capacity"] = capacities[held["used"]]
    ends = np.cumsum(held["capacity"], dtype=np.int64)
    held["block"] = (ends - held["capacity"]) // SMALLEST_BLOCK
    arena_top = int(ends[-1]) if len(ends) else 0
    entries = roomy_zeros(max(256, arena_top + arena_top // 2), ENTRY)
    rows.unpack_rows(held["block"], held["capacity"], held["used"], packed, entries)
    contexts = roomy_zeros(table_size(len(held)), CONTEXT)
    move_contexts(held, contexts)
    tables.ints[ARENA_TOP] = arena_top
    states = np.frombuffer(parts["states"], STATE)
    return settings, put_states(tables._replace(contexts=contexts, entries=entries), states), parts["evicted_contexts"]


def dump_context(half_life_s: float, tables: Tables, key: tuple[int, int, int]) -> bytes | None:
    parts: dict[str, Any] = {"key": key, "half_life_s": half_life_s}
    parts["landmark"] = int(tables.ints[LANDMARK])
    if key == ORDER_ZERO:
        row = tables.states[tables.states["status"] != EMPTY]
        parts["floats"] = [float(tables.floats[i]) for i in (EVENT_WEIGHT, CONTEXT_FLOOR, STATE_FLOOR)]
    else:
        slot = find_context(tables.contexts, *key)
        if slot < 0:
            return None
        held = tables.contexts[slot]
        parts["floats"] = [float(held[name]) for name in ("total", "born", "floor")]
        block = int(held["block"]) * SMALLEST_BLOCK
        row = tables.entries[block : block + int(held["capacity"])]
        row = row[row["state"] != NO_STATE]
    parts["row"] = row.tobytes()
    return encode_payload(_ROW_FORMAT, parts)


def load_context(payload: bytes, settings: TransitionSettings, tables: Tables) -> Tables:
    parts = decode_payload(_ROW_FORMAT, payload)
    if parts["half_life_s"] != settings.half_life_s:
        raise ValueError(f"payload has half_life_s {parts['half_life_s']}, the bank {settings.half_life_s}")
    key, landmark = tuple(parts["key"]), parts["landmark"]
    row = np.frombuffer(parts["row"], STATE if key == ORDER_ZERO else ENTRY).copy()
    if key != ORDER_ZERO:
        _check_room(key, len(row), settings, tables)
    if tables.ints[LANDMARK] == NO_STATE or landmark > tables.ints[LANDMARK]:
        tables, _ = advance_landmark(tables, landmark)
    scale = math.ldexp(1.0, max(landmark - int(tables.ints[LANDMARK]), -4000))
    numbers = [number * scale for number in parts["floats"]]
    for name in ("weight", "born" if key == ORDER_ZERO else "error"):
        row[name] *= scale
    if key != ORDER_ZERO:
        return _put_row(tables, key, numbers, row)
    tables.floats[[EVENT_WEIGHT, CONTEXT_FLOOR, STATE_FLOOR]] = numbers
    return put_states(tables, row)


def put_states(tables: Tables, records: np.ndarray[Any, Any]) -> Tables:
    """Make ``records`` order 0."""
    target = roomy_zeros(table_size(len(records)), STATE)
    move_states(records, target)
    tables.ints[STATES] = len(records)
    tables = tables._replace(states=target)
    list_heaviest(tables, np.flatnonzero(target["status"] != EMPTY))
    return tables


def table_size(held: int) -> int:
    """The smallest table that is at most two thirds full."""
    size = 64
    while 3 * (held + 1) > 2 * size:
        size *= 2
    return size


def _check_room(key: tuple[int, int, int], states: int, settings: TransitionSettings, tables: Tables) -> None:
    slot = find_context(tables.contexts, *key)
    before = 0 if slot < 0 else int(tables.contexts[slot]["used"])
    if states > settings.max_states_per_context:
        raise ValueError(f"payload holds {states} states, max_states_per_context is {settings.max_states_per_context}")
    if slot < 0 and tables.ints[CONTEXTS] >= settings.max_contexts:
        raise ValueError(f"payload is one context more than max_contexts ({settings.max_contexts})")
    if tables.ints[TRANSITIONS] - before + states > settings.max_transitions:
        raise ValueError(f"payload exceeds max_transitions ({settings.max_transitions})")


def _put_row(tables: Tables, key: tuple[int, int, int], numbers: list[float], row: np.ndarray[Any, Any]) -> Tables:
    ints, capacity = tables.ints, int(rows.capacity_for(len(row)))
    if ints[ARENA_TOP] + capacity > len(tables.entries):
        ints[NEEDED] = capacity
        tables = grow_arena(tables)
    if find_context(tables.contexts, *key) < 0:
        if 3 * (ints[CONTEXTS] + 1) > 2 * len(tables.contexts):
            tables = grow_contexts(tables)
        ints[CONTEXTS] += 1
    slot = find_context(tables.contexts, *key)
    held = tables.contexts[slot if slot >= 0 else -1 - slot]
    ints[TRANSITIONS] += len(row) - int(held["used"])
    block = int(ints[ARENA_TOP])
    held["owner"], held["previous"], held["last"] = key
    held["total"], held["born"], held["floor"] = numbers
    held["block"], held["capacity"], held["used"], held["epoch"] = block // SMALLEST_BLOCK, capacity, len(row), 0
    one = np.ones(1, np.int64)
    rows.unpack_rows(one * (block // SMALLEST_BLOCK), one * capacity, one * len(row), row, tables.entries)
    ints[ARENA_TOP] += capacity
    return tables
