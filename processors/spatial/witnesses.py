"""Witnesses: the pair of core sites that holds the edge between two cells, and the search for another when one is lost.

Of a witness a regular edge keeps a tag, the low byte of its site, so that a core row is one cache line. A lost site with
the tag of another costs a search that finds the edge still there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from processors.spatial.counting import ANY_COUNT, COLUMN, ROW, band, near_sites
from processors.spatial.geometry import Params
from processors.spatial.kernel import kernel
from processors.spatial.lanes import equal_bytes, lanes_within
from processors.spatial.layout import BEGIN, CORE_ROW, END, FIRST_TAG, NEAR, POINTS, SEAM, SITE_OF, State, X, Y
from processors.spatial.neighbours import neighbour, seam_row
from processors.spatial.records import is_core, site_of

BOX_WORK = 256  # pairs from which a box is worth its making


@kernel
def set_witness(S: State, c: int, o: int, site: int) -> None:
    if o < NEAR:
        S.tags[S.span[c, CORE_ROW], FIRST_TAG + o - int(o > 12)] = site & 255
    else:
        S.seam_witness[seam_row(S, c), o - NEAR] = site


@kernel
def edges_held_by(S: State, c: int, site: int) -> int:
    """The edges of cell c whose witness is `site` or has its tag, as bits."""
    row = S.span[c, CORE_ROW]
    same = equal_bytes(S.tags, 64 * np.int64(row) + FIRST_TAG, site & 255)
    held = (same & 0xFFF) | (same >> 12 << 13)
    if S.strips[c >> 2].seam >= 0:
        seam = seam_row(S, c)
        for o in range(SEAM):
            held |= int(S.seam_witness[seam, o] == site) << (NEAR + o)
    return held & S.cores[row].edges


@kernel
def find_partner(S: State, P: Params, site: int, fx: Any, fy: Any, c: int, o: int) -> int:
    """The newest core site within eps of `site`, which lies in c, in the neighbour at o; or -1."""
    d = neighbour(S, c, o)
    begin, end = S.span[d, BEGIN], S.span[d, END]
    if S.strips[c >> 2].seam >= 0:
        for k in range(end - 1, begin - 1, -1):
            if is_core(S, P, d, k) and near_sites(S, P, site_of(S, k), site):
                return site_of(S, k)
        return -1
    squeeze, low, high = band(S, P, c)
    x, y = fx - COLUMN[o], fy - ROW[o]
    least = ANY_COUNT if S.span[d, POINTS] < 0 else P.min_samples
    for line in range((end - 1) >> 2, (begin >> 2) - 1, -1):
        found = lanes_within(S.record_f, line, x, y, squeeze, low, high, least)
        for place in range(3, -1, -1):
            if (found >> place) & 0x11 and (
                (found >> place) & 1 or near_sites(S, P, S.record_i[line, SITE_OF, place], site)
            ):
                return S.record_i[line, SITE_OF, place]
    return -1


@kernel
def find_pair(S: State, P: Params, c: int, o: int) -> bool:
    """A pair of core sites of cell c and its neighbour at o within eps, newest first, into S.pair.

    Between crowded cells only the sites of c within eps of the box around the other's core sites are tried.
    """
    d = neighbour(S, c, o)
    work = np.int64(S.span[c, END] - S.span[c, BEGIN]) * (S.span[d, END] - S.span[d, BEGIN])
    boxed = work > BOX_WORK and S.strips[c >> 2].seam < 0
    left = right = low = high = np.float32(0)
    squeeze, _, most = band(S, P, c)
    if boxed:
        left, right, low, high = core_box(S, P, d)
        left, right, low, high = left + COLUMN[o], right + COLUMN[o], low + ROW[o], high + ROW[o]
    for k in range(S.span[c, END] - 1, S.span[c, BEGIN] - 1, -1):
        if not is_core(S, P, c, k):
            continue
        x, y = S.record_f[k >> 2, X, k & 3], S.record_f[k >> 2, Y, k & 3]
        if boxed:
            dx, dy = max(left - x, x - right, np.float32(0)), max(low - y, y - high, np.float32(0))
            if squeeze * dx * dx + dy * dy > most:
                continue
        site = site_of(S, k)
        partner = find_partner(S, P, site, x, y, c, o)
        if partner >= 0:
            S.pair[0], S.pair[1] = site, partner
            return True
    return False


@kernel
def core_box(S: State, P: Params, d: int) -> Any:
    """(left, right, low, high) of the core sites of a cell."""
    left = low = np.float32(2)
    right = high = np.float32(-1)
    for k in range(S.span[d, BEGIN], S.span[d, END]):
        if is_core(S, P, d, k):
            x, y = S.record_f[k >> 2, X, k & 3], S.record_f[k >> 2, Y, k & 3]
            left, right, low, high = min(left, x), max(right, x), min(low, y), max(high, y)
    return left, right, low, high
