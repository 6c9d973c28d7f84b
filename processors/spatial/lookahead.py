"""Memory is asked for before it is needed: an event's cache misses are most of its cost, and a batch knows what comes.

The links of an event's strip are fetched AHEAD[0] events early, through them the spans of the neighbouring cells
AHEAD[1] early, through those the records AHEAD[2] early. The same is done for the points that are about to expire. All
are hints; they change no result.
"""

from __future__ import annotations

from typing import Any

from processors.spatial.geometry import Params, sub_cell, within_cell
from processors.spatial.grid import mix, mix_site, neighbour
from processors.spatial.kernel import kernel
from processors.spatial.layout import BEGIN, POINTS, RING_HEAD, RING_LEN, STRIPS, State
from processors.spatial.prefetch import prefetch

AHEAD = (8, 5, 2)


@kernel
def look_ahead(S: State, P: Params, x: Any, y: Any, ids: Any, cells: Any, inside: Any, i: int) -> None:
    """Fetch what the events after event i, and the expiries before them, will need."""
    n = len(cells)
    if i + AHEAD[0] < n:
        fetch_links(S, cells[i + AHEAD[0]])
        prefetch(S.id_table, mix(ids[i + AHEAD[0]]) & (len(S.id_table) - 1))
        prefetch(S.site_table, mix_site(x[i + AHEAD[0]], y[i + AHEAD[0]]) & (len(S.site_table) - 1))
    if i + AHEAD[1] < n:
        fetch_spans(S, cells[i + AHEAD[1]])
        s = S.site_table[mix_site(x[i + AHEAD[1]], y[i + AHEAD[1]]) & (len(S.site_table) - 1)]
        prefetch(S.sites, s)
        p = S.id_table[mix(ids[i + AHEAD[1]]) & (len(S.id_table) - 1)]
        prefetch(S.points, p)
    if i + AHEAD[2] < n:
        j = i + AHEAD[2]
        fetch_records(S, P, cells[j], inside[j, 0], inside[j, 1], S.span[cells[j], POINTS] >= 0)
    s = waiting_site(S, AHEAD[0])
    if s >= 0:
        fetch_links(S, S.sites[s].cell)
    s = waiting_site(S, AHEAD[1])
    if s >= 0:
        fetch_spans(S, S.sites[s].cell)
    s = waiting_site(S, AHEAD[2])
    if s >= 0:
        c = S.sites[s].cell
        fx, fy = within_cell(P, S.strips[c >> 2].zone, S.sites[s].x, S.sites[s].y)
        fetch_records(S, P, c, fx, fy, False)


@kernel
def waiting_site(S: State, ahead: int) -> int:
    """The site of the point that is `ahead` behind the next to expire, or -1."""
    if ahead >= S.meta[RING_LEN]:
        return -1
    return S.points[S.ring[(S.meta[RING_HEAD] + ahead) & (len(S.ring) - 1)]].site


@kernel
def fetch_links(S: State, c: int) -> None:
    prefetch(S.near, (c >> 2) * STRIPS)
    prefetch(S.near, (c >> 2) * STRIPS + STRIPS - 1)
    prefetch(S.strips, c >> 2)


@kernel
def fetch_spans(S: State, c: int) -> None:
    side = 0 if (c & 3) < 2 else 2
    for row in range(5):
        for column in (1, side):
            first = S.near[c >> 2, 3 * row + column]
            if first >= 0:
                prefetch(S.span, 4 * first)


@kernel
def fetch_records(S: State, P: Params, c: int, fx: float, fy: float, crowded: bool) -> None:
    sub = sub_cell(fx, fy)
    for j in range(P.n_candidates[sub]):
        d = neighbour(S, c, P.candidates[sub, j])
        if d >= 0 and (S.span[d, POINTS] > 0 or (crowded and S.span[d, POINTS] < 0)):
            prefetch(S.record_i, 4 * S.span[d, BEGIN])
