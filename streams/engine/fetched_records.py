"""What was fetched and is not read to its end goes with its last reader, not with the next look for cycles.

aiokafka's ``PartitionRecords`` and the generator that reads them refer to each other until the last record was read. Records that
were handed over the short way are never read, and a worker looks for cycles so seldom that they would pile up by megabytes a
minute.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from aiokafka import ConsumerRecord
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.structs import TopicPartition


class ReadRecords:
    """An aiokafka ``PartitionRecords`` for one reader."""

    def __init__(self, records: PartitionRecords) -> None:
        self._records = records

    @property
    def next_fetch_offset(self) -> int:
        """The offset after the last record that was read."""
        offset: int = self._records.next_fetch_offset
        return offset

    def __iter__(self) -> Iterator[ConsumerRecord]:
        return self._records._records_iterator or iter(())

    def __next__(self) -> ConsumerRecord:
        return next(self._records)

    def __del__(self) -> None:
        self._records._records_iterator = None


class FetchedRecords(OrderedDict[TopicPartition, Any]):
    """A fetcher's results by partition, in place of its own: of each the records go with it."""

    def __setitem__(self, tp: TopicPartition, result: Any) -> None:
        if isinstance(result, FetchResult) and isinstance(result._partition_records, PartitionRecords):
            result._partition_records = ReadRecords(result._partition_records)
        super().__setitem__(tp, result)
