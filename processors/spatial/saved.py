"""The saved form of a window: its points in order of time, the cluster of each core point, and the clusters' identities.

The grid and the counts are derived, and are rebuilt by feeding the points again.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from processors.spatial.kernel import kernel
from processors.spatial.layout import BEGIN, CORE_ROW, DIRTY_LEN, END, LOG_LEN, NEXT_ID, POINTS, State
from processors.spatial.snapshot import points_in_order
from processors.spatial.validation import DBSCANSettings

IDENTITY = ("id", "parent", "born_s", "seen_points", "seen_y", "seen_x", "flags")


class SavedWindow(msgspec.Struct, frozen=True, tag="sliding-dbscan-1"):
    """A window as bytes; the arrays are little-endian."""

    settings: DBSCANSettings
    now_s: float
    next_id: int
    time_s: bytes
    x: bytes
    y: bytes
    ids: bytes
    clusters: bytes  # int32 per point: the row of `identities`, -1 if it is not core
    identities: dict[str, bytes]

    def columns(self) -> tuple[NDArray[Any], ...]:
        """(time_s, x, y, ids) in order of time."""
        return tuple(
            np.frombuffer(b, t) for b, t in zip((self.time_s, self.x, self.y, self.ids), ("<f8", "<f8", "<f8", "<i8"))
        )


def save(settings: DBSCANSettings, state: State, min_samples: int) -> SavedWindow:
    points = state.points[points_in_order(state)]
    sites = state.sites[points["site"]]
    label = core_labels(state, min_samples)[points["site"]]
    live = state.labels["cells"] > 0
    row = np.where(live, np.cumsum(live) - 1, -1).astype("<i4")
    return SavedWindow(
        settings=settings,
        now_s=float(state.clock[0]),
        next_id=int(state.meta[NEXT_ID]),
        time_s=packed(points["time"]),
        x=packed(sites["x"]),
        y=packed(sites["y"]),
        ids=packed(points["id"]),
        clusters=np.where(label >= 0, row[label], -1).astype("<i4").tobytes(),
        identities={name: packed(state.labels[name][live]) for name in IDENTITY},
    )


def packed(values: NDArray[Any]) -> bytes:
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def restore(saved: SavedWindow, state: State, min_samples: int) -> None:
    """Give the clusters of a window that was rebuilt from the saved points their saved identities."""
    cluster = np.frombuffer(saved.clusters, "<i4")
    site = state.points["site"][points_in_order(state)]
    label = core_labels(state, min_samples)[site]
    core = label >= 0
    if (core != (cluster >= 0)).any():
        raise ValueError("data is not a consistent window: the core points differ")
    for name in IDENTITY:
        values = np.frombuffer(saved.identities[name], state.labels.dtype[name].newbyteorder("<"))
        state.labels[name][label[core]] = values[cluster[core]]
    state.labels["dirty"] = 0
    state.meta[DIRTY_LEN] = state.meta[LOG_LEN] = 0
    state.meta[NEXT_ID] = saved.next_id
    state.clock[0] = saved.now_s


def core_labels(state: State, min_samples: int) -> NDArray[np.int32]:
    """For every site its label slot, -1 if it is not core."""
    label = np.full(len(state.sites), -1, np.int32)
    label_cores(state, min_samples, label)
    return label


@kernel
def label_cores(S: State, min_samples: int, label: NDArray[np.int32]) -> None:
    for c in range(len(S.span)):
        row = S.span[c, CORE_ROW]
        if row >= 0:
            for k in range(S.span[c, BEGIN], S.span[c, END]):
                if S.span[c, POINTS] < 0 or S.record_i[k, 2] >= min_samples:
                    label[S.record_i[k, 3]] = S.cores[row].label
