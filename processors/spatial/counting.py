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

from processors.spatial.geometry import Params, distance, sub_cell, wrap
from processors.spatial.grid import neighbour
from processors.spatial.kernel import kernel
from processors.spatial.layout import BEGIN, CROWDED, DIRTY_LEN, END, NEAR, POINTS, SEAM, State

COLUMN = np.array([o % 5 - 2 for o in range(25)], np.float32)
ROW = np.array([o // 5 - 2 for o in range(25)], np.float32)


@kernel
def near_sites(S: State, P: Params, i: int, j: int) -> bool:
    """The exact test of two sites."""
    return distance(P.metric, S.sites[i].x, S.sites[i].y, S.sites[j].x, S.sites[j].y) <= P.limit


@kernel
def band(S: State, P: Params, c: int) -> Any:
    """(squeeze, low, high): float32 squared distances up to low are within eps, beyond high are not, as seen from c."""
    error = S.cells[c].error
    return S.cells[c].squeeze, np.float32(P.ratio * (1 - error)), np.float32(P.ratio * (1 + error))


@kernel
def touch(S: State, label: int) -> None:
    """Note that a label changed since the last report."""
    if S.labels[label].dirty == 0:
        S.labels[label].dirty = 1
        S.dirty[S.meta[DIRTY_LEN]] = label
        S.meta[DIRTY_LEN] += 1


@kernel
def weigh(S: State, c: int, points: int) -> None:
    """Add to the core points of a cell and of its cluster."""
    cell = S.cells[c]
    cell.core_points += points
    if cell.label >= 0:
        label = S.labels[cell.label]
        label.points += points
        label.sum_y += points * wrap(np.int64(cell.centre_y) - label.ref_y)
        label.sum_x += points * wrap(np.int64(cell.centre_x) - label.ref_x)
        touch(S, cell.label)


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
    if S.cells[c].seam >= 0:
        return shift_counts_at_seam(S, P, c, site, step, at, measure, turned, n)
    squeeze, low, high = band(S, P, c)
    sub = sub_cell(fx, fy)
    measured = 0
    for j in range(P.n_candidates[sub]):
        o = P.candidates[sub, j]
        d = S.near[c, o]
        if d < 0:
            continue
        begin, end, crowded = S.span[d, BEGIN], S.span[d, END], S.span[d, CROWDED]
        if begin == end or (crowded == 1 and not measure):
            continue
        turns = 0
        if o == 12:
            measured += S.span[d, POINTS]
            if crowded == 0:
                for k in range(begin, end):
                    count = S.record_i[k, 2] + step
                    S.record_i[k, 2] = count
                    turns += 1 if count == at else 0
                if turns > 0:
                    n = collect_all(S, P, d, step, at, turned, n)
            continue
        x, y = fx - COLUMN[o], fy - ROW[o]
        hits = 0
        if crowded == 1:
            for k in range(begin, end):
                dx, dy = S.record_f[k, 0] - x, S.record_f[k, 1] - y
                d2 = squeeze * dx * dx + dy * dy
                hit = 1 if d2 <= low else 0
                if d2 > low and d2 <= high:
                    hit = 1 if near_sites(S, P, S.record_i[k, 3], site) else 0
                hits += hit
        else:
            for k in range(begin, end):
                dx, dy = S.record_f[k, 0] - x, S.record_f[k, 1] - y
                d2 = squeeze * dx * dx + dy * dy
                hit = 1 if d2 <= low else 0
                if d2 > low and d2 <= high:
                    hit = 1 if near_sites(S, P, S.record_i[k, 3], site) else 0
                count = S.record_i[k, 2] + step * hit
                S.record_i[k, 2] = count
                hits += hit
                turns += hit if count == at else 0
            if turns > 0:
                for k in range(begin, end):
                    if S.record_i[k, 2] == at:
                        dx, dy = S.record_f[k, 0] - x, S.record_f[k, 1] - y
                        d2 = squeeze * dx * dx + dy * dy
                        if d2 <= high and (d2 <= low or near_sites(S, P, S.record_i[k, 3], site)):
                            n = turn(S, d, S.record_i[k, 3], step, turned, n)
        if measure and hits > 0 and S.span[d, POINTS] != end - begin:
            hits = 0
            for k in range(begin, end):
                dx, dy = S.record_f[k, 0] - x, S.record_f[k, 1] - y
                d2 = squeeze * dx * dx + dy * dy
                if d2 <= high and (d2 <= low or near_sites(S, P, S.record_i[k, 3], site)):
                    hits += S.sites[S.record_i[k, 3]].points
        measured += hits
    return measured, n


@kernel
def turn(S: State, d: int, site: int, step: int, turned: NDArray[np.int32], n: int) -> int:
    """A site of cell d became core (step 1) or ceased to be (step -1)."""
    S.cells[d].cores += step
    weigh(S, d, step * S.sites[site].points)
    turned[n] = site
    return n + 1


@kernel
def collect_all(S: State, P: Params, d: int, step: int, at: int, turned: NDArray[np.int32], n: int) -> int:
    for k in range(S.span[d, BEGIN], S.span[d, END]):
        if S.record_i[k, 2] == at:
            n = turn(S, d, S.record_i[k, 3], step, turned, n)
    return n


@kernel
def shift_counts_at_seam(
    S: State, P: Params, c: int, site: int, step: int, at: int, measure: bool, turned: NDArray[np.int32], n: int
) -> tuple[int, int]:
    """shift_counts where the neighbours are on several grids: every pair in float64."""
    measured = 0
    for o in range(NEAR + SEAM):
        d = neighbour(S, c, o)
        if d < 0 or (S.span[d, CROWDED] == 1 and not measure):
            continue
        for k in range(S.span[d, BEGIN], S.span[d, END]):
            other = S.record_i[k, 3]
            if d == c or near_sites(S, P, other, site):
                measured += S.sites[other].points
                if S.span[d, CROWDED] == 0:
                    S.record_i[k, 2] += step
                    if S.record_i[k, 2] == at:
                        n = turn(S, d, other, step, turned, n)
    return measured, n


@kernel
def count_anew(S: State, P: Params, c: int, turned: NDArray[np.int32], n: int) -> int:
    """Cell c is crowded no more: count its sites' neighbours, and collect the sites that are no longer core."""
    S.span[c, CROWDED] = 0
    for k in range(S.span[c, BEGIN], S.span[c, END]):
        site = S.record_i[k, 3]
        count, n = shift_counts(S, P, c, site, S.record_f[k, 0], S.record_f[k, 1], 0, -1, True, turned, n)
        S.record_i[k, 2] = count
        if count < P.min_samples:
            n = turn(S, c, site, -1, turned, n)
    return n
