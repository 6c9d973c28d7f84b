"""Where topics end and how far a consumer group has come."""

import time
from collections.abc import Iterable

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from chronotope.kafka.errors import ClusterError
from schemas.settings import KafkaSettings

# The end of a partition is told by the fetch that finds nothing: that one should not linger.
QUICK_READER = {
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "earliest",
    "fetch.wait.max.ms": 20,
    "log_level": 0,
}
Partition = tuple[str, int]
CONNECT_TIMEOUT_S = 8.0
REQUEST_TIMEOUT_S = 15.0
ASK_AGAIN_S = 0.1
# What brokers answer about a topic that was created a moment ago, or while a partition's leader changes.
NO_LEADER_YET = frozenset(
    {KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.UNKNOWN_TOPIC_OR_PART}
)


class OffsetReader:
    """Reads end offsets and a group's committed offsets over one connection; a context manager.

    End offsets are found by reading each partition's tail to its end: the embedded broker answers the usual request
    (ListOffsets) with the start of its last batch. ``group`` is only looked at, never joined.
    """

    def __init__(self, settings: KafkaSettings, group: str = "chronotope-offset-reader") -> None:
        self._bootstrap = settings.bootstrap
        self._consumer = Consumer(settings.confluent() | QUICK_READER | {"group.id": group})

    def __enter__(self) -> "OffsetReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def partitions(self, topics: Iterable[str]) -> list[Partition]:
        """Every partition of these topics, those that do not exist left out. Raises ClusterError if unreachable."""
        try:
            metadata = self._consumer.list_topics(timeout=CONNECT_TIMEOUT_S)
        except KafkaException as error:
            raise ClusterError(f"no Kafka broker answers at {self._bootstrap} ({error.args[0].str()})") from error
        known = {name: topic for name, topic in metadata.topics.items() if topic.error is None}
        return [(name, index) for name in topics if name in known for index in sorted(known[name].partitions)]

    def ends(self, partitions: list[Partition], timeout_s: float = 30.0) -> dict[Partition, int]:
        """The offset that the next record of each partition will get. Raises ClusterError when the time is up."""
        tails = []
        for name, index in partitions:
            low, high = self._watermarks(name, index)
            tails.append(TopicPartition(name, index, max(low, high - 1)))
        ends: dict[Partition, int] = {}
        self._consumer.assign(tails)
        deadline = time.monotonic() + timeout_s
        while len(ends) < len(tails):
            if time.monotonic() > deadline:
                raise ClusterError(f"the ends of {len(tails) - len(ends)} partitions could not be read")
            for message in self._consumer.consume(1_000, timeout=0.02):
                error = message.error()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    ends[message.topic(), message.partition()] = message.offset()
        self._consumer.unassign()
        return ends

    def starts(self, partitions: list[Partition]) -> dict[Partition, int]:
        """The oldest offset that each partition still holds. Raises ClusterError if it cannot be read."""
        return {(name, index): self._watermarks(name, index)[0] for name, index in partitions}

    def _watermarks(self, name: str, index: int) -> tuple[int, int]:
        give_up_s = time.monotonic() + REQUEST_TIMEOUT_S
        while True:
            try:
                found: tuple[int, int] = self._consumer.get_watermark_offsets(
                    TopicPartition(name, index), timeout=REQUEST_TIMEOUT_S
                )
                return found
            except KafkaException as error:
                if error.args[0].code() not in NO_LEADER_YET or time.monotonic() > give_up_s:
                    raise ClusterError(
                        f"the offsets of {name}, partition {index} cannot be read ({error.args[0].str()})"
                    ) from error
            time.sleep(ASK_AGAIN_S)

    def committed(self, partitions: list[Partition]) -> dict[Partition, int]:
        """The group's committed offset of each partition, 0 where it has none. Raises ClusterError."""
        asked = [TopicPartition(name, index) for name, index in partitions]
        try:
            found = self._consumer.committed(asked, timeout=REQUEST_TIMEOUT_S)
        except KafkaException as error:
            raise ClusterError(f"the group's offsets cannot be read ({error.args[0].str()})") from error
        return {(each.topic, each.partition): max(0, each.offset) for each in found}
