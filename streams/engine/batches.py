"""What an agent is handed at a time: consecutive records of one partition, within bounds."""

from collections.abc import Iterator, Sequence

import msgspec

from streams.engine.fetched_records import FetchedRecord

MAX_BATCH_BYTES = 2_000_000


class FetchedBatch(msgspec.Struct, frozen=True):
    """Consecutive records of one partition. Of the offsets from ``read_from`` on, the log holds no record before them."""

    records: Sequence[FetchedRecord]
    read_from: int


def cut_batches(records: list[FetchedRecord], max_records: int) -> Iterator[list[FetchedRecord]]:
    """Runs of at most ``max_records`` records whose values have at most ``MAX_BATCH_BYTES`` (a larger one goes alone)."""
    start, size = 0, 0
    for at, record in enumerate(records):
        length = len(record.value) if record.value is not None else 0
        if at > start and (at - start >= max_records or size + length > MAX_BATCH_BYTES):
            yield records[start:at]
            start, size = at, 0
        size += length
    yield records[start:]
