"""Hash tables of slots: the strips by their key, the points by their id.

They are open-addressed. Nothing is ever deleted from a table: an entry whose slot died or was reused is recognised by
comparing the key, and goes at the next rebuild (see `growth`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from processors.spatial.kernel import kernel
from processors.spatial.layout import ID_USED, STRIP_USED, State


@kernel
def mix(a: Any) -> Any:
    """A 64-bit mixer (splitmix64's finaliser)."""
    z = np.uint64(a)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64(z ^ (z >> np.uint64(31)))


@kernel
def home_of(table: Any, key: int) -> Any:
    """Where the search for a key in a table begins."""
    return mix(key) & (len(table) - 1)


@kernel
def is_table_full(table: Any, used: int) -> bool:
    """Whether so many entries, stale ones included, are too many for the table."""
    return used * 8 > len(table) * 5


@kernel
def find_strip(S: State, key: int) -> int:
    table = S.strip_table
    mask = len(table) - 1
    at = mix(key) & mask
    while table[at] >= 0:
        if S.strips[table[at]].key == key:
            return table[at]
        at = (at + 1) & mask
    return -1


@kernel
def index_strip(S: State, t: int) -> None:
    table = S.strip_table
    mask = len(table) - 1
    at = mix(S.strips[t].key) & mask
    while table[at] >= 0:
        at = (at + 1) & mask
    table[at] = t
    S.meta[STRIP_USED] += 1


@kernel
def find_id(S: State, point_id: int) -> int:
    """The live point of that id, or -1."""
    table = S.id_table
    mask = len(table) - 1
    at = mix(point_id) & mask
    while table[at] >= 0:
        p = table[at]
        if S.points[p].id == point_id and S.points[p].site >= 0:
            return p
        at = (at + 1) & mask
    return -1


@kernel
def index_id(S: State, p: int) -> None:
    table = S.id_table
    mask = len(table) - 1
    at = mix(S.points[p].id) & mask
    while table[at] >= 0 and S.points[table[at]].site >= 0:
        at = (at + 1) & mask
    if table[at] < 0:
        S.meta[ID_USED] += 1
    table[at] = p
