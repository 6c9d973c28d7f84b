"""The saved form of a window: its points in order of time, and the identities of its clusters.

The grid and the counts are derived and are rebuilt by taking the points in again. That finds the same clusters, but under
new ids; each identity therefore names an *anchor*, one core point of its cluster, and is given to the anchor's cluster.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from processors.spatial.hash_tables import find_id
from processors.spatial.kernel import kernel
from processors.spatial.layout import BEGIN, CORE_ROW, DIRTY_LEN, END, LIVE_LABELS, LOG_LEN, NEXT_ID, POINTS, State
from processors.spatial.records import count_of, site_of
from processors.spatial.snapshot import points_in_order
from processors.spatial.validation import DBSCANSettings

FIELDS = ("id", "parent", "born_s", "seen_points", "seen_y", "seen_x", "flags")


class Identities(msgspec.Struct, frozen=True):
    """The clock and the clusters' identities; one little-endian column per field."""

    now_s: float
    next_id: int
    anchors: bytes  # int64 per cluster
    fields: dict[str, bytes]


class SavedWindow(msgspec.Struct, frozen=True, tag="sliding-dbscan-1"):
    """A window as bytes; columns are little-endian, x and y in the unit of the grid."""

    settings: DBSCANSettings
    identities: Identities
    time_s: bytes
    x: bytes
    y: bytes
    ids: bytes

    def columns(self) -> tuple[NDArray[Any], ...]:
        """(time_s, x, y, ids) in order of time."""
        packed_columns = zip((self.time_s, self.x, self.y, self.ids), ("<f8", "<f8", "<f8", "<i8"))
        return tuple(np.frombuffer(data, dtype) for data, dtype in packed_columns)


def save(settings: DBSCANSettings, state: State) -> SavedWindow:
    points = state.points[points_in_order(state)]
    sites = state.sites[points["site"]]
    return SavedWindow(
        settings=settings,
        identities=identities_of(state, settings.min_samples),
        time_s=packed(points["time"]),
        x=packed(sites["x"]),
        y=packed(sites["y"]),
        ids=packed(points["id"]),
    )


def packed(values: NDArray[Any]) -> bytes:
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def identities_of(state: State, min_samples: int) -> Identities:
    live = np.flatnonzero(state.labels["cells"] > 0).astype(np.int32)
    anchors = np.empty(len(live), np.int64)
    find_anchors(state, min_samples, live, anchors)
    return Identities(
        now_s=float(state.clock[0]),
        next_id=int(state.meta[NEXT_ID]),
        anchors=packed(anchors),
        fields={name: packed(state.labels[name][live]) for name in FIELDS},
    )


def restore(saved: Identities, state: State) -> None:
    """Give the clusters of a window that was rebuilt from its points their saved identities.

    Raises ValueError if the points are not those the identities were saved with.
    """
    anchors = np.frombuffer(saved.anchors, "<i8").astype(np.int64)
    label = np.empty(len(anchors), np.int32)
    find_anchored(state, anchors, label)
    if (label < 0).any() or len(np.unique(label)) != len(label) or len(label) != state.meta[LIVE_LABELS]:
        raise ValueError("identities do not belong to these points")
    for name in FIELDS:
        state.labels[name][label] = np.frombuffer(saved.fields[name], state.labels.dtype[name].newbyteorder("<"))
    state.labels["dirty"] = 0
    state.meta[DIRTY_LEN] = state.meta[LOG_LEN] = 0
    state.meta[NEXT_ID] = saved.next_id
    state.clock[0] = saved.now_s


@kernel
def find_anchors(S: State, min_samples: int, live: Any, anchors: Any) -> None:
    """The id of a core point of each label."""
    for z in range(len(live)):
        c = S.labels[live[z]].head
        for k in range(S.span[c, BEGIN], S.span[c, END]):
            if S.span[c, POINTS] < 0 or count_of(S, k) >= min_samples:
                anchors[z] = S.points[S.sites[site_of(S, k)].head].id


@kernel
def find_anchored(S: State, anchors: Any, label: Any) -> None:
    """The label of the cell of each anchor; -1 if it is not in the window or its cell has no core site."""
    for z in range(len(anchors)):
        p = find_id(S, anchors[z])
        label[z] = -1
        if p >= 0:
            row = S.span[S.sites[S.points[p].site].cell, CORE_ROW]
            if row >= 0:
                label[z] = S.cores[row].label
