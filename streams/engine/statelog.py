"""State as a log: one chunk per source batch, and now and then a snapshot that makes the older chunks superfluous.

Every record of a state partition's changelog names the source offsets that it has absorbed:

- ``c/<first>/<last>`` a chunk: the input of one batch, which followed the state at offset ``previous``. One record, so it is
  absorbed wholly or not at all.
- ``s/<offset>/<part>`` a part of the snapshot of the state at ``offset``, and ``m/<offset>`` its manifest, written last.

State is a function of the source's prefix, so whatever two owners of a partition write (a paused worker that was given up
and wakes) is the same data under the same key, and no fencing is needed: reading takes the newest whole snapshot and
replays the chunks beyond it. A hole between them is an error, never a silent loss.
"""

from collections.abc import Iterator, Mapping
from zlib import crc32

import msgspec

PART_BYTES = 700_000
NOTHING_ABSORBED = -1


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """The input of one batch: source offsets ``first`` to ``last`` (inclusive), following the state at ``previous``."""

    previous: int
    first: int
    last: int
    payload: bytes


class Manifest(msgspec.Struct, frozen=True, array_like=True):
    """A snapshot is whole if its ``parts`` are there and their bytes have this length and CRC-32."""

    offset: int
    parts: int
    length: int
    checksum: int


class StateGapError(RuntimeError):
    """The log lacks batches between its newest snapshot and its chunks: state cannot be rebuilt from it."""


class RecoveredState(msgspec.Struct, frozen=True):
    """What a log holds: the newest whole snapshot (offset -1 and no bytes if there is none) and the chunks after it."""

    offset: int
    snapshot: bytes | None
    chunks: list[Chunk]


_ENCODER = msgspec.msgpack.Encoder()
_CHUNK = msgspec.msgpack.Decoder(Chunk)
_MANIFEST = msgspec.msgpack.Decoder(Manifest)


def chunk_record(chunk: Chunk) -> tuple[bytes, bytes]:
    """The changelog record of a chunk.

    >>> chunk_record(Chunk(previous=-1, first=0, last=9, payload=b"rows"))[0]
    b'c/000000000000/000000000009'
    """
    return b"c/%012d/%012d" % (chunk.first, chunk.last), _ENCODER.encode(chunk)


def snapshot_records(offset: int, state: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The changelog records of a snapshot: its parts, then the manifest that makes them valid."""
    parts = [state[start : start + PART_BYTES] for start in range(0, len(state), PART_BYTES)]
    for number, part in enumerate(parts):
        yield b"s/%012d/%06d" % (offset, number), part
    yield b"m/%012d" % offset, _ENCODER.encode(Manifest(offset, len(parts), len(state), crc32(state)))


def superseded(keys: Iterator[bytes] | list[bytes], offset: int) -> list[bytes]:
    """The keys that the snapshot at ``offset`` makes superfluous: older snapshots, and chunks that end at or before it.

    >>> superseded([b"c/000000000000/000000000009", b"c/000000000010/000000000019", b"m/000000000005"], 9)
    [b'c/000000000000/000000000009', b'm/000000000005']
    """
    return [key for key in keys if _is_superseded(key, offset)]


def _is_superseded(key: bytes, offset: int) -> bool:
    kind, first, *rest = key.split(b"/")
    if kind == b"c":
        return int(rest[0]) <= offset
    return int(first) < offset


def recover(records: Mapping[bytes, bytes]) -> RecoveredState:
    """The state that a log's live records (key to latest value) hold.

    Raises StateGapError if a chunk is missing between the snapshot and the last chunk. O(bytes).
    """
    offset, snapshot = _newest_snapshot(records)
    chunks = [_CHUNK.decode(value) for key, value in records.items() if key[:2] == b"c/"]
    chunks.sort(key=lambda chunk: (chunk.first, chunk.last))
    absorbed, wanted = offset, []
    for chunk in chunks:
        if chunk.last <= absorbed:
            continue
        if chunk.previous > absorbed:
            raise StateGapError(f"the state log has nothing between source offsets {absorbed} and {chunk.previous}")
        wanted.append(chunk)
        absorbed = chunk.last
    return RecoveredState(offset, snapshot, wanted)


def _newest_snapshot(records: Mapping[bytes, bytes]) -> tuple[int, bytes | None]:
    manifests = [_MANIFEST.decode(value) for key, value in records.items() if key[:2] == b"m/"]
    for manifest in sorted(manifests, key=lambda found: found.offset, reverse=True):
        parts = [records.get(b"s/%012d/%06d" % (manifest.offset, number)) for number in range(manifest.parts)]
        if None in parts:
            continue
        state = b"".join(part for part in parts if part is not None)
        if len(state) == manifest.length and crc32(state) == manifest.checksum:
            return manifest.offset, state
    return NOTHING_ABSORBED, None
