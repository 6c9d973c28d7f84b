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
# So long writes are gathered: librdkafka makes a request for each partition of what it is given at a time, and a broker works
# as long for a small one as for a large one.
GATHER_S = 0.01
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

    ``hear`` is told of those records that are of the ``heard`` topics; ``is_heard`` says that there are some.
    """

    def __init__(self, records: Sequence[OutRecord], heard: frozenset[str], hear: Hearer) -> None:
        # There are no gaps, so the last record of a partition is not acknowledged before the others are.
        last = {(record.topic, record.partition): at for at, record in enumerate(records)}
        self._told = {at: record for at, record in enumerate(records) if record.topic in heard}
        self._awaited = self._told.keys() | set(last.values())
        self._open = len(self._awaited)
        self._loop = asyncio.get_running_loop()
        self._hear = hear
        self._placed: list[Placed] = []
        self.done: asyncio.Future[dict[Target, int]] = self._loop.create_future()
        self._last: dict[Target, int] = {}

    @property
    def is_heard(self) -> bool:
        """Whether somebody is told where some of the records are."""
        return bool(self._told)

    def callback(self, at: int) -> Callable[..., None] | None:
        """What is to be called when the brokers have the record at this place, None if nobody waits for it."""
        if at in self._told:
            return partial(self.on_placed, self._told[at])
        return self.on_delivery if at in self._awaited else None

    def on_placed(self, record: OutRecord, error: KafkaError | None, message: Message) -> None:
        """The brokers have a record of which ``hear`` is to be told, or never will."""
        offset = message.offset()
        if error is None and offset is not None:
            self._placed.append(Placed(record, offset))
        self.on_delivery(error, message)

    def on_delivery(self, error: KafkaError | None, message: Message) -> None:
        """The brokers have a record, or never will."""
        self._open -= 1
        if self._loop.is_closed() or self.done.done():  # nobody waits any more, or it has failed
            return
        if error is not None:
            self.fail(KafkaException(error))
            return
        offset = message.offset()
        if offset is not None:  # of a record that was sent twice the brokers do not say it
            target = message.topic(), message.partition()
            self._last[target] = max(offset, self._last.get(target, -1))  # type: ignore[index,arg-type]
        if not self._open:
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
        self._gathered: list[tuple[Sequence[OutRecord], Delivery]] = []
        self._sending: asyncio.Task[None] | None = None
        self._at_latest: asyncio.TimerHandle | None = None
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

        Writes are gathered until ``release``, for a few milliseconds at most, and not if one of the records is urgent.

        Raises KafkaException if one of them fails: the caller must then not acknowledge its source.
        """
        if not records:
            return {}
        delivery = Delivery(records, self._heard_topics, self._hearer)
        self._gathered.append((records, delivery))
        if any(record.urgent for record in records):
            self.release()
        elif self._at_latest is None:
            self._at_latest = asyncio.get_running_loop().call_later(GATHER_S, self.release)
        return await delivery.done

    def release(self) -> None:
        """Send what was gathered."""
        if self._at_latest is not None:
            self._at_latest.cancel()
            self._at_latest = None
        if self._gathered and (self._sending is None or self._sending.done()):
            self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        """Hand over what is gathered, one write after the other: one that waits for room must not be overtaken."""
        while self._gathered:
            records, delivery = self._gathered.pop(0)
            self._listen_for(delivery)
            await self._let_first_arrive({(record.topic, record.partition) for record in records}, delivery.done)
            if delivery.done.done():  # what was written before it has failed
                continue
            try:
                for at, record in enumerate(records):
                    await self._hand_over(record, delivery.callback(at))
            except Exception as error:  # refused by the producer itself
                delivery.fail(error)

    async def told(self, at_most_s: float) -> None:
        """Return when the hearer knows of all that was written so far, or after ``at_most_s``."""
        self.release()
        written = [*self._under_way, *(delivery for _, delivery in self._gathered)]
        if waiting := [delivery.done for delivery in written if delivery.is_heard]:
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

    async def _hand_over(self, record: OutRecord, acknowledged: Callable[..., None] | None) -> None:
        producer, time_ms = self._started(), record.timestamp_ms or int(time.time() * 1000)
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
