"""Writes records to explicit partitions and returns when the brokers have acknowledged all of them.

Sending and retrying is librdkafka's, in threads of its own that need no interpreter; of acknowledgements the event loop hears
between two batches.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

Headers = Sequence[tuple[str, bytes]]
Target = tuple[str, int]
POLL_S = 0.001
# When the brokers have been silent for long.
LONG_S, SELDOM_POLL_S = 0.1, 0.01
# As long as the producer's queue is full.
ROOM_PAUSE_S = 0.005
CLOSE_WITHIN_S = 5.0
# What comes after a record that cannot be written is not written either: a stage behind would take the gap for good. A record
# that timed out in the queue would leave one, so none does: the watchdog ends a worker that waits for its brokers too long.
NO_GAPS = {"enable.idempotence": True, "enable.gapless.guarantee": True, "delivery.timeout.ms": 0}


class OutRecord(msgspec.Struct, frozen=True, gc=False):
    """One record to write; a ``value`` of None is a tombstone, ``timestamp_ms`` of None is now.

    An ``urgent`` one is handed over to our own agents without waiting for others.
    """

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp_ms: int | None = None
    urgent: bool = False


class Placed(msgspec.Struct, frozen=True, gc=False):
    """A record that the brokers have, at this offset of its partition."""

    record: OutRecord
    offset: int


Hearer = Callable[[Sequence[Placed]], None]


class Delivery:
    """The acknowledgements of one write; ``done`` holds the last offset per partition.

    ``hear`` is told of those records that were written with ``on_placed``; ``heard`` says that there are some.
    """

    def __init__(self, awaited: int, hear: Hearer, heard: bool) -> None:
        self.heard = heard
        self._loop = asyncio.get_running_loop()
        self._hear = hear
        self._placed: list[Placed] = []
        self.done: asyncio.Future[dict[Target, int]] = self._loop.create_future()
        self.awaited = awaited
        self._last: dict[Target, int] = {}

    def on_placed(self, record: OutRecord, error: KafkaError | None, message: Message) -> None:
        """The brokers have a record of which ``hear`` is to be told, or never will."""
        offset = message.offset()
        if error is None and offset is not None:
            self._placed.append(Placed(record, offset))
        self.on_delivery(error, message)

    def on_delivery(self, error: KafkaError | None, message: Message) -> None:
        """The brokers have a record, or never will."""
        self.awaited -= 1
        if self._loop.is_closed() or self.done.done():  # nobody waits any more, or it has failed
            return
        if error is not None:
            self.fail(KafkaException(error))
            return
        offset = message.offset()
        if offset is not None:  # of a record that was sent twice the brokers do not say it
            target = message.topic(), message.partition()
            self._last[target] = max(offset, self._last.get(target, -1))  # type: ignore[index,arg-type]
        if not self.awaited:
            self.done.set_result(self._last)
            if self._placed:
                self._hear(self._placed)

    def fail(self, error: Exception) -> None:
        """It failed, if it has not succeeded."""
        if not self.done.done():
            self.done.set_exception(error)


class BatchWriter:
    """An idempotent producer whose writes are awaited; ``config`` is librdkafka's. ``close`` sends what is left."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = dict(config) | NO_GAPS
        self._producer: Producer | None = None
        self._turn = asyncio.Lock()
        self._first: dict[Target, asyncio.Future[Any]] = {}
        self._under_way: list[Delivery] = []
        self._listening: asyncio.Task[None] | None = None
        self._heard_topics: frozenset[str] = frozenset()
        self._hearer: Hearer = lambda _: None

    def tell(self, topics: frozenset[str], hearer: Hearer) -> None:
        """Let ``hearer`` know of each record of these topics, once all that was written with it is acknowledged."""
        self._heard_topics, self._hearer = topics, hearer

    async def write(self, records: Sequence[OutRecord]) -> dict[Target, int]:
        """Write all records, those of one partition in order; the last offset of each (topic, partition), once acknowledged.

        Raises KafkaException if one of them fails: the caller must then not acknowledge its source.
        """
        if not records:
            return {}
        async with self._turn:  # or a write that waits for room would be overtaken
            # There are no gaps, so the last record of a partition is not acknowledged before the others are.
            last = {(record.topic, record.partition): at for at, record in enumerate(records)}
            heard = {at for at, record in enumerate(records) if record.topic in self._heard_topics}
            awaited = heard.union(last.values())
            delivery = Delivery(len(awaited), self._hearer, bool(heard))
            await self._let_first_arrive(set(last), delivery.done)
            self._listen_for(delivery)
            try:
                for at, record in enumerate(records):
                    await self._hand_over(record, delivery if at in awaited else None)
            except (KafkaException, ValueError) as error:  # refused by the producer itself
                delivery.fail(error)
        return await delivery.done

    async def told(self, at_most_s: float) -> None:
        """Return when the hearer knows of all that was written so far, or after ``at_most_s``."""
        if waiting := [delivery.done for delivery in self._under_way if delivery.heard]:
            await asyncio.wait(waiting, timeout=at_most_s)

    async def _let_first_arrive(self, targets: set[Target], done: asyncio.Future[Any]) -> None:
        """Wait for the first write to each partition, or note that ``done`` is of that one.

        A broker that has taken something of a producer refuses what does not follow it. Before, it takes anything: a second
        write would be let in though the first one, on its way too, is not.
        """
        if under_way := [self._first[one] for one in targets if one in self._first and not self._first[one].done()]:
            await asyncio.wait(under_way)
        for one in targets - self._first.keys():
            self._first[one] = done

    async def _hand_over(self, record: OutRecord, delivery: Delivery | None) -> None:
        producer, time_ms = self._started(), record.timestamp_ms or int(time.time() * 1000)
        heard = delivery is not None and record.topic in self._heard_topics
        acknowledged = delivery and (partial(delivery.on_placed, record) if heard else delivery.on_delivery)
        while True:
            try:
                producer.produce(
                    record.topic, record.value, record.key, record.partition, acknowledged, time_ms,
                    headers=list(record.headers),
                )  # fmt: skip
                return
            except BufferError:
                await asyncio.sleep(ROOM_PAUSE_S)

    def close(self) -> None:
        """Send what was handed over, for a few seconds, and end."""
        if self._producer is not None:
            self._producer.flush(CLOSE_WITHIN_S)

    def _started(self) -> Producer:
        if self._producer is None:
            self._producer = Producer(self._config, logger=logging.getLogger("librdkafka"))
        return self._producer

    def _listen_for(self, delivery: Delivery) -> None:
        self._under_way.append(delivery)
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        """Hear of acknowledgements while any are awaited.

        A thread that waits for them would have to be let in by the busy event loop once for each: a millisecond every time.
        """
        producer, heard_at = self._started(), time.monotonic()
        while self._under_way:
            try:
                if producer.poll(0):
                    heard_at = time.monotonic()
            except Exception as error:
                # Nothing is written any more. Whoever waits hears of it now: the last record of a write may get through to a
                # broker that has refused one before it, if it is the first that it hears of this producer.
                for delivery in self._under_way:
                    delivery.fail(error)
                producer.purge()
            self._under_way = [delivery for delivery in self._under_way if not delivery.done.done()]
            await asyncio.sleep(POLL_S if time.monotonic() - heard_at < LONG_S else SELDOM_POLL_S)
