"""The packed arrays that the kernels share, and the words in which a kernel asks its caller for room."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from processors.growing import roomy_zeros
from processors.sequence.rows import ENTRY

CONTEXT = np.dtype(
    [
        ("owner", np.int64),
        ("previous", np.int64),
        ("last", np.int64),
        ("total", np.float64),  # weight seen since the context is held
        ("born", np.float64),  # weight that it may have lost by an eviction before that
        ("floor", np.float64),  # weight that a state which is not in the row may have
        ("block", np.int32),  # the row's place in the arena, in units of the smallest block
        ("capacity", np.int32),  # of the row; 0 marks an empty slot
        ("used", np.int32),
        ("epoch", np.int32),  # the last update() that touched it
    ]
)
"""One context, one cache line, inline in an open-addressing table."""

STATE = np.dtype([("state", np.int64), ("weight", np.float64), ("born", np.float64), ("status", np.int64)])
EMPTY, HELD, LISTED, GONE = range(4)

# The counters in Tables.ints ...
CONTEXTS, TRANSITIONS, STATES, ARENA_TOP, LISTED_STATES, LANDMARK, EPOCH, TOUCHED, EVENT, STEP, NEEDED = range(11)
INTS = 11
# ... and in Tables.floats.
EVENT_WEIGHT, CONTEXT_FLOOR, STATE_FLOOR, LIST_THRESHOLD = range(4)
FLOATS = 4

# What a kernel returns: finished, or what its caller must do before it goes on.
DONE, ADVANCE_LANDMARK, GROW_CONTEXTS, EVICT_CONTEXTS, GROW_ARENA, GROW_STATES, DROP_STATES, TRIM_LIST = range(8)

LIST_LENGTH = 256
"""Order 0's heaviest states that are always at hand; the list holds up to four times as many between two trims."""


class Tables(NamedTuple):
    """Every array of a bank; ``_replace`` one to grow it."""

    contexts: np.ndarray[Any, Any]
    entries: np.ndarray[Any, Any]
    states: np.ndarray[Any, Any]
    listed: np.ndarray[Any, Any]
    ints: np.ndarray[Any, Any]
    floats: np.ndarray[Any, Any]


def empty_tables() -> Tables:
    tables = Tables(
        contexts=roomy_zeros(64, CONTEXT),
        entries=roomy_zeros(256, ENTRY),
        states=roomy_zeros(64, STATE),
        listed=np.zeros(4 * LIST_LENGTH, np.int64),
        ints=np.zeros(INTS, np.int64),
        floats=np.zeros(FLOATS, np.float64),
    )
    tables.floats[LIST_THRESHOLD] = -1.0
    return tables
