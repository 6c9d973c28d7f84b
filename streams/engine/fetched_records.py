"""What is read of a fetch: light records, which go with their last reader.

aiokafka makes of each record a dataclass, which takes as long as all that the worker makes of an event's JSON, and a collector of
cycles looks at each. And its ``PartitionRecords`` and the generator that reads them refer to each other until the last record was
read: those that were handed over the short way are never read, and a worker looks for cycles so seldom that they would pile up by
megabytes a minute.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import msgspec
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.structs import TopicPartition


class FetchedRecord(msgspec.Struct, frozen=True, gc=False):
    """A record of a topic, with the names of aiokafka's ``ConsumerRecord``, by which Faust reads it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    checksum: None = None

    @property
    def serialized_key_size(self) -> int:
        """Bytes of the key, -1 without one."""
        return -1 if self.key is None else len(self.key)

    @property
    def serialized_value_size(self) -> int:
        """Bytes of the value, -1 without one."""
        return -1 if self.value is None else len(self.value)


def light(tp: TopicPartition, record: Any) -> FetchedRecord:
    """A record of a fetched batch of this partition."""
    return FetchedRecord(
        tp.topic,
        tp.partition,
        record.offset,
        record.timestamp,
        record.timestamp_type,
        record.key,
        record.value,
        tuple(record.headers),  # a list would be looked at by the collector of cycles
    )


class ReadRecords:
    """An aiokafka ``PartitionRecords`` for one reader, who gets light records."""

    def __init__(self, records: PartitionRecords) -> None:
        records._consumer_record = light
        self._records = records

    @property
    def next_fetch_offset(self) -> int:
        """The offset after the last record that was read."""
        offset: int = self._records.next_fetch_offset
        return offset

    def __iter__(self) -> Iterator[FetchedRecord]:
        return self._records._records_iterator or iter(())

    def __next__(self) -> FetchedRecord:
        return next(self._records)

    def __del__(self) -> None:
        self._records._records_iterator = None


class FetchedRecords(OrderedDict[TopicPartition, Any]):
    """A fetcher's results by partition, in place of its own: of each the records go with it."""

    def __setitem__(self, tp: TopicPartition, result: Any) -> None:
        if isinstance(result, FetchResult) and isinstance(result._partition_records, PartitionRecords):
            result._partition_records = ReadRecords(result._partition_records)
        super().__setitem__(tp, result)
