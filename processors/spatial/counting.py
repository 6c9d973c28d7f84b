"""Neighbour counts: which sites an arriving or leaving point makes core or ordinary.

All points of a cell are neighbours, so from min_samples points on a cell needs no counts: all its points are core. A cell
becomes *crowded*, and its counts are no longer kept, at 2 min_samples points, and counts anew below min_samples; the
distance of the two pays for the counting anew. An event therefore writes to at most 2 min_samples records in each of its
neighbouring cells, however many points there are; only a new site in a cell that is not crowded reads crowded ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from processors.spatial.geometry import (
    FIXED_POINT,
    HAVERSINE,
    Params,
    cell_centre,
    distance,
    sub_cell,
    unpack_key,
    wrap,
)
from processors.spatial.kernel import kernel
from processors.spatial.lanes import lanes_within, shift_lanes
from processors.spatial.layout import (
    BEGIN,
    CHANGED_CELL,
    CHANGED_RECORD,
    CHANGED_SITE,
    CORE_ROW,
    COUNT,
    DIRTY_LEN,
    END,
    FREE_CORE,
    LIVE_CORES,
    NEAR,
    POINTS,
    SEAM,
    SITE_OF,
    State,
    X,
    Y,
)
from processors.spatial.neighbours import look_around, neighbour
from processors.spatial.records import count_of, site_of

COLUMN = np.array([o % 5 - 2 for o in range(25)], np.float32)
ANY_COUNT = -(1 << 31)
OWN_CELL = np.float32(1e12)  # a squared distance beyond all of a cell and short of FAR
ROW = np.array([o // 5 - 2 for o in range(25)], np.float32)


@kernel
def near_sites(S: State, P: Params, i: int, j: int) -> bool:
    """The exact test of two sites."""
    return distance(P.metric, S.sites[i].x, S.sites[i].y, S.sites[j].x, S.sites[j].y) <= P.limit


@kernel
def band(S: State, P: Params, c: int) -> Any:
    """(squeeze, low, high): float32 squared distances up to low are within eps, beyond high are not, as seen from c."""
    strip = S.strips[c >> 2]
    return strip.squeeze, np.float32(P.ratio * (1 - strip.error)), np.float32(P.ratio * (1 + strip.error))


@kernel
def touch(S: State, label: int) -> None:
    """Note that a label changed since the last report."""
    if S.labels[label].dirty == 0:
        S.labels[label].dirty = 1
        S.dirty[S.meta[DIRTY_LEN]] = label
        S.meta[DIRTY_LEN] += 1


@kernel
def weigh(S: State, row: int, points: int) -> None:
    """Add to the core points of a cell (its core row is given) and of its cluster."""
    core = S.cores[row]
    core.points += points
    if core.label >= 0:
        label = S.labels[core.label]
        label.points += points
        label.sum_y += points * wrap(np.int64(core.centre_y) - label.ref_y)
        label.sum_x += points * wrap(np.int64(core.centre_x) - label.ref_x)
        touch(S, core.label)


@kernel
def turn(S: State, P: Params, c: int, k: int, step: int, turned: NDArray[np.int32], n: int) -> int:
    """The site of record k of cell c became core (step 1) or ceased to be (step -1)."""
    site = site_of(S, k)
    row = S.span[c, CORE_ROW]
    if row < 0:
        row = new_core(S, P, c)
    S.cores[row].sites += step
    alone = abs(S.span[c, POINTS]) == S.span[c, END] - S.span[c, BEGIN]  # every site of c has one point
    weigh(S, row, step if alone else step * S.sites[site].points)
    turned[n, CHANGED_SITE], turned[n, CHANGED_CELL], turned[n, CHANGED_RECORD] = site, c, k
    return n + 1


@kernel
def new_core(S: State, P: Params, c: int) -> int:
    """The core row of a cell that gets its first core site."""
    row = S.meta[FREE_CORE]
    core = S.cores[row]
    S.meta[FREE_CORE] = core.next
    S.meta[LIVE_CORES] += 1
    S.span[c, CORE_ROW] = row
    core.edges = core.sites = core.points = core.tick = 0
    core.label = -1
    frame, y, strip = unpack_key(S.strips[c >> 2].key)
    x = 4 * strip + (c & 3)
    if P.metric == HAVERSINE:
        lon, lat = cell_centre(P, frame, y, x)
        y, x = int(lat * FIXED_POINT), wrap(int(lon * FIXED_POINT))
    core.centre_y, core.centre_x = y, x
    return row


@kernel
def shift_counts(
    S: State,
    P: Params,
    c: int,
    site: int,
    fx: Any,
    fy: Any,
    step: int,
    at: int,
    measure: bool,
    turned: NDArray[np.int32],
    n: int,
) -> tuple[int, int]:
    """Add `step` to the count of every counted site within eps of a point of cell c; collect those that come to `at`.

    Returns (points within eps, seen only with `measure`; sites in `turned`).
    """
    if S.strips[c >> 2].seam >= 0:
        return shift_counts_at_seam(S, P, c, site, step, at, measure, turned, n)
    squeeze, low, high = band(S, P, c)
    sub = sub_cell(fx, fy)
    measured = 0
    for j in range(look_around(S, P, c, sub)):
        d, o = S.around[j, 0], S.around[j, 1]
        crowded = S.span[d, POINTS] < 0
        if crowded and not measure:
            continue
        if o == 12:
            measured += abs(S.span[d, POINTS])
            if not crowded:
                _, n = shift_cell(S, P, d, site, fx, fy, squeeze, OWN_CELL, OWN_CELL, step, at, turned, n)
            continue
        x, y = fx - COLUMN[o], fy - ROW[o]
        if not crowded:
            hits, n = shift_cell(S, P, d, site, x, y, squeeze, low, high, step, at, turned, n)
        if measure and (crowded or (hits > 0 and S.span[d, POINTS] != S.span[d, END] - S.span[d, BEGIN])):
            hits = points_within(S, P, d, site, x, y, squeeze, low, high)
        if measure:
            measured += hits
    return measured, n


@kernel
def shift_cell(
    S: State,
    P: Params,
    d: int,
    site: int,
    x: Any,
    y: Any,
    squeeze: Any,
    low: Any,
    high: Any,
    step: int,
    at: int,
    turned: NDArray[np.int32],
    n: int,
) -> tuple[int, int]:
    """shift_counts in one cell, (x, y) as seen from it. Returns (sites within eps, sites in `turned`)."""
    hits = 0
    for line in range(S.span[d, BEGIN] >> 2, (S.span[d, END] + 3) >> 2):
        found = shift_lanes(S.record_f, line, x, y, squeeze, low, high, step, at)
        hits += found >> 12
        if found & 0xFF0:
            more, n = settle_line(S, P, d, line, found, site, step, at, turned, n)
            hits += more
    return hits, n


@kernel
def settle_line(
    S: State,
    P: Params,
    d: int,
    line: int,
    found: int,
    site: int,
    step: int,
    at: int,
    turned: NDArray[np.int32],
    n: int,
) -> tuple[int, int]:
    """What shift_lanes left to do in a line: pairs it could not decide, and turned sites.

    Apart from shift_cell, so that the loop which most lines end with is short enough to become part of its caller.
    """
    hits = 0
    for place in range(4):
        turns = (found >> (8 + place)) & 1
        if (found >> (4 + place)) & 1 and near_sites(S, P, S.record_i[line, SITE_OF, place], site):
            S.record_i[line, COUNT, place] += step
            turns = int(S.record_i[line, COUNT, place] == at)
            hits += 1
        if turns:
            n = turn(S, P, d, 4 * line + place, step, turned, n)
    return hits, n


@kernel
def points_within(S: State, P: Params, d: int, site: int, x: Any, y: Any, squeeze: Any, low: Any, high: Any) -> int:
    """The points of cell d within eps of a site at (x, y) as seen from it."""
    points = 0
    alone = abs(S.span[d, POINTS]) == S.span[d, END] - S.span[d, BEGIN]
    for line in range(S.span[d, BEGIN] >> 2, (S.span[d, END] + 3) >> 2):
        found = lanes_within(S.record_f, line, x, y, squeeze, low, high, ANY_COUNT)
        for place in range(4):
            if (found >> place) & 0x11:
                other = S.record_i[line, SITE_OF, place]
                if (found >> place) & 1 or near_sites(S, P, other, site):
                    points += 1 if alone else S.sites[other].points
    return points


@kernel
def shift_counts_at_seam(
    S: State, P: Params, c: int, site: int, step: int, at: int, measure: bool, turned: NDArray[np.int32], n: int
) -> tuple[int, int]:
    """shift_counts where the neighbours are on several grids: every pair in float64."""
    measured = 0
    for o in range(NEAR + SEAM):
        d = neighbour(S, c, o)
        if d < 0 or (S.span[d, POINTS] < 0 and not measure):
            continue
        for k in range(S.span[d, BEGIN], S.span[d, END]):
            other = site_of(S, k)
            if d == c or near_sites(S, P, other, site):
                measured += S.sites[other].points
                if S.span[d, POINTS] >= 0:
                    S.record_i[k >> 2, COUNT, k & 3] += step
                    if count_of(S, k) == at:
                        n = turn(S, P, d, k, step, turned, n)
    return measured, n


@kernel
def count_anew(S: State, P: Params, c: int, turned: NDArray[np.int32], n: int) -> int:
    """Cell c is crowded no more: count its sites' neighbours, and collect the sites that are no longer core."""
    S.span[c, POINTS] = -S.span[c, POINTS]
    for k in range(S.span[c, BEGIN], S.span[c, END]):
        site = site_of(S, k)
        x, y = S.record_f[k >> 2, X, k & 3], S.record_f[k >> 2, Y, k & 3]
        count, n = shift_counts(S, P, c, site, x, y, 0, -1, True, turned, n)
        S.record_i[k >> 2, COUNT, k & 3] = count
        if count < P.min_samples:
            n = turn(S, P, c, k, -1, turned, n)
    return n
