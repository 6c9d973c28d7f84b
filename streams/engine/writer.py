"""Writes records in whole batches to explicit partitions and returns when the brokers have acknowledged all of them."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec

Headers = Sequence[tuple[str, bytes]]


class OutRecord(msgspec.Struct, frozen=True):
    """One record to write; a ``value`` of None is a tombstone, ``timestamp_ms`` of None is now."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp_ms: int | None = None


class BatchWriter:
    """Groups records by partition into the producer's own batches: one future per batch instead of one per record.

    Batches of a partition are handed over in turns: aiokafka lets those that wait for the same partition race, takes what
    they have waited so far off their time with every race that they lose, and gives up.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._turns: defaultdict[tuple[str, int], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def write(self, records: Sequence[OutRecord]) -> dict[tuple[str, int], int]:
        """Write all records, those of one partition in order; the last offset of each (topic, partition), once acknowledged.

        Raises the client's error if one of them fails: the caller must then not acknowledge its source.
        """
        by_partition: dict[tuple[str, int], list[OutRecord]] = {}
        for record in records:
            by_partition.setdefault((record.topic, record.partition), []).append(record)
        writes = (self._write_partition(*target, group) for target, group in by_partition.items())
        return dict(zip(by_partition, await asyncio.gather(*writes), strict=True))

    async def _write_partition(self, topic: str, partition: int, records: list[OutRecord]) -> int:
        producer, now_ms = self._app.producer._ensure_producer(), int(time.time() * 1000)
        pending: list[tuple[asyncio.Future[Any], int]] = []

        async def send() -> None:
            async with self._turns[topic, partition]:
                pending.append((await producer.send_batch(batch, topic, partition=partition), batch.record_count()))

        batch = producer.create_batch()
        for record in records:
            fields = {"timestamp": record.timestamp_ms or now_ms, "key": record.key, "value": record.value}
            if batch.append(**fields, headers=list(record.headers)) is None:
                await send()
                batch = producer.create_batch()
                batch.append(**fields, headers=list(record.headers))
        await send()
        last = -1
        for acknowledged, number in pending:
            last = (await acknowledged).offset + number - 1
        return last
