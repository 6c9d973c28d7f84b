"""The latest event times of many keys: a hash table of sorted rings in flat arrays.

Layout: a slot's ring is `ring[slot]`, up to 8 whole seconds; that of a key with more is `wides[wide[slot] - 1]`, up to 64, and
the slot keeps it. A ring is a circular buffer in time order that starts at `head[slot]`. Most keys of a long tail have a few
events, so they take a quarter of the memory. Keys are found by linear probing (`table_key`, `table_slot`; deletion shifts
back, so there are no tombstones). Late events are put in their place, so a ring depends on what happened and not on the order
in which it arrived.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from processors.growing import lengthened, roomy_zeros
from processors.temporal.arrays import Bools, Floats, Ints

NARROW, RING = 8, 64
MAX_TIME_S = 2**32 - 1
_EMPTY = -1
Slots = npt.NDArray[np.int32]
# Slots compared when one has to go; the victim is the least active of them (approximate, like Redis's eviction).
_EVICTION_SAMPLE = 16
# A prime, so that the sample is spread over keys of all ages.
_EVICTION_STRIDE = 2654435761
_FIRST_WIDES = 16
_MERGED, _KEPT, _FULL = range(3)
_ACTIVITY_HALF_LIFE_S = 14 * 86400.0


class Rings(NamedTuple):
    """The arrays of a bank of rings; a `slot` is a row.

    `seen`: occurrences so far; `examined`: `seen` when the key was last examined; `recheck_s`: when a published
    period should be tested for its end; `stamp`: the last batch that touched the slot.
    """

    table_key: Ints
    table_slot: Slots
    key: Ints
    ring: npt.NDArray[np.uint32]
    head: npt.NDArray[np.uint8]
    size: npt.NDArray[np.uint8]
    seen: npt.NDArray[np.uint32]
    examined: npt.NDArray[np.uint32]
    recheck_s: Floats
    stamp: npt.NDArray[np.uint32]
    wide: Slots
    wides: npt.NDArray[np.uint32]
    n_wide: Ints


ROW_FIELDS = ("key", "ring", "head", "size", "seen", "examined", "recheck_s", "stamp", "wide")


def empty_rings(capacity: int) -> Rings:
    """Rings for up to `capacity` keys, in a table at most half full."""
    table_key, table_slot = _empty_table(capacity)
    return Rings(
        table_key=table_key,
        table_slot=table_slot,
        key=np.zeros(capacity, np.int64),
        ring=roomy_zeros(capacity, np.uint32, (NARROW,)),
        head=np.zeros(capacity, np.uint8),
        size=np.zeros(capacity, np.uint8),
        seen=np.zeros(capacity, np.uint32),
        examined=np.zeros(capacity, np.uint32),
        recheck_s=np.zeros(capacity),
        stamp=np.zeros(capacity, np.uint32),
        wide=np.zeros(capacity, np.int32),
        wides=np.zeros((_FIRST_WIDES, RING), np.uint32),
        n_wide=np.zeros(1, np.int64),
    )


def grown(rings: Rings, n_keys: int, most: int) -> Rings:
    """What is full has twice the room, that for keys `most` at most, in the place of `rings`; slots keep their number."""
    rings = with_wides(rings, 1)
    if n_keys < len(rings.key) or n_keys == most:
        return rings
    capacity = min(2 * n_keys, most)
    rows = {name: lengthened(getattr(rings, name), capacity) for name in ROW_FIELDS}
    table_key, table_slot = _empty_table(capacity)
    rebuild_table(table_key, table_slot, rows["key"], n_keys)
    return rings._replace(table_key=table_key, table_slot=table_slot, **rows)


def with_wides(rings: Rings, more: int) -> Rings:
    """With room for so many more wide rings."""
    needed = int(rings.n_wide[0]) + more
    if needed <= len(rings.wides):
        return rings
    return rings._replace(wides=lengthened(rings.wides, max(2 * len(rings.wides), needed)))


def _empty_table(capacity: int) -> tuple[Ints, Slots]:
    size = 1 << max(4, (2 * capacity - 1).bit_length())
    return np.zeros(size, np.int64), np.full(size, _EMPTY, np.int32)


@njit(cache=True)
def _home(key: int, mask: int) -> np.int64:
    x = np.uint64(key)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64((x ^ (x >> np.uint64(31))) & np.uint64(mask))


@njit(cache=True)
def rebuild_table(table_key: Ints, table_slot: Slots, key: Ints, n_keys: int) -> None:
    mask = len(table_key) - 1
    table_slot[:] = -1
    for slot in range(n_keys):
        place = _home(key[slot], mask)
        while table_slot[place] >= 0:
            place = (place + 1) & mask
        table_key[place] = key[slot]
        table_slot[place] = slot


@njit(cache=True)
def find_slot(table_key: Ints, table_slot: Slots, key: int) -> int:
    """The slot of a key, or -1."""
    mask = len(table_key) - 1
    place = _home(key, mask)
    while table_slot[place] >= 0:
        if table_key[place] == key:
            return table_slot[place]
        place = (place + 1) & mask
    return -1


@njit(cache=True)
def _unlink(table_key: Ints, table_slot: Slots, key: int) -> None:
    mask = len(table_key) - 1
    hole = _home(key, mask)
    while table_key[hole] != key or table_slot[hole] < 0:
        hole = (hole + 1) & mask
    place = hole
    while True:
        place = (place + 1) & mask
        if table_slot[place] < 0:
            break
        # An entry may fill the hole only if its home does not lie after the hole on the way to its place.
        if ((place - _home(table_key[place], mask)) & mask) >= ((place - hole) & mask):
            table_key[hole] = table_key[place]
            table_slot[hole] = table_slot[place]
            hole = place
    table_slot[hole] = -1


@njit(cache=True)
def _ring_of(rings: Rings, slot: int) -> npt.NDArray[np.uint32]:
    """Where a slot's times lie; its length is a power of two."""
    wide = rings.wide[slot]
    return rings.wides[wide - 1] if wide else rings.ring[slot]


@njit(cache=True)
def _widen(rings: Rings, slot: int) -> None:
    """Give a full slot a wide ring, of which there must be one."""
    start, wide = np.int64(rings.head[slot]), rings.wides[rings.n_wide[0]]
    for j in range(NARROW):
        wide[j] = rings.ring[slot, (start + j) & (NARROW - 1)]
    rings.head[slot] = 0
    rings.n_wide[0] += 1
    rings.wide[slot] = rings.n_wide[0]


@njit(cache=True)
def _least_active(rings: Rings, n_keys: int, hand: int) -> int:
    victim = hand
    lowest = np.inf
    for step in range(min(_EVICTION_SAMPLE, n_keys)):
        slot = (hand + step * _EVICTION_STRIDE) % n_keys
        ring = _ring_of(rings, slot)
        newest = (np.int64(rings.head[slot]) + np.int64(rings.size[slot]) - 1) & (len(ring) - 1)
        last = ring[newest] if rings.size[slot] else 0
        activity = last + _ACTIVITY_HALF_LIFE_S * np.log2(1.0 + min(rings.seen[slot], 64))
        if activity < lowest:
            lowest = activity
            victim = slot
    return victim


@njit(cache=True, forceinline=True)
def _insert(rings: Rings, slot: int, second: int, merge_gap_s: float) -> int:
    """Put a time in its place: KEPT, or MERGED when it belongs to a neighbour's occurrence or is older than a full wide ring.

    FULL when there is no room for it and the ring is not a wide one.
    """
    wide = np.int64(rings.wide[slot])
    if wide == 0:
        return _insert_into(rings.ring, slot, NARROW, rings.head, rings.size, slot, second, merge_gap_s)
    return _insert_into(rings.wides, wide - 1, RING, rings.head, rings.size, slot, second, merge_gap_s)


@njit(cache=True, forceinline=True)
def _insert_into(
    times: Any, row: int, room: int, head: Any, size: Any, slot: int, second: int, merge_gap_s: float
) -> int:
    mask = room - 1
    start = np.int64(head[slot])
    n = np.int64(size[slot])
    before = n - 1
    while before >= 0 and np.int64(times[row, (start + before) & mask]) > second:
        before -= 1
    if before >= 0 and second - np.int64(times[row, (start + before) & mask]) < merge_gap_s:
        return _MERGED
    if before + 1 < n and np.int64(times[row, (start + before + 1) & mask]) - second < merge_gap_s:
        return _MERGED
    if n == room:
        if room < RING:
            return _FULL
        if before < 0:
            return _MERGED
        start = (start + 1) & mask
        head[slot] = start
        before -= 1
        n -= 1
    for j in range(n, before + 1, -1):
        times[row, (start + j) & mask] = times[row, (start + j - 1) & mask]
    times[row, (start + before + 1) & mask] = second
    size[slot] = n + 1
    return _KEPT


@njit(cache=True)
def absorb(
    rings: Rings,
    n_keys: int,
    hand: int,
    begin: int,
    keys: Ints,
    time_s: Floats,
    merge_gap_s: float,
    max_keys: int,
    stamp_now: int,
    touched: Ints,
    evicted: Ints,
    kept: Bools,
) -> tuple[int, int, int, int, int]:
    """Put events into their rings, from `begin` until the end or until the arrays are full.

    Returns (next event, number of keys, hand, number touched so far in this call, number evicted in this call).
    `touched` receives slots, `evicted` keys; `kept[i]` says whether event i is an occurrence of its own.
    """
    capacity = len(rings.key)
    mask = len(rings.table_key) - 1
    n_touched = 0
    n_evicted = 0
    for i in range(begin, len(keys)):
        key = keys[i]
        place = _home(key, mask)
        while rings.table_slot[place] >= 0 and rings.table_key[place] != key:
            place = (place + 1) & mask
        slot = int(rings.table_slot[place])
        if slot < 0:
            if n_keys < max_keys:
                if n_keys == capacity:
                    return i, n_keys, hand, n_touched, n_evicted
                slot = n_keys
                n_keys += 1
            else:
                slot = _least_active(rings, n_keys, hand)
                hand = (hand + _EVICTION_SAMPLE * _EVICTION_STRIDE) % n_keys
                evicted[n_evicted] = rings.key[slot]
                n_evicted += 1
                _unlink(rings.table_key, rings.table_slot, rings.key[slot])
                place = _home(key, mask)
                while rings.table_slot[place] >= 0:
                    place = (place + 1) & mask
            rings.table_key[place] = key
            rings.table_slot[place] = slot
            rings.key[slot] = key
            rings.head[slot] = 0
            rings.size[slot] = 0
            rings.seen[slot] = 0
            rings.examined[slot] = 0
            rings.recheck_s[slot] = np.inf
            rings.stamp[slot] = 0
        outcome = _insert(rings, slot, np.int64(time_s[i]), merge_gap_s)
        if outcome == _FULL:
            if rings.n_wide[0] == len(rings.wides):
                return i, n_keys, hand, n_touched, n_evicted
            _widen(rings, slot)
            outcome = _insert(rings, slot, np.int64(time_s[i]), merge_gap_s)
        kept[i] = outcome == _KEPT
        if kept[i]:
            rings.seen[slot] += 1
            if rings.stamp[slot] != stamp_now:
                rings.stamp[slot] = stamp_now
                touched[n_touched] = slot
                n_touched += 1
    return len(keys), n_keys, hand, n_touched, n_evicted


def times_of(rings: Rings, slot: int) -> Floats:
    """The times of a slot in order, float64 seconds."""
    ring = _ring_of(rings, slot)
    places = (int(rings.head[slot]) + np.arange(int(rings.size[slot]))) % len(ring)
    return ring[places].astype(np.float64)


def put_times(rings: Rings, slot: int, times: npt.NDArray[np.uint32]) -> Rings:
    """Give a slot other times, which come in order, in the place of `rings`."""
    if len(times) > NARROW and not rings.wide[slot]:
        rings = with_wides(rings, 1)
        _widen(rings, slot)
    _ring_of(rings, slot)[: len(times)] = times
    rings.head[slot], rings.size[slot] = 0, len(times)
    return rings


def packed_times(rings: Rings, n_keys: int) -> npt.NDArray[np.uint32]:
    """The times of the first `n_keys` slots in order, without the room that the rings keep free. O(times)."""
    packed = np.empty(int(rings.size[:n_keys].sum(dtype=np.int64)), np.uint32)
    _pack(rings, n_keys, packed)
    return packed


def unpack_times(rings: Rings, n_keys: int, packed: npt.NDArray[np.uint32]) -> Rings:
    """Put what `packed_times` gave into rings without wide ones, `rings.size` being what it was. O(times)."""
    rings = with_wides(rings, int((rings.size[:n_keys] > NARROW).sum()))
    rings.head[:n_keys] = 0
    _unpack(rings, n_keys, packed)
    return rings


@njit(cache=True)
def _pack(rings: Rings, n_keys: int, packed: Any) -> None:
    at = 0
    for slot in range(n_keys):
        ring, start = _ring_of(rings, slot), np.int64(rings.head[slot])
        for j in range(np.int64(rings.size[slot])):
            packed[at] = ring[(start + j) & (len(ring) - 1)]
            at += 1


@njit(cache=True)
def _unpack(rings: Rings, n_keys: int, packed: Any) -> None:
    at = 0
    for slot in range(n_keys):
        if rings.size[slot] > NARROW:
            _widen(rings, slot)
        ring = _ring_of(rings, slot)
        for j in range(np.int64(rings.size[slot])):
            ring[j] = packed[at]
            at += 1
