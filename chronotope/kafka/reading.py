"""Reading what a topic holds now, once, from a chosen place to its present end."""

import time
from collections.abc import Iterator, Mapping

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition

from chronotope.kafka.errors import ClusterError
from chronotope.kafka.offsets import QUICK_READER, OffsetReader, Partition
from schemas.settings import KafkaSettings

BATCH = 2000
STALL_S = 30.0


def ends_of(settings: KafkaSettings, topic: str) -> dict[Partition, int]:
    """The end offset of each partition of a topic; empty if it does not exist. Raises ClusterError if unreachable."""
    with OffsetReader(settings) as reader:
        return reader.ends(reader.partitions([topic]))


def read_to(settings: KafkaSettings, ends: Mapping[Partition, int], last: int | None = None) -> Iterator[Message]:
    """Every record below the given ends (each partition in order), or only about the ``last`` ones of each partition.

    Joins no group. Raises ClusterError if the records stop coming before the ends.
    """
    starts = [
        TopicPartition(topic, index, OFFSET_BEGINNING if last is None else max(0, end - last))
        for (topic, index), end in ends.items()
        if end > 0
    ]
    if not starts:
        return
    consumer = Consumer(settings.confluent() | QUICK_READER | {"group.id": "chronotope-reader"})
    try:
        consumer.assign(starts)
        open_partitions = {(each.topic, each.partition) for each in starts}
        deadline = time.monotonic() + STALL_S
        while open_partitions:
            for message in consumer.consume(BATCH, timeout=0.02):
                deadline = time.monotonic() + STALL_S
                partition = (message.topic(), message.partition())
                error = message.error()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    open_partitions.discard(partition)
                elif error is not None:
                    raise ClusterError(f"{message.topic()} cannot be read ({error.str()})")
                elif partition in open_partitions:
                    if message.offset() < ends[partition]:
                        yield message
                    if message.offset() >= ends[partition] - 1:
                        open_partitions.discard(partition)
            if time.monotonic() > deadline:
                raise ClusterError(f"{len(open_partitions)} partitions stopped answering before their ends")
    finally:
        consumer.close()
