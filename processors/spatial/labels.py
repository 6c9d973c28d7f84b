"""Labels: a cluster's slot, which cells and core points it has, and its identity.

Identity is apart from the slot: on a merge the older id stays, whichever slot is left.
"""

from __future__ import annotations

import numpy as np

from processors.spatial.counting import touch
from processors.spatial.geometry import wrap
from processors.spatial.kernel import kernel
from processors.spatial.layout import ABSORBED, CORE_ROW, FREE_LABEL, LIVE_LABELS, LOG_LEN, NEXT_ID, VISIBLE, State


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
