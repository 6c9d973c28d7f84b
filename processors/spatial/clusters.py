"""Clusters as connected components of cells, kept under gained and lost core sites.

Two cells with core sites within eps of each other share an edge, held by one *witness* pair. A new core site looks for a
partner only in neighbouring cells without an edge; a lost one costs a search only where it was the witness. A lost edge
starts a search for another path (see `connectivity`); without one the cluster splits (see `splits`).
"""

from __future__ import annotations

import numpy as np
from numba.cpython.unsafe.numbers import trailing_zeros
from numpy.typing import NDArray

from processors.spatial.connectivity import fetch_cores
from processors.spatial.geometry import Params, sub_cell
from processors.spatial.kernel import kernel
from processors.spatial.labels import free_label, join_label, leave_label, log_end, merge, new_label, next_id
from processors.spatial.layout import (
    ABSORBED,
    CHANGED_CELL,
    CHANGED_RECORD,
    CHANGED_SITE,
    CORE_ROW,
    FREE_CORE,
    LIVE_CORES,
    NEAR,
    SEAM,
    VISIBLE,
    State,
    X,
    Y,
)
from processors.spatial.neighbours import neighbour, offset_back, place_key
from processors.spatial.prefetch import prefetch
from processors.spatial.records import site_of
from processors.spatial.splits import distinct_ends, split
from processors.spatial.witnesses import edges_held_by, find_pair, find_partner, set_witness


@kernel
def gain(S: State, P: Params, gained: NDArray[np.int32], n: int) -> None:
    """Sites became core: cells with their first core site become clusters, then new edges merge clusters."""
    fresh = 0
    for z in range(n):
        c = gained[z, CHANGED_CELL]
        if S.cores[S.span[c, CORE_ROW]].label == -1:
            S.cores[S.span[c, CORE_ROW]].label = -2
            at = fresh
            while at > 0 and place_key(S, S.reps[at - 1]) > place_key(S, c):
                S.reps[at] = S.reps[at - 1]
                at -= 1
            S.reps[at] = c
            fresh += 1
    for z in range(fresh):
        join_label(S, S.reps[z], new_label(S, next_id(S), -1))
    for z in range(n):
        connect(S, P, gained[z, CHANGED_CELL], gained[z, CHANGED_RECORD])


@kernel
def connect(S: State, P: Params, c: int, k: int) -> None:
    """Add the edges that record k of cell c makes, a new core site."""
    cell, strip, site = S.cores[S.span[c, CORE_ROW]], S.strips[c >> 2], site_of(S, k)
    fx, fy = S.record_f[k >> 2, X, k & 3], S.record_f[k >> 2, Y, k & 3]
    missing = P.candidate_bits[sub_cell(fx, fy)] if strip.seam < 0 else ((1 << (NEAR + SEAM)) - 1) & ~(1 << 12)
    missing &= ~cell.edges
    while missing != 0:
        o = int(trailing_zeros(missing))
        missing &= missing - 1
        d = neighbour(S, c, o)
        if d < 0 or S.span[d, CORE_ROW] < 0:
            continue
        prefetch(S.cores, S.span[d, CORE_ROW])
        partner = find_partner(S, P, site, fx, fy, c, o)
        if partner < 0:
            continue
        back = offset_back(S, d, c, o)
        cell.edges |= 1 << o
        S.cores[S.span[d, CORE_ROW]].edges |= 1 << back
        set_witness(S, c, o, site)
        set_witness(S, d, back, partner)
        if cell.label != S.cores[S.span[d, CORE_ROW]].label:
            merge(S, cell.label, S.cores[S.span[d, CORE_ROW]].label)


@kernel
def lose(S: State, P: Params, lost: NDArray[np.int32], n: int) -> None:
    """Sites are core no more: replace the witnesses they were, drop the edges that have none, split what came apart."""
    ends = 0
    for z in range(n):
        c = lost[z, CHANGED_CELL]
        dead = edges_held_by(S, c, lost[z, CHANGED_SITE])
        fetch_cores(S, c, dead)
        while dead != 0:
            o = int(trailing_zeros(dead))
            dead &= dead - 1
            d = neighbour(S, c, o)
            back = offset_back(S, d, c, o)
            if (
                S.cores[S.span[c, CORE_ROW]].sites > 0
                and S.cores[S.span[d, CORE_ROW]].sites > 0
                and find_pair(S, P, c, o)
            ):
                set_witness(S, c, o, S.pair[0])
                set_witness(S, d, back, S.pair[1])
            else:
                S.cores[S.span[c, CORE_ROW]].edges &= ~(1 << o)
                S.cores[S.span[d, CORE_ROW]].edges &= ~(1 << back)
                S.ends[ends], S.ends[ends + 1] = c, d
                ends += 2
    for z in range(n):
        c = lost[z, CHANGED_CELL]
        if S.span[c, CORE_ROW] >= 0 and S.cores[S.span[c, CORE_ROW]].sites == 0:
            drop_from_cluster(S, c)
    if ends > 2:
        ends = distinct_ends(S, ends)
    elif ends == 2 and (S.span[S.ends[0], CORE_ROW] < 0 or S.span[S.ends[1], CORE_ROW] < 0):
        ends = 0
    if ends > 1:
        split(S, ends)


@kernel
def drop_from_cluster(S: State, c: int) -> None:
    """Cell c has no core site left."""
    row = S.span[c, CORE_ROW]
    index = S.cores[row].label
    leave_label(S, c)
    S.span[c, CORE_ROW] = -1
    S.cores[row].next = S.meta[FREE_CORE]
    S.meta[FREE_CORE] = row
    S.meta[LIVE_CORES] -= 1
    label = S.labels[index]
    if label.cells == 0:
        if label.flags & (VISIBLE | ABSORBED):
            log_end(S, label.id, -1, label.flags)
        free_label(S, index)
