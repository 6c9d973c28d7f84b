"""Writes records to explicit partitions and returns when the brokers have acknowledged all of them.

Sending, retrying and hearing of acknowledgements is librdkafka's, in threads of its own: a write takes as long as the brokers
do, however busy the event loop is with batches.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from threading import Event, Thread
from typing import Any

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

Headers = Sequence[tuple[str, bytes]]
Target = tuple[str, int]
POLL_S = 0.1
# As long as the producer's queue is full.
ROOM_PAUSE_S = 0.005
CLOSE_WITHIN_S = 5.0
# What comes after a record that cannot be written is not written either: a stage behind would take the gap for good. A record
# that timed out in the queue would leave one, so none does: the watchdog ends a worker that waits for its brokers too long.
NO_GAPS = {"enable.idempotence": True, "enable.gapless.guarantee": True, "delivery.timeout.ms": 0}


class OutRecord(msgspec.Struct, frozen=True, gc=False):
    """One record to write; a ``value`` of None is a tombstone, ``timestamp_ms`` of None is now."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp_ms: int | None = None


class Delivery:
    """The acknowledgements of one write, which come in the producer's thread; ``done`` holds the last offset per partition."""

    def __init__(self, records: int) -> None:
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[dict[Target, int]] = self._loop.create_future()
        self._missing = records
        self._last: dict[Target, int] = {}

    def on_delivery(self, error: KafkaError | None, message: Message) -> None:
        """The brokers have a record, or never will."""
        self._missing -= 1
        if self._loop.is_closed():  # nobody waits any more
            return
        if error is not None:
            self._loop.call_soon_threadsafe(self._fail, KafkaException(error))
            return
        target, offset = (message.topic(), message.partition()), message.offset()
        self._last[target] = max(offset, self._last.get(target, -1))  # type: ignore[index,arg-type,type-var,assignment]
        if not self._missing:
            self._loop.call_soon_threadsafe(self._succeed)

    def _fail(self, error: KafkaException) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def _succeed(self) -> None:
        if not self.done.done():
            self.done.set_result(self._last)


class BatchWriter:
    """An idempotent producer whose writes are awaited; ``config`` is librdkafka's. ``close`` ends its thread."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = dict(config) | NO_GAPS
        self._producer: Producer | None = None
        self._turn = asyncio.Lock()
        self._first: dict[Target, asyncio.Future[Any]] = {}
        self._ended = Event()
        self._thread = Thread(target=self._hear, name="deliveries", daemon=True)

    async def write(self, records: Sequence[OutRecord]) -> dict[Target, int]:
        """Write all records, those of one partition in order; the last offset of each (topic, partition), once acknowledged.

        Raises KafkaException if one of them fails: the caller must then not acknowledge its source.
        """
        if not records:
            return {}
        async with self._turn:  # or a write that waits for room would be overtaken
            delivery = Delivery(len(records))
            await self._let_first_arrive({(record.topic, record.partition) for record in records}, delivery.done)
            for record in records:
                await self._hand_over(record, delivery)
        return await delivery.done

    async def _let_first_arrive(self, targets: set[Target], done: asyncio.Future[Any]) -> None:
        """Wait for the first write to each partition, or note that ``done`` is of that one.

        A broker that has taken something of a producer refuses what does not follow it. Before, it takes anything: a second
        write would be let in though the first one, on its way too, is not.
        """
        if under_way := [self._first[one] for one in targets if one in self._first and not self._first[one].done()]:
            await asyncio.wait(under_way)
        for one in targets - self._first.keys():
            self._first[one] = done

    async def _hand_over(self, record: OutRecord, delivery: Delivery) -> None:
        producer, time_ms = self._started(), record.timestamp_ms or int(time.time() * 1000)
        while True:
            try:
                producer.produce(
                    record.topic, record.value, record.key, record.partition, delivery.on_delivery, time_ms,
                    headers=list(record.headers),
                )  # fmt: skip
                return
            except BufferError:
                await asyncio.sleep(ROOM_PAUSE_S)

    def close(self) -> None:
        """Send what was handed over, for a few seconds, and end."""
        self._ended.set()
        if self._producer is not None:
            self._thread.join()
            self._producer.flush(CLOSE_WITHIN_S)

    def _started(self) -> Producer:
        if self._producer is None:
            self._producer = Producer(self._config, logger=logging.getLogger("librdkafka"))
            self._thread.start()
        return self._producer

    def _hear(self) -> None:
        assert self._producer is not None
        while not self._ended.is_set():
            try:
                self._producer.poll(POLL_S)
            except KafkaException:  # a fatal one: nothing is written any more, and whoever waits is to hear of it
                self._producer.purge()
