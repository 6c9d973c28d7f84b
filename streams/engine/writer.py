"""Writes records to explicit partitions and returns when the brokers have acknowledged all of them.

What is to be written to all partitions of a broker at a time goes in one request. A stage's batch is a few small records for each
of dozens of partitions, and brokers work through the requests of a connection one by one (bench/writing.py).
"""

import asyncio
import contextlib
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, UnknownError, UnknownTopicOrPartitionError

log = structlog.get_logger()
Headers = Sequence[tuple[str, bytes]]
Target = tuple[str, int]
# So long writes are gathered, so that they share a request.
GATHER_S = 0.01
# A batch of records that every topic takes; a record that is larger makes a batch of its own.
BATCH_BYTES = 900_000
# Beyond that batches wait for others to arrive: brokers refuse requests of a hundred million bytes.
MOST_BYTES_SENT = 16_000_000
CLOSE_WITHIN_S = 5.0
RECONNECT_AFTER_S = 0.5


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
        self.records = records
        self.is_heard = any(record.topic in heard for record in records)
        self._heard, self._hear = heard, hear
        self._open = len(records)
        self._placed: list[Placed] = []
        self._last: dict[Target, int] = {}
        self.done: asyncio.Future[dict[Target, int]] = asyncio.get_running_loop().create_future()

    def on_placed(self, records: Sequence[OutRecord], first_offset: int | None) -> None:
        """The brokers have these records of one partition, from this offset on; None if they do not say where."""
        self._open -= len(records)
        if first_offset is not None:
            topic, partition = records[0].topic, records[0].partition
            self._last[topic, partition] = first_offset + len(records) - 1
            if topic in self._heard:
                self._placed += [Placed(record, offset) for offset, record in enumerate(records, first_offset)]
        if not self._open and not self.done.done():
            self.done.set_result(self._last)
            if self._placed:
                self._hear(self._placed)

    def fail(self, error: BaseException) -> None:
        """It failed, if it has not succeeded."""
        if not self.done.done():
            self.done.set_exception(error)


Portion = tuple[Delivery, list[OutRecord]]
Queue = deque[tuple[Delivery, OutRecord]]


class BatchWriter:
    """A producer whose writes are awaited; ``config`` is aiokafka's.

    Of each partition one batch at a time is on its way, and what comes meanwhile makes the next one: a large write holds up those
    to its own partition only, and no record arrives where one before it has not. After a record that could not be written nothing
    is. What waits for a broker does so without end: the watchdog ends a worker that waits too long.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = dict(config)
        self._producer: Any = None
        self._failure: BaseException | None = None
        self._gathered: list[Delivery] = []
        self._under_way: set[Delivery] = set()
        self._queues: defaultdict[Target, Queue] = defaultdict(deque)
        self._ready: deque[Target] = deque()  # those with a queue and no batch on its way
        self._sent: set[Target] = set()
        self._bytes_sent = 0
        self._sending: asyncio.Task[None] | None = None
        self._at_latest: asyncio.TimerHandle | None = None
        self._heard_topics: frozenset[str] = frozenset()
        self._hearer: Hearer = lambda _: None

    def tell(self, topics: frozenset[str], hearer: Hearer) -> None:
        """Let ``hearer`` know of each record of these topics, once all that was written with it is acknowledged."""
        self._heard_topics, self._hearer = topics, hearer

    async def write(self, records: Sequence[OutRecord]) -> dict[Target, int]:
        """Write all records, those of one partition in order; the last offset of each (topic, partition), once acknowledged.

        Writes are gathered until ``release``, for a few milliseconds at most, and not if one of the records is urgent.

        Raises what the brokers or the client said if one of them fails: the caller must then not acknowledge its source. So
        does every write after that.
        """
        if not records:
            return {}
        if self._failure is not None:
            raise self._failure
        delivery = Delivery(records, self._heard_topics, self._hearer)
        self._gathered.append(delivery)
        self._under_way.add(delivery)
        delivery.done.add_done_callback(lambda _: self._under_way.discard(delivery))
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
        gathered, self._gathered = self._gathered, []
        for delivery in gathered:
            for record in delivery.records:
                queue = self._queues[record.topic, record.partition]
                if not queue and (record.topic, record.partition) not in self._sent:
                    self._ready.append((record.topic, record.partition))
                queue.append((delivery, record))
        self._go_on()

    async def told(self, at_most_s: float) -> None:
        """Return when the hearer knows of all that was written so far, or after ``at_most_s``."""
        self.release()
        if waiting := [delivery.done for delivery in self._under_way if delivery.is_heard]:
            await asyncio.wait(waiting, timeout=at_most_s)

    async def close(self) -> None:
        """Let what is on its way arrive, for a few seconds, and end."""
        if self._producer is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._producer.stop(), CLOSE_WITHIN_S)

    def _go_on(self) -> None:
        if self._ready and (self._sending is None or self._sending.done()):
            self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        """Send a batch to each partition that is ready."""
        try:
            producer = await self._started()
            while self._ready and self._bytes_sent < MOST_BYTES_SENT and self._failure is None:
                target = self._ready.popleft()
                batch, held = next_batch(producer.create_batch(), self._queues[target])
                self._sent.add(target)
                self._bytes_sent += (size := batch.size())
                try:
                    acknowledged = await producer.send_batch(batch, target[0], partition=target[1])
                except AssertionError as error:
                    raise UnknownTopicOrPartitionError(f"partition {target[1]} of {target[0]}") from error
                acknowledged.add_done_callback(partial(self._on_acknowledged, target, held, size))
        except Exception as error:
            self._fail(error)

    def _on_acknowledged(
        self, target: Target, held: list[Portion], size: int, acknowledged: asyncio.Future[Any]
    ) -> None:
        if acknowledged.cancelled():
            return
        if (error := acknowledged.exception()) is not None:
            self._fail(error)
            return
        self._sent.discard(target)
        self._bytes_sent -= size
        if self._queues[target]:
            self._ready.append(target)
        self._go_on()
        offset: int = acknowledged.result().offset  # of a batch that was sent twice the brokers may not say it: -1
        try:
            for delivery, records in held:
                delivery.on_placed(records, offset if offset >= 0 else None)
                offset += len(records) if offset >= 0 else 0
        except Exception as failure:  # of whoever is told
            self._fail(failure)

    def _fail(self, error: BaseException) -> None:
        """Nothing is written any more, and whoever waits hears of it."""
        if self._failure is None:
            self._failure = error
        self._gathered.clear()
        self._ready.clear()
        self._queues.clear()
        for delivery in list(self._under_way):
            delivery.fail(error)

    async def _started(self) -> Any:
        while self._producer is None:
            producer = AIOKafkaProducer(**{"enable_idempotence": True} | self._config, max_batch_size=BATCH_BYTES)
            try:
                await producer.start()
                self._producer = producer
            except KafkaConnectionError:
                await producer.stop()
                await asyncio.sleep(RECONNECT_AFTER_S)
            except UnknownError:
                await producer.stop()
                if not self._config.get("enable_idempotence", True):
                    raise
                log.info("the brokers give producers no numbers: what is sent again may be there twice")
                self._config["enable_idempotence"] = False
        return self._producer


def next_batch(batch: Any, queue: Queue) -> tuple[Any, list[Portion]]:
    """The batch with the first records of the queue, as many as it takes and at least one, and whose they are."""
    held, now_ms = list[Portion](), int(time.time() * 1000)
    while queue and appended(batch, queue[0][1], now_ms):
        delivery, record = queue.popleft()
        if not held or held[-1][0] is not delivery:
            held.append((delivery, []))
        held[-1][1].append(record)
    return batch, held


def appended(batch: Any, record: OutRecord, now_ms: int) -> bool:
    """Whether the batch takes the record; an empty one takes any."""
    taken = batch.append(
        timestamp=record.timestamp_ms or now_ms, key=record.key, value=record.value, headers=list(record.headers)
    )
    return taken is not None
