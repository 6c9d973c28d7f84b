"""The window as a log of chunks, for a changelog: an event is written once, and nothing is rewritten.

A chunk holds points of one *bucket* of event time under the key (region, bucket, chunk). When a whole bucket has left the
window its chunks get tombstones. The identities of the clusters go under one more key: a few bytes per cluster, written
when they changed. From the live chunks and the identities `rebuild` makes the same window, labels and ids.

Layout of a chunk, little-endian: the magic ``CHK1``, uint32 number of points n, then time_s, lat, lon (float64[n]) and ids
(int64[n]), compressed with zlib.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterable, Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from processors.spatial.dbscan import SlidingDBSCAN
from processors.spatial.saved import Identities, identities_of, restore
from processors.spatial.validation import DBSCANSettings

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
MAGIC = b"CHK1"
HEADER = struct.Struct("<4sI")


class ChunkKey(msgspec.Struct, frozen=True, order=True):
    """Where a chunk stands in the log; bucket b holds the event times of [b bucket_s, (b + 1) bucket_s)."""

    region: str
    bucket: int
    chunk: int


def pack_points(time_s: Floats, lat: Floats, lon: Floats, ids: Ids) -> bytes:
    """Points as the bytes of one chunk.

    >>> [v.tolist() for v in unpack_points(pack_points(np.array([1.0]), np.array([2.0]), np.array([3.0]), np.array([4])))]
    [[1.0], [2.0], [3.0], [4]]
    """
    body = b"".join(np.ascontiguousarray(v, "<f8").tobytes() for v in (time_s, lat, lon))
    return HEADER.pack(MAGIC, len(time_s)) + zlib.compress(body + np.ascontiguousarray(ids, "<i8").tobytes(), 1)


def unpack_points(data: bytes) -> tuple[Floats, Floats, Floats, Ids]:
    """(time_s, lat, lon, ids) of a chunk. Raises ValueError if `data` is not one."""
    if len(data) < HEADER.size or data[:4] != MAGIC:
        raise ValueError("data is not a chunk of window points")
    n = HEADER.unpack_from(data)[1]
    try:
        body = zlib.decompress(data[HEADER.size :])
    except zlib.error as error:
        raise ValueError(f"data is a damaged chunk: {error}") from error
    if len(body) != 32 * n:
        raise ValueError(f"data is a damaged chunk: {len(body)} bytes for {n} points")
    columns = np.frombuffer(body, "<f8", 3 * n).reshape(3, n)
    return columns[0], columns[1], columns[2], np.frombuffer(body, "<i8", n, 24 * n)


class ChunkLog:
    """Turns batches into log entries: what to write, and what to delete.

    Args:
        region: the first part of every key.
        window_s: the length of the window.
        bucket_s: the length of a bucket; an expired point stays in the log at most that much longer than it lives.

    >>> log = ChunkLog("tile-7", window_s=100.0, bucket_s=50.0)
    >>> first = log.append(np.array([10.0, 20.0]), np.zeros(2), np.zeros(2), np.array([0, 1]))
    >>> [(key.bucket, key.chunk) for key in first]
    [(0, 0)]
    >>> log.expired(now_s=151.0)
    [ChunkKey(region='tile-7', bucket=0, chunk=0)]
    """

    def __init__(self, region: str, *, window_s: float, bucket_s: float) -> None:
        for name, value in (("window_s", window_s), ("bucket_s", bucket_s)):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number, not {value!r}")
        self.region, self.window_s, self.bucket_s = region, window_s, bucket_s
        self._chunks: dict[int, int] = {}

    def append(self, time_s: Floats, lat: Floats, lon: Floats, ids: Ids) -> dict[ChunkKey, bytes]:
        """The entries of a batch: one chunk per bucket that its event times fall into."""
        buckets = np.floor(np.asarray(time_s) / self.bucket_s).astype(np.int64)
        entries = {}
        for bucket in np.unique(buckets).tolist():
            at = buckets == bucket
            chunk = self._chunks.get(bucket, 0)
            self._chunks[bucket] = chunk + 1
            entries[ChunkKey(self.region, bucket, chunk)] = pack_points(time_s[at], lat[at], lon[at], ids[at])
        return entries

    def expired(self, now_s: float) -> list[ChunkKey]:
        """The chunks of which no point is live at `now_s`, to be deleted; each is named once."""
        gone = [bucket for bucket in self._chunks if (bucket + 1) * self.bucket_s <= now_s - self.window_s]
        return [
            ChunkKey(self.region, bucket, chunk) for bucket in sorted(gone) for chunk in range(self._chunks.pop(bucket))
        ]

    def resume(self, keys: Iterable[ChunkKey]) -> None:
        """Continue a log whose live keys are `keys`."""
        for key in keys:
            if key.region == self.region:
                self._chunks[key.bucket] = max(self._chunks.get(key.bucket, 0), key.chunk + 1)


def pack_identities(dbscan: SlidingDBSCAN) -> bytes:
    """The clusters' identities and the clock, for `rebuild`: 60 bytes per cluster; write them after each batch."""
    return msgspec.msgpack.encode(identities_of(dbscan._state, dbscan.settings.min_samples))


def rebuild(settings: DBSCANSettings, chunks: Mapping[ChunkKey, bytes], identities: bytes) -> SlidingDBSCAN:
    """The window that the chunks and identities describe, with the labels and ids it had.

    Points that have expired by the clock in `identities` are left out. The time is that of processing the points anew.
    Raises ValueError if the parts do not belong together.
    """
    try:
        saved = msgspec.msgpack.decode(identities, type=Identities)
    except msgspec.DecodeError as error:
        raise ValueError(f"identities are not those of a window: {error}") from error
    dbscan = SlidingDBSCAN(**msgspec.structs.asdict(settings))
    parts = [unpack_points(chunks[key]) for key in sorted(chunks)]
    if parts:
        time_s, lat, lon, ids = (np.concatenate(columns) for columns in zip(*parts))
        live = (time_s > saved.now_s - settings.window_s) & (time_s <= saved.now_s)
        dbscan.update(time_s[live], lat[live], lon[live], ids[live])
    restore(saved, dbscan._state)
    return dbscan
