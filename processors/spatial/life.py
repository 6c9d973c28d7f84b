"""Cluster life: what became of the clusters between two updates."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processors.spatial.geometry import EUCLIDEAN, FIXED_POINT, Params, wrap
from processors.spatial.kernel import kernel
from processors.spatial.layout import DIRTY_LEN, LOG_LEN, VISIBLE, State
from processors.spatial.prefetch import prefetch

Ids = NDArray[np.int64]
NO_IDS: Ids = np.zeros(0, np.int64)
NO_PAIRS: Ids = np.zeros((0, 2), np.int64)
NO_IDS.flags.writeable = NO_PAIRS.flags.writeable = False

BORN, DIED, MERGED, SPLIT, MOVED, GROWN, SHRUNK = range(7)
GROWTH_RATIO = 0.2
AHEAD = 4  # labels between asking for one and reading it


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
    rows = int(state.meta[DIRTY_LEN]) + int(state.meta[LOG_LEN])
    if rows == 0:
        return NO_CHANGES
    found, numbers = np.empty((7, rows, 2), np.int64), np.zeros(7, np.int64)
    settle(state, params, min_size, found, numbers)
    follow(state, found, numbers)
    if not numbers.any():
        return NO_CHANGES
    born, died, merged, split, moved, grown, shrunk = (found[kind, :n] for kind, n in enumerate(numbers.tolist()))
    return ClusterChanges(born[:, 0], died[:, 0], merged, split, moved[:, 0], grown[:, 0], shrunk[:, 0])


@kernel
def note(found: Any, numbers: Any, kind: int, cluster_id: int, other: int) -> None:
    """One more change of that kind: the row (id, other id) of found[kind]."""
    found[kind, numbers[kind], 0], found[kind, numbers[kind], 1] = cluster_id, other
    numbers[kind] += 1


@kernel
def settle(S: State, P: Params, min_size: int, found: Any, numbers: Any) -> None:
    """Note how the labels that changed differ from what was last reported."""
    for z in range(S.meta[DIRTY_LEN]):
        if z + AHEAD < S.meta[DIRTY_LEN]:
            prefetch(S.labels, S.dirty[z + AHEAD])
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
            kind = DIED if was else (BORN if label.parent < 0 else SPLIT)
            note(found, numbers, kind, label.id, label.parent)
            label.parent = -1
        else:
            change = label.points - label.seen_points
            resized = abs(change) >= GROWTH_RATIO * label.seen_points
            moved = has_moved(P, label.seen_y, label.seen_x, y, x)
            if resized:
                note(found, numbers, GROWN if change > 0 else SHRUNK, label.id, -1)
            if moved:
                note(found, numbers, MOVED, label.id, -1)
            if not resized and not moved:
                continue
        label.seen_points, label.seen_y, label.seen_x = label.points, y, x
    S.meta[DIRTY_LEN] = 0


@kernel
def follow(S: State, found: Any, numbers: Any) -> None:
    """Note the ends of reported clusters: merged into the reported one they are in now, along the merges since, or died."""
    log, n = S.log, S.meta[LOG_LEN]
    for i in range(n):
        for j in range(i + 1, n):  # an id ends once, and later than what went into it
            if log[j, 0] == log[i, 1]:
                log[i, 1] = log[j, 1]
    for z in range(len(S.labels) if n > 0 else 0):
        label = S.labels[z]
        if label.cells > 0 and label.flags & VISIBLE > 0:
            for i in range(n):
                if log[i, 1] == label.id:
                    log[i, 2] *= 2
    for i in range(n):
        if log[i, 2] > 0:
            note(found, numbers, MERGED if log[i, 2] > 1 else DIED, log[i, 0], log[i, 1])
    S.meta[LOG_LEN] = 0


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
