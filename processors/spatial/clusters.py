"""Clusters as connected components of cells, kept under gained and lost core sites.

Two cells with core sites within eps of each other share an edge, held by one *witness* pair. A new core site looks for a
partner only in neighbouring cells without an edge; a lost one costs a search only where it was the witness. A lost edge
starts a search from both ends in turn, which ends when the two meet or the smaller side is exhausted. A merge relabels
the side with fewer cells.

Identity is apart from the label slot: on a merge the older id stays, on a split the side with more core points keeps the
id (on a tie the side with the smallest cell key), and of several new ids the larger side gets the smaller.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.cpython.unsafe.numbers import trailing_zeros
from numpy.typing import NDArray

from processors.spatial.counting import ANY_COUNT, COLUMN, ROW, band, near_sites, touch
from processors.spatial.geometry import Params, sub_cell, unpack_key, wrap
from processors.spatial.grid import is_core, neighbour, offset_back, seam_row, site_of
from processors.spatial.kernel import kernel
from processors.spatial.lanes import equal_bytes, lanes_within
from processors.spatial.layout import (
    ABSORBED,
    BEGIN,
    CHANGED_CELL,
    CHANGED_RECORD,
    CHANGED_SITE,
    CORE_ROW,
    END,
    FIRST_TAG,
    FREE_CORE,
    FREE_LABEL,
    LIVE_CORES,
    LIVE_LABELS,
    LOG_LEN,
    NEAR,
    NEXT_ID,
    POINTS,
    SEAM,
    SITE_OF,
    TICK,
    VISIBLE,
    State,
    X,
    Y,
)
from processors.spatial.prefetch import prefetch

BOX_WORK = 256  # pairs from which a box is worth its making

# ------------------------------------------------------------------------------------------------------- witnesses
#
# Of a witness a regular edge keeps a tag, the low byte of its site, so that a core row is one cache line. A lost site with
# the tag of another costs a search that finds the edge still there.


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


# ---------------------------------------------------------------------------------------------------------- labels


@kernel
def new_label(S: State, cluster_id: int, parent: int) -> int:
    index = S.meta[FREE_LABEL]
    label = S.labels[index]
    S.meta[FREE_LABEL] = label.head
    S.meta[LIVE_LABELS] += 1
    label.id, label.parent, label.born_s = cluster_id, parent, S.clock[0]
    label.seen_points = label.seen_y = label.seen_x = label.flags = 0
    label.points = label.sum_y = label.sum_x = label.cells = 0
    label.head = -1
    return index


@kernel
def next_id(S: State) -> int:
    S.meta[NEXT_ID] += 1
    return S.meta[NEXT_ID] - 1


@kernel
def free_label(S: State, index: int) -> None:
    S.labels[index].cells = 0
    S.labels[index].head = S.meta[FREE_LABEL]
    S.meta[FREE_LABEL] = index
    S.meta[LIVE_LABELS] -= 1


@kernel
def log_end(S: State, cluster_id: int, into: int, flags: int) -> None:
    """A cluster that was reported, or took in one that was, ended: it went into another, or (-1) died."""
    at = S.meta[LOG_LEN]
    S.log[at, 0], S.log[at, 1], S.log[at, 2] = cluster_id, into, flags & VISIBLE
    S.meta[LOG_LEN] += 1


@kernel
def swap_identity(S: State, i: int, j: int) -> None:
    a, b = S.labels[i], S.labels[j]
    a.id, b.id = b.id, a.id
    a.parent, b.parent = b.parent, a.parent
    a.born_s, b.born_s = b.born_s, a.born_s
    a.seen_points, b.seen_points = b.seen_points, a.seen_points
    a.seen_y, b.seen_y = b.seen_y, a.seen_y
    a.seen_x, b.seen_x = b.seen_x, a.seen_x
    a.flags, b.flags = b.flags, a.flags


@kernel
def join_label(S: State, c: int, index: int) -> None:
    """Cell c becomes a cell of the cluster."""
    cell, label = S.cores[S.span[c, CORE_ROW]], S.labels[index]
    cell.label = index
    if label.cells == 0:
        label.ref_y, label.ref_x, label.head = cell.centre_y, cell.centre_x, c
        cell.next = cell.prev = c
    else:
        last = S.cores[S.span[label.head, CORE_ROW]].prev
        cell.prev, cell.next = last, label.head
        S.cores[S.span[last, CORE_ROW]].next = c
        S.cores[S.span[label.head, CORE_ROW]].prev = c
    label.cells += 1
    label.points += cell.points
    label.sum_y += cell.points * wrap(np.int64(cell.centre_y) - label.ref_y)
    label.sum_x += cell.points * wrap(np.int64(cell.centre_x) - label.ref_x)
    touch(S, index)


@kernel
def leave_label(S: State, c: int) -> None:
    """Cell c leaves its cluster, which may be left without cells."""
    cell = S.cores[S.span[c, CORE_ROW]]
    label = S.labels[cell.label]
    S.cores[S.span[cell.prev, CORE_ROW]].next = cell.next
    S.cores[S.span[cell.next, CORE_ROW]].prev = cell.prev
    if label.head == c:
        label.head = cell.next
    label.cells -= 1
    label.points -= cell.points
    label.sum_y -= cell.points * wrap(np.int64(cell.centre_y) - label.ref_y)
    label.sum_x -= cell.points * wrap(np.int64(cell.centre_x) - label.ref_x)
    touch(S, cell.label)
    cell.label = -1


@kernel
def merge(S: State, i: int, j: int) -> None:
    """Two clusters become one; the one with fewer cells is relabelled, the older id stays."""
    if S.labels[i].cells < S.labels[j].cells:
        i, j = j, i
    if S.labels[j].id < S.labels[i].id:
        swap_identity(S, i, j)
    large, small = S.labels[i], S.labels[j]
    c = small.head
    for _ in range(small.cells):
        S.cores[S.span[c, CORE_ROW]].label = i
        c = S.cores[S.span[c, CORE_ROW]].next
    large_last, small_last = S.cores[S.span[large.head, CORE_ROW]].prev, S.cores[S.span[small.head, CORE_ROW]].prev
    S.cores[S.span[large_last, CORE_ROW]].next, S.cores[S.span[small.head, CORE_ROW]].prev = small.head, large_last
    S.cores[S.span[small_last, CORE_ROW]].next, S.cores[S.span[large.head, CORE_ROW]].prev = large.head, small_last
    large.cells += small.cells
    large.points += small.points
    large.sum_y += small.sum_y + small.points * wrap(np.int64(small.ref_y) - large.ref_y)
    large.sum_x += small.sum_x + small.points * wrap(np.int64(small.ref_x) - large.ref_x)
    if small.flags & (VISIBLE | ABSORBED):
        log_end(S, small.id, large.id, small.flags)
        large.flags |= ABSORBED
    touch(S, i)
    free_label(S, j)


# ------------------------------------------------------------------------------------------------------------ gain


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


# ------------------------------------------------------------------------------------------------------------ lose


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
def fetch_cores(S: State, c: int, edges: int) -> None:
    """Ask for the core rows at the other end of edges all at once, before one after the other is read."""
    while edges != 0:
        prefetch(S.cores, S.span[neighbour(S, c, int(trailing_zeros(edges))), CORE_ROW])
        edges &= edges - 1


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


@kernel
def place_key(S: State, c: int) -> int:
    """A number that orders cells by place, whatever their slots."""
    return 4 * S.strips[c >> 2].key + (c & 3)


@kernel
def distinct_ends(S: State, ends: int) -> int:
    """Keep each end that still has a cluster once."""
    S.meta[TICK] += 1
    tick = S.meta[TICK]
    n = 0
    for z in range(ends):
        c = S.ends[z]
        if S.span[c, CORE_ROW] >= 0 and S.cores[S.span[c, CORE_ROW]].tick != tick:
            S.cores[S.span[c, CORE_ROW]].tick = tick
            S.ends[n] = c
            n += 1
    return n


# ----------------------------------------------------------------------------------------------------------- split


@kernel
def expand(S: State, queue: NDArray[np.int32], head: int, length: int, mine: int, theirs: int) -> tuple[int, bool]:
    """Visit the neighbours of queue[head]. Returns (length of the queue, whether the other search was met)."""
    c = queue[head]
    edges = S.cores[S.span[c, CORE_ROW]].edges
    fetch_cores(S, c, edges)
    while edges != 0:
        d = neighbour(S, c, int(trailing_zeros(edges)))
        edges &= edges - 1
        if S.cores[S.span[d, CORE_ROW]].tick == theirs:
            return length, True
        if S.cores[S.span[d, CORE_ROW]].tick != mine:
            S.cores[S.span[d, CORE_ROW]].tick = mine
            queue[length] = d
            length += 1
    return length, False


@kernel
def are_close(S: State, a: int, b: int) -> bool:
    """Whether an edge or a neighbour in common joins two cells of one regular grid; most that part meet again so close by.

    Only the edges of the two are read: row by row, those of b are moved to where a has the same cells.
    """
    s, t = S.strips[a >> 2], S.strips[b >> 2]
    frame_a, row_a, strip_a = unpack_key(s.key)
    frame_b, row_b, strip_b = unpack_key(t.key)
    rows, columns = row_b - row_a, 4 * (strip_b - strip_a) + (b & 3) - (a & 3)
    if frame_a != frame_b or s.zone != t.zone or abs(rows) > 4 or abs(columns) > 4:
        return False
    with_self = 1 << 12
    edges_a = S.cores[S.span[a, CORE_ROW]].edges | with_self
    edges_b = S.cores[S.span[b, CORE_ROW]].edges | with_self
    for row in range(max(0, rows), min(5, 5 + rows)):
        of_a, of_b = (edges_a >> (5 * row)) & 31, (edges_b >> (5 * (row - rows))) & 31
        if of_a & (of_b << columns if columns >= 0 else of_b >> -columns):
            return True
    return False


@kernel
def connected(S: State, a: int, b: int) -> int:
    """0 if a path joins two cells; else the cells of the side found exhausted are in queue_a (+n) or queue_b (-n)."""
    if are_close(S, a, b):
        return 0
    S.meta[TICK] += 2
    tick_a, tick_b = S.meta[TICK] - 1, S.meta[TICK]
    S.queue_a[0], S.queue_b[0] = a, b
    S.cores[S.span[a, CORE_ROW]].tick, S.cores[S.span[b, CORE_ROW]].tick = tick_a, tick_b
    head_a, len_a, head_b, len_b = 0, 1, 0, 1
    while True:
        len_a, met = expand(S, S.queue_a, head_a, len_a, tick_a, tick_b)
        if met:
            return 0
        head_a += 1
        if head_a == len_a:
            return len_a
        len_b, met = expand(S, S.queue_b, head_b, len_b, tick_b, tick_a)
        if met:
            return 0
        head_b += 1
        if head_b == len_b:
            return -len_b


@kernel
def split(S: State, ends: int) -> None:
    """Give each component that came apart a label of its own, then settle who keeps the id."""
    reps = 0
    for e in range(ends):
        c = S.ends[e]
        joined = False
        for r in range(reps):
            if S.cores[S.span[S.reps[r], CORE_ROW]].label != S.cores[S.span[c, CORE_ROW]].label:
                continue
            exhausted = connected(S, S.reps[r], c)
            if exhausted == 0:
                joined = True
                break
            old = S.cores[S.span[c, CORE_ROW]].label
            part_off(S, S.queue_a if exhausted > 0 else S.queue_b, abs(exhausted), old)
        if not joined:
            S.reps[reps] = c
            reps += 1
    for r in range(reps):
        S.ends[r] = S.cores[S.span[S.reps[r], CORE_ROW]].label
    settle_identities(S, reps)


@kernel
def part_off(S: State, side: NDArray[np.int32], n: int, old: int) -> None:
    """The cells side[:n] leave label `old` for a new one, whose id is settled later."""
    new = new_label(S, -1, old)
    for z in range(n):
        leave_label(S, side[z])
        join_label(S, side[z], new)


@kernel
def smallest_key(S: State, index: int) -> int:
    c = S.labels[index].head
    key = place_key(S, c)
    for _ in range(S.labels[index].cells):
        key = min(key, place_key(S, c))
        c = S.cores[S.span[c, CORE_ROW]].next
    return key


@kernel
def is_larger(S: State, i: int, j: int) -> bool:
    if S.labels[i].points != S.labels[j].points:
        return S.labels[i].points > S.labels[j].points
    return smallest_key(S, i) < smallest_key(S, j)


@kernel
def settle_identities(S: State, n: int) -> None:
    """S.ends[:n] are the labels of the parts, those without an id (-1) naming in `parent` the label they came off.

    Largest first: the largest part of each former cluster takes its id, the others get new ids.
    """
    for i in range(1, n):
        label = S.ends[i]
        at = i
        while at > 0 and is_larger(S, label, S.ends[at - 1]):
            S.ends[at] = S.ends[at - 1]
            at -= 1
        S.ends[at] = label
    roots = S.queue_a
    for i in range(n):
        root = S.ends[i]
        while S.labels[root].id < 0:
            root = S.labels[root].parent
        roots[i] = root
    for i in range(n):
        keeper = 0
        while roots[keeper] != roots[i]:
            keeper += 1
        if keeper == i:
            if S.ends[i] != roots[i]:
                swap_identity(S, S.ends[i], roots[i])
            continue
        part, whole = S.labels[S.ends[i]], S.labels[S.ends[keeper]]
        part.id, part.born_s, part.flags, part.seen_points = next_id(S), S.clock[0], 0, 0
        part.parent = whole.id if whole.flags & VISIBLE else whole.parent
