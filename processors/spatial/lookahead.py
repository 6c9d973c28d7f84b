"""Memory is asked for before it is needed: an event's cache misses are most of its cost, and a batch knows what comes.

Each step follows a reference that an earlier one fetched: from the hash tables and the waiting points to their sites, to
the links of the strip, to the spans of the neighbouring cells, to their records. All are hints; they change no result.
"""

from __future__ import annotations

from typing import Any

from processors.spatial.geometry import Params, sub_cell, within_cell
from processors.spatial.hash_tables import home_of
from processors.spatial.kernel import kernel
from processors.spatial.layout import BEGIN, CORE_ROW, END, LINKS, RING_HEAD, RING_LEN, State
from processors.spatial.neighbours import LINK_OF
from processors.spatial.prefetch import prefetch

TABLE_AHEAD, SITE_AHEAD, LINKS_AHEAD, SPANS_AHEAD, RECORDS_AHEAD = 16, 12, 9, 6, 3  # events


@kernel
def look_for_strips(S: State, keys: Any, i: int) -> None:
    """Fetch what finding the strips of the events after event i will need."""
    if i + TABLE_AHEAD < len(keys):
        prefetch(S.strip_table, home_of(S.strip_table, keys[i + TABLE_AHEAD]))
    if i + SPANS_AHEAD < len(keys):
        t = S.strip_table[home_of(S.strip_table, keys[i + SPANS_AHEAD])]
        prefetch(S.strips, t)
        prefetch(S.span, 16 * t)


@kernel
def look_ahead(S: State, P: Params, ids: Any, cells: Any, inside: Any, i: int) -> None:
    """Fetch what the events after event i, and the expiries before them, will need."""
    n = len(cells)
    j = i + TABLE_AHEAD
    if j < n:
        prefetch(S.id_table, home_of(S.id_table, ids[j]))
    j = i + SITE_AHEAD
    if j < n:
        prefetch(S.points, S.id_table[home_of(S.id_table, ids[j])])
    if i + LINKS_AHEAD < n:
        fetch_links(S, cells[i + LINKS_AHEAD])
    if i + SPANS_AHEAD < n:
        fetch_spans(S, cells[i + SPANS_AHEAD])
    j = i + RECORDS_AHEAD
    if j < n:
        fetch_records(S, P, cells[j], inside[j, 0], inside[j, 1])
    look_behind(S, P)


@kernel
def look_behind(S: State, P: Params) -> None:
    """The same for the points that expire next."""
    if S.meta[RING_LEN] <= TABLE_AHEAD:
        return
    ring, head, mask = S.ring, S.meta[RING_HEAD], len(S.ring) - 1
    prefetch(S.points, ring[(head + TABLE_AHEAD) & mask])
    prefetch(S.sites, S.points[ring[(head + SITE_AHEAD) & mask]].site)
    fetch_links(S, S.sites[S.points[ring[(head + LINKS_AHEAD) & mask]].site].cell)
    fetch_spans(S, S.sites[S.points[ring[(head + SPANS_AHEAD) & mask]].site].cell)
    site = S.sites[S.points[ring[(head + RECORDS_AHEAD) & mask]].site]
    fx, fy = within_cell(P, S.strips[site.cell >> 2].zone, site.x, site.y)
    fetch_records(S, P, site.cell, fx, fy)


@kernel
def fetch_links(S: State, c: int) -> None:
    prefetch(S.near, (c >> 2) * LINKS)
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
def fetch_records(S: State, P: Params, c: int, fx: float, fy: float) -> None:
    row = S.span[c, CORE_ROW]
    if row >= 0:
        prefetch(S.cores, row)
    sub = sub_cell(fx, fy)
    for j in range(P.n_candidates[sub]):
        link = LINK_OF[c & 3, P.candidates[sub, j]]
        d = max(S.near[c >> 2, link & 15], 0) + (link >> 4)
        prefetch(S.record_i, (S.span[d, BEGIN] >> 2) << 4)
        prefetch(S.record_i, (S.span[d, END] - 1) >> 2 << 4)
