"""How the live window lies in memory: one array per kind of thing, grown by a sixteenth when it is full.

A *point* is one event of the window. Points with the same coordinates share a *site*. A site lies in a *cell* of side
eps/sqrt(2); the sites of a cell are a contiguous block of 16-byte *records* (x, y in cell units relative to the cell, the
neighbour count, the site). Four records are a cache line, field by field, so that one vector instruction does all four:
field f of record k is [k >> 2, f, k & 3]. Places of a used line that hold no record are FAR and have no site. Four cells
in a row are a *strip*, the unit that is hashed and linked to its neighbours: cell c is part c & 3 of strip c >> 2. A cell
with a core site has a *core* row, and belongs to a cluster, its *label*. All references are int32 slots; free slots are
chained through one of their fields. The kernels get the arrays as one :class:`State`, whose scalars live in `meta` so that
a kernel can change them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processors.spatial.kernel import Table
from processors.spatial.memory import line_full, line_zeros

POINT = np.dtype([("time", "f8"), ("id", "i8"), ("site", "i4"), ("next", "i4"), ("prev", "i4")])
SITE = np.dtype([("x", "f8"), ("y", "f8"), ("points", "i4"), ("cell", "i4"), ("head", "i4")])
STRIP = np.dtype(
    [
        ("key", "i8"),  # where it is, see geometry.pack_key; -1 while the slot is free
        ("zone", "i4"),  # the zone of longitude widths, -1 where the width equals the height
        ("seam", "i4"),  # its cells have the rows 4 seam to 4 seam + 3 of seam_near; -1 away from seams
        ("squeeze", "f4"),  # (width / height of a cell)^2
        ("error", "f4"),  # bound on the relative error of a float32 squared distance
        ("idle", "i4"),  # 1 while queued for reclaiming
        ("next", "i4"),
    ],
    align=True,
)
CORE = np.dtype(
    [
        ("edges", "i8"),  # bit o: neighbour o belongs to the same cluster, held by the witness pair of that bit
        ("sites", "i4"),  # core sites of the cell
        ("points", "i4"),  # their points
        ("label", "i4"),  # -1 until the cell has joined a cluster
        ("next", "i4"),  # the cells of a cluster form a ring
        ("prev", "i4"),
        ("tick", "i4"),  # the latest search that came by
        ("centre_y", "i4"),  # of the cell, in fixed-point units
        ("centre_x", "i4"),
        ("tags", "u1", (24,)),  # of the sites of the cell that hold its edges; see clusters
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
FIRST_TAG = 40  # byte of a core row

VISIBLE, ABSORBED = 1, 2  # label flags: reported at the last update; took in a reported cluster since then

# span[c] of cell c: its records, its points (negative: the cell is crowded and keeps no counts), its core row or -1
BEGIN, END, POINTS, CORE_ROW = 0, 1, 2, 3

# fields of a record
X, Y, COUNT, SITE_OF = 0, 1, 2, 3
FAR = 1e9  # x of a place without a record: within eps of nothing

# changed[i]: the site, its cell and its record (-1 once it has none); the cell and the record spare a look at the site
CHANGED_SITE, CHANGED_CELL, CHANGED_RECORD = 0, 1, 2

# State.meta
(
    FREE_POINT,
    FREE_SITE,
    FREE_STRIP,
    FREE_CORE,
    FREE_LABEL,
    FREE_SEAM,
    LIVE_POINTS,
    LIVE_SITES,
    LIVE_STRIPS,
    LIVE_CORES,
    LIVE_LABELS,
    LIVE_SEAMS,
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
    STRIP_USED,
    META_SIZE,
) = range(26)

NEAR = 25  # neighbours on a regular grid: 5 x 5 cells, itself included
SEAM = 38  # further neighbours of a cell at a seam of the spherical grid (25 + 38 bits fit an int64)
STRIPS = 15  # strips that hold the regular neighbours: 5 rows x 3
LINKS = 16  # length of a row of `near`: a cache line
ORDERS = 32
ROOM = 512  # more clusters, core cells or parts than one event can make or end: all are within two stencils of it
SPARE = 64  # rows that an array of few has at least, beyond what one event can need
LOG_FIELDS = 3  # cluster id, the cluster it went into or -1, whether it had been reported
GROWTH, GROWTH_ROWS = 1.0625, 1024  # a larger array is so much larger, and so many rows: each growth copies all of it


@dataclass(frozen=True, eq=False)
class State(Table):
    """The arrays of a window; see the module."""

    points: NDArray[Any]
    sites: NDArray[Any]
    strips: NDArray[Any]
    near: NDArray[np.int32]  # [strip, 16] the first cell of each neighbouring strip, -1 where there is none
    span: NDArray[np.int32]  # [cell, 4]
    order: NDArray[np.int8]  # [cell] its block holds 4 << order records, and begins at a multiple of that; -1 without
    cores: NDArray[Any]
    tags: NDArray[np.uint8]  # [core, 64], the memory of cores: its tags are the columns from FIRST_TAG on
    seam_near: NDArray[np.int32]
    seam_witness: NDArray[np.int32]  # [seam cell, 38] the site of the cell that holds the edge
    labels: NDArray[Any]
    record_f: NDArray[np.float32]  # [line, field, place] records; record_i is the same memory
    record_i: NDArray[np.int32]
    free_block: NDArray[np.int32]
    ring: NDArray[np.int32]  # points that came in order of time, oldest first
    late: NDArray[np.int32]  # heap by time of the others
    idle: NDArray[np.int32]  # ring of strips that were empty when queued
    id_table: NDArray[np.int32]  # open addressing; stale entries stay until the next rebuild
    site_table: NDArray[np.int32]  # of the sites in crowded cells
    strip_table: NDArray[np.int32]
    log: NDArray[np.int64]
    dirty: NDArray[np.int32]  # labels that changed since the last report
    queue_a: NDArray[np.int32]
    queue_b: NDArray[np.int32]
    around: NDArray[np.int32]  # [25, 2] cells that an event looks at, and at which offset they lie
    changed: NDArray[np.int32]  # [n, 3] the sites whose core status the current event changed: CHANGED_SITE, ...
    ends: NDArray[np.int32]
    reps: NDArray[np.int32]
    pair: NDArray[np.int32]
    keys_around: NDArray[np.int64]  # [15] of the strips around a new one, -1 where the grid ends
    meta: NDArray[np.int64]
    clock: NDArray[np.float64]  # [0] the latest event time


def as_bytes(rows: NDArray[Any]) -> NDArray[np.uint8]:
    """The same memory, a row of bytes for each."""
    return rows.view(np.uint8).reshape(len(rows), -1)


def chained(dtype: np.dtype[Any], size: int, field: str) -> NDArray[Any]:
    """An array whose slots are all free, each naming the next through `field`."""
    array = line_zeros((size,), dtype)
    array[field] = np.arange(1, size + 1)
    array[field][-1:] = -1
    return array


def table_size(entries: int) -> int:
    """A power of two that `entries` fill to at most half; at five eighths, stale ones included, it is rebuilt."""
    return 1 << max(6, (2 * entries - 1).bit_length())


def changed_bound(min_samples: int, sites: int) -> int:
    """Sites that one event can turn: at most min_samples in each neighbouring cell, and no more than there are."""
    return min((NEAR + SEAM + 2) * min_samples, sites) + 64


def ends_bound(neighbours: int) -> int:
    """Ends of the edges that one event can take from a cell and its neighbours."""
    return 2 * (neighbours + 1) ** 2


def empty_state(min_samples: int) -> State:
    """The state of an empty window."""
    size, room, i4 = SPARE, ROOM + SPARE, np.int32
    points, strips = chained(POINT, size, "next"), chained(STRIP, size, "next")
    points["site"] = strips["key"] = -1
    records = line_zeros((64, 4, 4), i4)
    meta = np.zeros(META_SIZE, np.int64)
    meta[TICK] = 1
    meta[FREE_SEAM] = -1
    rows = chained(CORE, room, "next")
    return State(
        points=points,
        sites=chained(SITE, size, "head"),
        strips=strips,
        near=line_zeros((size, LINKS), i4),
        span=line_zeros((4 * size, 4), i4),
        order=line_full((4 * size,), -1, np.int8),
        cores=rows,
        tags=as_bytes(rows),
        seam_near=np.full((0, SEAM), -1, i4),
        seam_witness=np.full((0, SEAM), -1, i4),
        labels=chained(LABEL, room, "head"),
        record_f=records.view(np.float32),
        record_i=records,
        free_block=np.full(ORDERS, -1, i4),
        ring=np.zeros(size, i4),
        late=np.zeros(16, i4),
        idle=np.zeros(size, i4),
        id_table=np.full(table_size(size), -1, i4),
        site_table=np.full(table_size(size), -1, i4),
        strip_table=np.full(table_size(size), -1, i4),
        log=np.zeros((room, LOG_FIELDS), np.int64),
        dirty=np.zeros(room, i4),
        queue_a=np.zeros(room, i4),
        queue_b=np.zeros(room, i4),
        around=np.zeros((NEAR + 1, 2), i4),
        changed=np.zeros((changed_bound(min_samples, size), 3), i4),
        ends=np.zeros(ends_bound(NEAR), i4),
        reps=np.zeros(room, i4),
        pair=np.zeros(2, i4),
        keys_around=np.zeros(STRIPS, np.int64),
        meta=meta,
        clock=np.full(1, -np.inf),
    )


def nbytes(state: State) -> int:
    """Bytes held by all arrays."""
    return sum(getattr(state, field.name).nbytes for field in fields(state) if field.name not in ("record_f", "tags"))
