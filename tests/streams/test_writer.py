"""Writing: many who write at a time, acknowledged with exact offsets, in order, and a record that no broker takes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from chronotope.kafka.topics import apply_topics
from chronotope.local.apache_kafka import ApacheKafka
from chronotope.local.embedded import EmbeddedBroker
from schemas.settings import KafkaSettings
from schemas.topics import INTERNAL_PLACE, LATE
from streams.app import writer_config
from streams.engine import writer as writer_module
from streams.engine.writer import BatchWriter, OutRecord
from streams.settings import WorkerSettings


def written(broker: EmbeddedBroker | ApacheKafka, write: Callable[[BatchWriter], Awaitable[Any]]) -> Any:
    """What ``write`` gives with a writer of its own to a broker that has the topics."""
    kafka = KafkaSettings(bootstrap=broker.bootstrap)
    apply_topics(kafka)

    async def run() -> Any:
        writer = BatchWriter(writer_config(WorkerSettings(kafka=kafka)))
        try:
            return await write(writer)
        finally:
            await writer.close()

    return asyncio.run(run())


def place(value: bytes, partition: int = 0) -> OutRecord:
    return OutRecord(INTERNAL_PLACE.name, partition, None, value)


@pytest.mark.integration
def test_many_writes_at_a_time_are_each_acknowledged_with_their_own_last_offset(broker: EmbeddedBroker) -> None:
    async def write(writer: BatchWriter) -> list[Any]:
        return await asyncio.gather(*(writer.write([place(bytes(300_000)), place(b"end")]) for _ in range(100)))

    ends = [end[INTERNAL_PLACE.name, 0] for end in written(broker, write)]
    assert ends == list(range(1, 200, 2))


@pytest.mark.integration
def test_a_write_of_more_than_may_be_under_way_is_written_in_order(
    broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "MOST_BYTES_SENT", 2_000)
    monkeypatch.setattr(writer_module, "BATCH_BYTES", 1_000)

    async def write(writer: BatchWriter) -> Any:
        return await writer.write([place(b"x" * 100, at % 2) for at in range(500)])

    ends = written(broker, write)
    assert ends == {(INTERNAL_PLACE.name, 0): 249, (INTERNAL_PLACE.name, 1): 249}


@pytest.mark.integration
def test_a_record_that_the_brokers_refuse_fails_its_write(broker: EmbeddedBroker) -> None:
    async def write(writer: BatchWriter) -> Any:
        return await writer.write([OutRecord(LATE.name, 99, None, b"no such partition")])

    with pytest.raises(UnknownTopicOrPartitionError):
        written(broker, write)


@pytest.mark.kafka
@pytest.mark.integration
def test_after_a_record_that_cannot_be_written_nothing_is(kafka_broker: ApacheKafka) -> None:
    async def write(writer: BatchWriter) -> list[Any]:
        assert await writer.write([OutRecord(LATE.name, 0, None, b"before it")]) == {(LATE.name, 0): 0}
        too_large = writer.write([OutRecord(LATE.name, 0, None, bytes(2_000_000))])
        after = [writer.write([OutRecord(LATE.name, 0, None, b"behind it")]) for _ in range(3)]
        failed = await asyncio.gather(too_large, *after, return_exceptions=True)
        return [*failed, *await asyncio.gather(writer.write([place(b"elsewhere")]), return_exceptions=True)]

    assert all(isinstance(one, KafkaError) for one in written(kafka_broker, write))


@pytest.mark.kafka
@pytest.mark.integration
def test_a_record_that_cannot_be_written_fails_its_write_though_others_of_its_partition_follow(
    kafka_broker: ApacheKafka,
) -> None:
    async def write(writer: BatchWriter) -> None:
        await writer.write([OutRecord(LATE.name, 0, None, b"before it")])
        records = [OutRecord(LATE.name, 0, None, value) for value in (b"one", bytes(2_000_000), b"another")]
        with pytest.raises(KafkaError):
            await writer.write(records)

    written(kafka_broker, write)


@pytest.mark.integration
def test_whoever_is_to_hear_of_a_topic_is_told_where_its_records_are_once_all_that_was_written_is(
    broker: EmbeddedBroker,
) -> None:
    heard: list[list[tuple[bytes | None, int]]] = []

    async def write(writer: BatchWriter) -> None:
        writer.tell(
            frozenset({INTERNAL_PLACE.name}),
            lambda placed: heard.append([(one.record.value, one.offset) for one in placed]),
        )
        await writer.write([place(b"a"), OutRecord(LATE.name, 0, None, b"untold"), place(b"b"), place(b"c", 1)])
        await writer.write([OutRecord(LATE.name, 0, None, b"untold")])
        later = asyncio.create_task(writer.write([place(b"d")]))
        await asyncio.sleep(0)
        await writer.told(5.0)
        assert len(heard) == 2
        await later

    written(broker, write)
    assert [sorted(one) for one in heard] == [[(b"a", 0), (b"b", 1), (b"c", 0)], [(b"d", 2)]]
