"""Writing in whole batches: many who write to one partition at a time all get their turn."""

import asyncio
from types import SimpleNamespace

import pytest
from aiokafka import AIOKafkaProducer

from chronotope.kafka.topics import apply_topics
from chronotope.local.embedded import EmbeddedBroker
from schemas.settings import KafkaSettings
from schemas.topics import INTERNAL_PLACE
from streams.engine.writer import BatchWriter, OutRecord

WRITES, BYTES, TIMEOUT_MS = 150, 300_000, 3_000


@pytest.mark.integration
def test_many_writes_to_one_partition_are_all_acknowledged_however_long_they_wait_for_each_other(
    broker: EmbeddedBroker,
) -> None:
    apply_topics(KafkaSettings(bootstrap=broker.bootstrap))

    async def write_all() -> list[int]:
        producer = AIOKafkaProducer(
            bootstrap_servers=broker.bootstrap, acks=-1, request_timeout_ms=TIMEOUT_MS,
            max_batch_size=500_000, max_request_size=8_000_000,
        )  # fmt: skip
        async with producer:
            writer = BatchWriter(SimpleNamespace(producer=SimpleNamespace(_ensure_producer=lambda: producer)))
            record = OutRecord(INTERNAL_PLACE.name, 0, None, bytes(BYTES))
            ends = await asyncio.gather(*(writer.write([record]) for _ in range(WRITES)))
        return [end[INTERNAL_PLACE.name, 0] for end in ends]

    assert sorted(asyncio.run(write_all())) == list(range(WRITES))
