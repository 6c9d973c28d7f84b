"""Sites: the places that points share. Those of crowded cells are in a hash table, others are found among the records."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.cpython.unsafe.numbers import trailing_zeros

from processors.spatial.hash_tables import mix
from processors.spatial.kernel import kernel
from processors.spatial.lanes import lanes_at
from processors.spatial.layout import BEGIN, END, FREE_SITE, LIVE_SITES, POINTS, SITE_OF, SITE_USED, State
from processors.spatial.records import site_of


@kernel
def mix_site(x: float, y: float) -> Any:
    return mix(np.float64(x).view(np.int64) ^ mix(np.float64(y).view(np.int64)))


@kernel
def find_site(S: State, c: int, fx: Any, fy: Any, x: float, y: float) -> int:
    """The site at (x, y), which is (fx, fy) within cell c, or -1: by hash in a crowded cell, else among its few records."""
    if S.span[c, POINTS] < 0:
        return find_crowded_site(S, x, y)
    for line in range(S.span[c, BEGIN] >> 2, (S.span[c, END] + 3) >> 2):
        found = lanes_at(S.record_f, line, fx, fy)
        while found != 0:
            s = S.record_i[line, SITE_OF, trailing_zeros(found)]
            found &= found - 1
            if S.sites[s].x == x and S.sites[s].y == y:
                return s
    return -1


@kernel
def find_crowded_site(S: State, x: float, y: float) -> int:
    table = S.site_table
    mask = len(table) - 1
    at = mix_site(x, y) & mask
    while table[at] >= 0:
        s = table[at]
        if S.sites[s].x == x and S.sites[s].y == y and S.sites[s].points > 0:
            return s
        at = (at + 1) & mask
    return -1


@kernel
def index_site(S: State, s: int) -> None:
    table = S.site_table
    mask = len(table) - 1
    at = mix_site(S.sites[s].x, S.sites[s].y) & mask
    while table[at] >= 0 and S.sites[table[at]].points > 0:
        at = (at + 1) & mask
    if table[at] < 0:
        S.meta[SITE_USED] += 1
    table[at] = s


@kernel
def index_sites_of(S: State, c: int) -> None:
    """Cell c became crowded: its sites are in the hash table from now on."""
    for k in range(S.span[c, BEGIN], S.span[c, END]):
        s = site_of(S, k)
        if find_crowded_site(S, S.sites[s].x, S.sites[s].y) < 0:
            index_site(S, s)


@kernel
def new_site(S: State, x: float, y: float, c: int) -> int:
    s = S.meta[FREE_SITE]
    S.meta[FREE_SITE] = S.sites[s].head
    S.meta[LIVE_SITES] += 1
    S.sites[s].x = x
    S.sites[s].y = y
    S.sites[s].points = 0
    S.sites[s].cell = c
    S.sites[s].head = -1
    return s


@kernel
def free_site(S: State, s: int) -> None:
    S.sites[s].head = S.meta[FREE_SITE]
    S.meta[FREE_SITE] = s
    S.meta[LIVE_SITES] -= 1
