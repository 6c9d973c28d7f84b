"""Splits: cells that came apart get labels of their own, and it is settled which part keeps the identity.

The side with more core points keeps the id (on a tie the side with the smallest cell key), and of several new ids the
larger side gets the smaller.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from processors.spatial.connectivity import connected
from processors.spatial.kernel import kernel
from processors.spatial.labels import join_label, leave_label, new_label, next_id, swap_identity
from processors.spatial.layout import CORE_ROW, TICK, VISIBLE, State
from processors.spatial.neighbours import place_key


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
