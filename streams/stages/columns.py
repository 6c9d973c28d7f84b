"""What stages take in: columns of behaviour events, and internal batches that crossed a topic."""

import msgspec
import numpy as np
import numpy.typing as npt

from processors.sequence import NO_STATE
from schemas.columns import Column, decode_columns, encode_columns
from streams.stages.coded_ids import CodedIds, decode_ids, encode_ids
from streams.stages.names import Names

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
NO_CODE = NO_STATE


class EventColumns(msgspec.Struct, frozen=True):
    """Valid behaviour events of one source partition in offset order: one array per field, ids as codes.

    ``user``, ``item`` and ``category`` are ``schemas.codes.code_of`` codes (``category`` is NO_STATE without one), ``event_hash``
    is a 64-bit hash of the event id, ``weight`` the weight of the action, ``lat`` and ``lon`` are NaN without a place.
    ``names`` holds the ids of the codes, at least those of the batch.
    """

    offset: Ints
    time_ms: Ints
    event_hash: Ints
    user: Ints
    item: Ints
    category: Ints
    weight: Floats
    lat: Floats
    lon: Floats
    names: CodedIds

    def __len__(self) -> int:
        return len(self.offset)

    def select(self, rows: npt.NDArray[np.bool_] | Ints) -> "EventColumns":
        """The rows of a mask or an index, sharing ``names``."""
        return EventColumns(**{name: getattr(self, name)[rows] for name in EVENT_COLUMNS}, names=self.names)


EVENT_COLUMNS = tuple(name for name in EventColumns.__struct_fields__ if name != "names")


def encode_events(events: EventColumns, known: Names) -> bytes:
    """One value holding the events and those of their names that are not ``known``. O(events)."""
    columns = {name: getattr(events, name) for name in EVENT_COLUMNS}
    new = events.names.select(~known.knows(events.names.codes))
    return _ENCODER.encode((encode_columns(columns), encode_ids(new)))


def decode_events(data: bytes) -> EventColumns:
    """The events that ``encode_events`` wrote; ``names`` holds the names that were new then."""
    columns, names = _PAIR.decode(data)
    decoded = decode_columns(columns)
    return EventColumns(**{name: np.asarray(decoded[name]) for name in EVENT_COLUMNS}, names=decode_ids(names))


class InternalBatch(msgspec.Struct, frozen=True, array_like=True):
    """The rows that one source batch sends to one partition of an internal topic.

    ``columns`` is a columnar batch with a column ``origin_offset`` (int64, non-decreasing): with ``origin_partition`` it says
    which source event each row comes from, so a batch that is sent again changes nothing. ``clock_ms`` is the latest
    event time of that partition, ``caught_up`` whether it had no backlog then. ``names`` holds the ids
    of the codes. With this batch the receiver has heard of all source events up to ``through``. ``sent_ms`` is the sender's wall
    clock, 0 if it has none (a replay of the past without a broker). ``quiet`` says that nothing has come there for a while.
    """

    origin_partition: int
    clock_ms: int
    caught_up: bool
    columns: bytes
    names: bytes
    through: int = -1
    sent_ms: int = 0
    quiet: bool = False

    def rows(self) -> dict[str, Column]:
        """The decoded columns."""
        return decode_columns(self.columns)


_ENCODER = msgspec.msgpack.Encoder()
_PAIR = msgspec.msgpack.Decoder(tuple[bytes, bytes])
_INTERNAL = msgspec.msgpack.Decoder(InternalBatch)


def encode_internal(batch: InternalBatch) -> bytes:
    """The value of an internal topic's record."""
    return _ENCODER.encode(batch)


def decode_internal(data: bytes) -> InternalBatch:
    """The batch of an internal topic's record. Raises ValueError if the bytes are not one."""
    try:
        return _INTERNAL.decode(data)
    except msgspec.DecodeError as error:
        raise ValueError(f"not an internal batch: {error}") from error
