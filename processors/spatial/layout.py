"""How the live window lies in memory: one structured array per kind of thing, grown by a quarter when it is full.

A *point* is one event of the window. Points with the same coordinates share a *site*, which carries their number. A site
lies in a *cell* of side eps/sqrt(2); the sites of a cell are a contiguous block of 16-byte *records* (x, y in cell units
relative to the cell, the neighbour count, the site). A *label* is a live cluster. Everything refers to everything else by
int32 slots; free slots of an array are chained through one of its fields. The arrays are handed to the numba kernels as
one :class:`State`, whose scalars live in ``meta`` so that a kernel can change them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processors.spatial.kernel import Table

POINT = np.dtype(
    [("time", "f8"), ("id", "i8"), ("site", "i4"), ("next", "i4"), ("prev", "i4"), ("unused", "i4")], align=True
)
SITE = np.dtype(
    [("x", "f8"), ("y", "f8"), ("points", "i4"), ("cell", "i4"), ("head", "i4"), ("since", "i4")], align=True
)
CELL = np.dtype(
    [
        ("key", "i8"),  # where it is, see geometry.pack_key
        ("edges", "i8"),  # bit o: neighbour o belongs to the same cluster, held by the witness pair of that bit
        ("cores", "i4"),  # core sites
        ("core_points", "i4"),
        ("label", "i4"),  # -1 without a core site
        ("witness", "i4"),  # row of State.witness, -1 without a core site
        ("next", "i4"),  # the cells of a cluster form a ring
        ("prev", "i4"),
        ("block", "i4"),  # first record of its block; the block holds 1 << (order + 1) records
        ("order", "i4"),  # -1 without a block
        ("tick", "i4"),  # the latest search that came by
        ("seam", "i4"),  # row of State.seam_near, -1 if all its neighbours are on the same regular grid
        ("zone", "i4"),  # the zone of longitude widths, -1 where the width equals the height
        ("idle", "i4"),  # 1 while queued for reclaiming
        ("centre_y", "i4"),  # its centre in the fixed-point units of geometry.centre_units
        ("centre_x", "i4"),
        ("squeeze", "f4"),  # (width / height)^2
        ("error", "f4"),  # bound on the relative error of a float32 squared distance
    ],
    align=True,
)
LABEL = np.dtype(
    [
        ("id", "i8"),  # identity: these fields travel together when a merge or a split swaps ids
        ("parent", "i8"),
        ("born_s", "f8"),
        ("seen_points", "i8"),
        ("seen_y", "i4"),
        ("seen_x", "i4"),
        ("flags", "i4"),
        ("head", "i4"),  # extent: a cell of its ring, and sums over its core points relative to ref
        ("points", "i8"),
        ("sum_y", "i8"),
        ("sum_x", "i8"),
        ("ref_y", "i4"),
        ("ref_x", "i4"),
        ("cells", "i4"),  # 0 while the slot is free
        ("dirty", "i4"),
    ],
    align=True,
)
VISIBLE, ABSORBED = 1, 2  # label flags: reported at the last update; took in a reported cluster since then

# span[c] of cell c
BEGIN, END, POINTS, CROWDED = 0, 1, 2, 3

# State.meta
(
    FREE_POINT,
    FREE_SITE,
    FREE_CELL,
    FREE_LABEL,
    FREE_WITNESS,
    FREE_SEAM,
    RING_HEAD,
    RING_LEN,
    LATE_LEN,
    IDLE_HEAD,
    IDLE_LEN,
    POOL_END,
    LOG_LEN,
    DIRTY_LEN,
    TICK,
    NEXT_ID,
    ID_USED,
    SITE_USED,
    CELL_USED,
    LIVE_POINTS,
    LIVE_SITES,
    LIVE_CELLS,
    LIVE_LABELS,
    LIVE_RECORDS,
    MERGES,
    SPLITS,
    META_SIZE,
) = range(27)

NEAR = 25  # neighbours on a regular grid: 5 x 5 cells, itself included
SEAM = 38  # further neighbours of a cell at a seam of the spherical grid (25 + 38 bits fit an int64)
ORDERS = 32
LOG_FIELDS = 3  # cluster id, the cluster it went into or -1, whether it had been reported
LOG_ROOM = 512  # more clusters than one event can end: those of the cells within two stencils of it
GROWTH = 1.25


@dataclass(frozen=True, eq=False)
class State(Table):
    """The arrays of a window; see the module."""

    points: NDArray[Any]
    sites: NDArray[Any]
    cells: NDArray[Any]
    labels: NDArray[Any]
    span: NDArray[np.int32]
    near: NDArray[np.int32]  # [cell, 25] neighbouring cells, -1 where there is none
    seam_near: NDArray[np.int32]
    witness: NDArray[np.int32]  # [row, 25] the site on this side that holds the edge
    seam_witness: NDArray[np.int32]
    record_f: NDArray[np.float32]  # records; record_i is the same memory
    record_i: NDArray[np.int32]
    free_block: NDArray[np.int32]
    ring: NDArray[np.int32]  # points that came in order of time, oldest first
    late: NDArray[np.int32]  # heap by time of the others
    idle: NDArray[np.int32]  # ring of cells that were empty when queued
    id_table: NDArray[np.int32]  # open addressing; stale entries stay until the next rebuild
    site_table: NDArray[np.int32]
    cell_table: NDArray[np.int32]
    log: NDArray[np.int64]
    dirty: NDArray[np.int32]  # labels that changed since the last report
    queue_a: NDArray[np.int32]
    queue_b: NDArray[np.int32]
    changed: NDArray[np.int32]  # sites whose core status the current event changed
    ends: NDArray[np.int32]
    reps: NDArray[np.int32]
    pair: NDArray[np.int32]
    meta: NDArray[np.int64]
    clock: NDArray[np.float64]  # [0] the latest event time


def chained(dtype: np.dtype[Any], size: int, field: str) -> NDArray[Any]:
    """An array whose slots are all free, each naming the next through `field`."""
    array = np.zeros(size, dtype)
    array[field] = np.arange(1, size + 1)
    array[field][-1:] = -1
    return array


def chained_rows(size: int, width: int) -> NDArray[np.int32]:
    rows = np.full((size, width), -1, np.int32)
    rows[:-1, 0] = np.arange(1, size)
    return rows


def table_size(entries: int) -> int:
    """A power of two that `entries` fill to at most five eighths."""
    return 1 << max(6, int(entries * 1.6).bit_length())


def changed_bound(min_samples: int, sites: int) -> int:
    """Sites that one event can turn: at most min_samples in each neighbouring cell, and no more than there are."""
    return min((NEAR + SEAM + 2) * min_samples, sites) + 64


def empty_state(min_samples: int, seams: bool) -> State:
    """The state of an empty window."""
    size, seam_rows = 64, 64 if seams else 1
    i4 = np.int32
    records = np.zeros((256, 4), i4)
    meta = np.zeros(META_SIZE, np.int64)
    points, cells = chained(POINT, size, "next"), chained(CELL, size, "next")
    points["site"] = -1
    cells["key"] = -1
    meta[TICK] = 1
    return State(
        points=points,
        sites=chained(SITE, size, "head"),
        cells=cells,
        labels=chained(LABEL, size, "head"),
        span=np.zeros((size, 4), i4),
        near=np.full((size, NEAR), -1, i4),
        seam_near=chained_rows(seam_rows, SEAM),
        witness=chained_rows(size, NEAR),
        seam_witness=np.full((seam_rows, SEAM), -1, i4),
        record_f=records.view(np.float32),
        record_i=records,
        free_block=np.full(ORDERS, -1, i4),
        ring=np.zeros(size, i4),
        late=np.zeros(16, i4),
        idle=np.zeros(size, i4),
        id_table=np.full(table_size(size), -1, i4),
        site_table=np.full(table_size(size), -1, i4),
        cell_table=np.full(table_size(size), -1, i4),
        log=np.zeros((2 * LOG_ROOM, LOG_FIELDS), np.int64),
        dirty=np.zeros(size, i4),
        queue_a=np.zeros(size, i4),
        queue_b=np.zeros(size, i4),
        changed=np.zeros(changed_bound(min_samples, size), i4),
        ends=np.zeros(2 * (NEAR + SEAM + 1) ** 2, i4),
        reps=np.zeros(2 * (NEAR + SEAM + 1) ** 2, i4),
        pair=np.zeros(2, i4),
        meta=meta,
        clock=np.full(1, -np.inf),
    )


def nbytes(state: State) -> int:
    """Bytes held by all arrays."""
    arrays = [getattr(state, field.name) for field in fields(state) if field.name != "record_f"]
    return sum(array.nbytes for array in arrays)
