"""Cluster life: what became of the clusters between two updates."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processors.spatial.geometry import EUCLIDEAN, FIXED_POINT, Params, wrap
from processors.spatial.kernel import kernel
from processors.spatial.layout import DIRTY_LEN, LOG_LEN, VISIBLE, State

Ids = NDArray[np.int64]
NO_IDS: Ids = np.zeros(0, np.int64)
NO_PAIRS: Ids = np.zeros((0, 2), np.int64)
NO_IDS.flags.writeable = NO_PAIRS.flags.writeable = False

BORN, DIED, SPLIT, MOVED, GROWN, SHRUNK = range(6)
KINDS = np.arange(6)
GROWTH_RATIO = 0.2


@dataclass(frozen=True, slots=True)
class ClusterChanges:
    """What happened to the clusters of at least `min_cluster_size` core points since the last update.

    A cluster is in `born`, `split` or as the first of `merged`, or in `died`, when it is new or gone; one that lost too
    many points is in `died` and, should it recover, is born again with the same id. In `merged` the second cluster is
    live; in `split` the second is the cluster it came off, which may be gone.
    """

    born: Ids = field(default_factory=lambda: NO_IDS)
    died: Ids = field(default_factory=lambda: NO_IDS)
    merged: Ids = field(default_factory=lambda: NO_PAIRS)  # [n, 2]: id, into
    split: Ids = field(default_factory=lambda: NO_PAIRS)  # [n, 2]: id, from
    moved: Ids = field(
        default_factory=lambda: NO_IDS
    )  # the centre of its core points is more than eps from where it was
    grown: Ids = field(default_factory=lambda: NO_IDS)  # at least a fifth more core points
    shrunk: Ids = field(default_factory=lambda: NO_IDS)  # at least a fifth fewer

    def __bool__(self) -> bool:
        return any(len(getattr(self, f.name)) for f in fields(self))

    @property
    def live(self) -> Ids:
        """Every live cluster that is named: those whose summary is worth renewing."""
        return np.unique(
            np.concatenate([self.born, self.split[:, 0], self.merged[:, 1], self.moved, self.grown, self.shrunk])
        )


NO_CHANGES = ClusterChanges()


def take_changes(state: State, params: Params, min_size: int) -> ClusterChanges:
    """The changes since the last call; the state remembers what was reported."""
    if state.meta[DIRTY_LEN] == 0 and state.meta[LOG_LEN] == 0:
        return NO_CHANGES
    found = np.empty((3 * int(state.meta[DIRTY_LEN]), 3), np.int64)
    found = found[: settle(state, params, min_size, found)]
    ended = state.log[: state.meta[LOG_LEN]].copy()
    state.meta[LOG_LEN] = 0
    if len(ended):
        follow(state, ended)
        ended = ended[ended[:, 2] > 0]
    if len(found) == 0 and len(ended) == 0:
        return NO_CHANGES
    if len(found) > 1:
        found = found[np.argsort(found[:, 0], kind="stable")]
    bounds = [0, *np.searchsorted(found[:, 0], KINDS[1:]).tolist(), len(found)]
    born, died, split, moved, grown, shrunk = (found[i:j] for i, j in pairwise(bounds))
    if len(ended) == 0:
        return ClusterChanges(born[:, 1], died[:, 1], NO_PAIRS, split[:, 1:], moved[:, 1], grown[:, 1], shrunk[:, 1])
    is_dead = ended[:, 1] < 0
    return ClusterChanges(
        born=born[:, 1],
        died=np.concatenate([died[:, 1], ended[is_dead, 0]]),
        merged=ended[~is_dead, :2],
        split=split[:, 1:],
        moved=moved[:, 1],
        grown=grown[:, 1],
        shrunk=shrunk[:, 1],
    )


@kernel
def follow(S: State, ended: Any) -> None:
    """Let each reported cluster that ended name the reported one it is in now, along the merges since; -1 if it is in none."""
    for i in range(len(ended)):
        into = ended[i, 1]
        for j in range(i + 1, len(ended)):  # an id ends once, and later than what went into it
            if ended[j, 0] == into:
                into = ended[j, 1]
        ended[i, 1] = into
        ended[i, 2] = -ended[i, 2]  # until the cluster it is in is found
    for z in range(len(S.labels)):
        label = S.labels[z]
        if label.cells > 0 and label.flags & VISIBLE > 0:
            for i in range(len(ended)):
                if ended[i, 1] == label.id:
                    ended[i, 2] = abs(ended[i, 2])
    for i in range(len(ended)):
        if ended[i, 2] <= 0:
            ended[i, 1], ended[i, 2] = -1, -ended[i, 2]


@kernel
def settle(S: State, P: Params, min_size: int, found: Any) -> int:
    """Compare the labels that changed with what was last reported: rows (kind, id, from) into `found`."""
    n = 0
    for z in range(S.meta[DIRTY_LEN]):
        label = S.labels[S.dirty[z]]
        label.dirty = 0
        if label.cells == 0:
            continue
        was, now = label.flags & VISIBLE, label.points >= min_size
        label.flags = VISIBLE if now else 0
        if not was and not now:
            continue
        y, x = centre(S, label)
        if was != now:
            found[n, 0] = DIED if was else (BORN if label.parent < 0 else SPLIT)
            found[n, 1], found[n, 2] = label.id, label.parent
            label.parent = -1
            n += 1
        else:
            change = label.points - label.seen_points
            resized = abs(change) >= GROWTH_RATIO * label.seen_points
            moved = has_moved(P, label.seen_y, label.seen_x, y, x)
            if resized:
                found[n, 0], found[n, 1] = (GROWN if change > 0 else SHRUNK), label.id
                n += 1
            if moved:
                found[n, 0], found[n, 1] = MOVED, label.id
                n += 1
            if not resized and not moved:
                continue
        label.seen_points, label.seen_y, label.seen_x = label.points, y, x
    S.meta[DIRTY_LEN] = 0
    return n


@kernel
def centre(S: State, label: Any) -> tuple[int, int]:
    """The mean position of a cluster's core points, to the cell, in fixed-point units."""
    y = label.ref_y + round(label.sum_y / label.points)
    return y, wrap(label.ref_x + round(label.sum_x / label.points))


@kernel
def has_moved(P: Params, y0: int, x0: int, y: int, x: int) -> bool:
    dy, dx = float(y - y0), float(wrap(x - x0))
    if P.metric == EUCLIDEAN:
        return dy * dy + dx * dx > P.ratio
    dx *= np.cos(y / FIXED_POINT)
    return (dy * dy + dx * dx) / (FIXED_POINT * P.side) ** 2 > P.ratio
