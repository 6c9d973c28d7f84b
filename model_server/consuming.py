"""Records from Kafka: a consumer group over the users' topics, and every partition of the shared ones without a group."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from model_server.ledger import Source
from schemas.headers import Headers, trace_headers
from schemas.settings import KafkaSettings
from schemas.topics import TopicSpec

# Kafka answers as soon as there is a record. The embedded broker looks again after half of this time, and each look costs it:
# with a few milliseconds it is busy with nothing. Who sent an event waits for the answer; a pattern tells of minutes.
FETCH_WAIT_MS, SHARED_FETCH_WAIT_MS = 20, 50
log = structlog.get_logger(__name__)
log_of_client = logging.getLogger("kafka")


class Record(NamedTuple):
    """One record as taken from Kafka; ``appended_ms`` is its Kafka timestamp, ``trace`` its W3C trace context."""

    source: Source
    offset: int
    appended_ms: int
    key: bytes | None
    value: bytes | None
    trace: Headers


class StartingPoint(NamedTuple):
    """Where to resume a partition: state holds what is before ``learned``, sinks hold what is before ``settled``."""

    learned: int
    settled: int

    @property
    def offset(self) -> int:
        """The first offset to read again, so that neither is left with a gap."""
        return min(self.learned, self.settled)


def partitions_of(consumer: Consumer, spec: TopicSpec) -> int:
    """How many partitions a topic has on the broker. Raises KafkaException if it does not exist."""
    metadata = consumer.list_topics(spec.name, timeout=10).topics[spec.name]
    if metadata.error is not None:
        raise KafkaException(metadata.error)
    return len(metadata.partitions)


class OwnedConsumer:
    """The users' topics, shared out among the instances by users: partition p of every topic goes to the same instance.

    ``learned`` tells up to which offset the caller's state has absorbed a partition; on assignment reading resumes there or
    at the committed offset, whichever is earlier. Callbacks run within ``poll``. Not thread-safe.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        group: str,
        specs: Sequence[TopicSpec],
        *,
        session_timeout_ms: int,
        learned: Callable[[Source], int],
        on_gained: Callable[[dict[Source, StartingPoint]], None],
        on_lost: Callable[[list[Source]], None],
    ) -> None:
        self._learned, self._on_gained, self._on_lost = learned, on_gained, on_lost
        self.owned: set[Source] = set()
        self._consumer = Consumer(
            kafka.confluent()
            | {
                "group.id": group,
                "session.timeout.ms": session_timeout_ms,
                "heartbeat.interval.ms": max(session_timeout_ms // 6, 100),
                "auto.offset.reset": "earliest",
                "enable.auto.offset.store": False,
                "auto.commit.interval.ms": 1_000,
                # Range, not sticky: it alone gives partition p of equally partitioned topics to one member.
                "partition.assignment.strategy": "range",
                "fetch.wait.max.ms": FETCH_WAIT_MS,
                "fetch.error.backoff.ms": 50,
                "queued.max.messages.kbytes": 65_536,
            },
            logger=log_of_client,
        )
        counts = {spec.name: partitions_of(self._consumer, spec) for spec in specs}
        if len(set(counts.values())) != 1:
            raise ValueError(f"the users' topics must have equally many partitions, they have {counts}")
        self.partitions = next(iter(counts.values()))
        self._consumer.subscribe(
            [spec.name for spec in specs], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )

    def poll(self, limit: int, wait_s: float) -> list[Record]:
        """Up to ``limit`` records; waits at most ``wait_s`` for them."""
        return _records(self._consumer.consume(limit, wait_s))

    def pause(self) -> None:
        """Take no more records until ``resume``; membership and heartbeats go on."""
        self._consumer.pause(_topic_partitions(self.owned))

    def resume(self) -> None:
        """Take records again."""
        self._consumer.resume(_topic_partitions(self.owned))

    def store(self, offsets: dict[Source, int]) -> None:
        """Let these next offsets be committed in the background."""
        partitions = [TopicPartition(*source, offset) for source, offset in offsets.items() if source in self.owned]
        if partitions:
            self._consumer.store_offsets(offsets=partitions)

    def lag(self) -> dict[Source, int]:
        """Records between our position and the last known end of each partition; cached numbers, no round trip."""
        result = {}
        for position in self._consumer.position(_topic_partitions(self.owned)):
            try:
                _, high = self._consumer.get_watermark_offsets(position, cached=True)
            except KafkaException:
                continue
            if position.offset >= 0 and high >= 0:
                result[Source(position.topic, position.partition)] = max(0, high - position.offset)
        return result

    def close(self) -> None:
        """Commit what was stored and leave the group."""
        self._consumer.close()

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        starts = {}
        for held in consumer.committed(partitions, timeout=10):
            source = Source(held.topic, held.partition)
            starts[source] = StartingPoint(self._learned(source), max(held.offset, 0))
        consumer.assign([TopicPartition(*source, start.offset or OFFSET_BEGINNING) for source, start in starts.items()])
        log.info("partitions gained", starts={f"{s.topic}/{s.partition}": tuple(p) for s, p in starts.items()})
        self._on_gained(starts)
        # Last: who sees them owned (another thread asks for readiness) must see what of them is still to be learned.
        self.owned |= set(starts)

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        lost = [Source(each.topic, each.partition) for each in partitions]
        log.info("partitions lost", sources=[f"{s.topic}/{s.partition}" for s in lost])
        self._on_lost(lost)
        self.owned -= set(lost)


class SharedConsumer:
    """Topics that every instance reads whole, from their beginning, without a group."""

    def __init__(self, kafka: KafkaSettings, specs: Sequence[TopicSpec]) -> None:
        self._consumer = Consumer(
            kafka.confluent()
            | {
                "group.id": "unused: partitions are assigned",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": SHARED_FETCH_WAIT_MS,
                "fetch.error.backoff.ms": 50,
                "queued.max.messages.kbytes": 65_536,
            },
            logger=log_of_client,
        )
        partitions = [
            TopicPartition(spec.name, partition, OFFSET_BEGINNING)
            for spec in specs
            for partition in range(partitions_of(self._consumer, spec))
        ]
        self._unfinished = {Source(each.topic, each.partition) for each in partitions}
        self._consumer.assign(partitions)

    @property
    def caught_up(self) -> bool:
        """Whether the end of every partition was reached once."""
        return not self._unfinished

    def poll(self, limit: int, wait_s: float = 0.0) -> list[Record]:
        """Up to ``limit`` records; waits at most ``wait_s`` for them."""
        return _records(self._consumer.consume(limit, wait_s), self._reached_end)

    def close(self) -> None:
        """Stop reading."""
        self._consumer.close()

    def _reached_end(self, source: Source) -> None:
        self._unfinished.discard(source)


def last_versions(kafka: KafkaSettings, spec: TopicSpec, timeout_s: float = 10.0) -> list[bytes]:
    """The value of the last record of each partition: whatever was given out last is among them."""
    consumer = Consumer(
        kafka.confluent()
        | {
            "group.id": "unused: partitions are assigned",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,
        }
    )
    try:
        tails = []
        for partition in range(partitions_of(consumer, spec)):
            _, high = consumer.get_watermark_offsets(TopicPartition(spec.name, partition), timeout=timeout_s)
            tails.append(TopicPartition(spec.name, partition, max(high - 1, 0)))
        consumer.assign(tails)
        unfinished = {Source(tail.topic, tail.partition) for tail in tails}
        last: dict[Source, bytes] = {}
        give_up_s = time.monotonic() + timeout_s
        while unfinished and time.monotonic() < give_up_s:
            for record in _records(consumer.consume(1_000, 0.02), unfinished.discard):
                if record.value is not None:
                    last[record.source] = record.value
        return list(last.values())
    finally:
        consumer.close()


def _topic_partitions(sources: set[Source]) -> list[TopicPartition]:
    return [TopicPartition(*source) for source in sources]


def _records(messages: list[Message], on_end: Callable[[Source], None] | None = None) -> list[Record]:
    records = []
    for message in messages:
        error = message.error()
        if error is None:
            source = Source(message.topic(), message.partition())
            stamp, trace = message.timestamp()[1], trace_headers(message.headers())
            records.append(Record(source, message.offset(), stamp, message.key(), message.value(), trace))
        elif error.code() == KafkaError._PARTITION_EOF:
            if on_end is not None:
                on_end(Source(message.topic(), message.partition()))
        elif error.fatal():
            raise KafkaException(error)
        else:
            log.warning("kafka", error=error.str())
    return records
