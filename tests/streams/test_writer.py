"""Writing: many who write at a time, acknowledged with exact offsets, in order, and a record that no broker takes."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from chronotope.kafka.topics import apply_topics
from chronotope.local.apache_kafka import ApacheKafka
from chronotope.local.embedded import EmbeddedBroker
from schemas.settings import KafkaSettings
from schemas.topics import INTERNAL_PLACE, LATE
from streams.app import writer_config
from streams.engine import writer as writer_module
from streams.engine.writer import BatchWriter, OutRecord
from streams.settings import WorkerSettings


def written(broker: EmbeddedBroker | ApacheKafka, write: Callable[[BatchWriter], Awaitable[Any]], **config: Any) -> Any:
    """What ``write`` gives with a writer of its own to a broker that has the topics."""
    kafka = KafkaSettings(bootstrap=broker.bootstrap)
    apply_topics(kafka)
    writer = BatchWriter(writer_config(WorkerSettings(kafka=kafka)) | config)
    try:
        return asyncio.run(write(writer))
    finally:
        writer.close()


def place(value: bytes, partition: int = 0) -> OutRecord:
    return OutRecord(INTERNAL_PLACE.name, partition, None, value)


@pytest.mark.integration
def test_many_writes_at_a_time_are_each_acknowledged_with_their_own_last_offset(broker: EmbeddedBroker) -> None:
    async def write(writer: BatchWriter) -> list[Any]:
        return await asyncio.gather(*(writer.write([place(bytes(300_000)), place(b"end")]) for _ in range(100)))

    ends = [end[INTERNAL_PLACE.name, 0] for end in written(broker, write)]
    assert ends == list(range(1, 200, 2))


@pytest.mark.integration
def test_a_write_waits_for_room_when_the_producer_holds_as_much_as_it_may(broker: EmbeddedBroker) -> None:
    async def write(writer: BatchWriter) -> Any:
        return await writer.write([place(b"x", at % 2) for at in range(500)])

    ends = written(broker, write, **{"queue.buffering.max.messages": 10})
    assert ends == {(INTERNAL_PLACE.name, 0): 249, (INTERNAL_PLACE.name, 1): 249}


@pytest.mark.integration
def test_a_record_that_the_brokers_refuse_fails_its_write(broker: EmbeddedBroker) -> None:
    async def write(writer: BatchWriter) -> Any:
        return await writer.write([OutRecord(LATE.name, 99, None, b"no such partition")])

    with pytest.raises(KafkaException) as failure:
        written(broker, write)
    assert failure.value.args[0].code() == KafkaError._UNKNOWN_PARTITION


@pytest.mark.kafka
@pytest.mark.integration
def test_after_a_record_that_cannot_be_written_nothing_is(kafka_broker: ApacheKafka) -> None:
    async def write(writer: BatchWriter) -> list[Any]:
        assert await writer.write([OutRecord(LATE.name, 0, None, b"before it")]) == {(LATE.name, 0): 0}
        too_large = writer.write([OutRecord(LATE.name, 0, None, bytes(2_000_000))])
        after = [writer.write([OutRecord(LATE.name, 0, None, b"behind it")]) for _ in range(3)]
        failed = await asyncio.gather(too_large, *after, return_exceptions=True)
        return [*failed, *await asyncio.gather(writer.write([place(b"elsewhere")]), return_exceptions=True)]

    assert all(isinstance(one, KafkaException) for one in written(kafka_broker, write))


@pytest.mark.kafka
@pytest.mark.integration
def test_a_record_that_cannot_be_written_fails_its_write_though_others_of_its_partition_follow(
    kafka_broker: ApacheKafka,
) -> None:
    async def write(writer: BatchWriter) -> None:
        await writer.write([OutRecord(LATE.name, 0, None, b"before it")])
        records = [OutRecord(LATE.name, 0, None, value) for value in (b"one", bytes(2_000_000), b"another")]
        with pytest.raises(KafkaException):
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


class Answers:
    """A producer whose brokers say these things, one after the other, when they are asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.callbacks, self.purged = list(answers), list[Any](), False

    def produce(self, *record: Any, **_: Any) -> None:
        self.callbacks.append(record[4])

    def poll(self, _: float) -> int:
        if not self.answers:
            return 0
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        self.callbacks.pop(0)(None, SimpleNamespace(topic=lambda: "t", partition=lambda: 0, offset=lambda: answer))
        return 1

    def purge(self) -> None:
        self.purged = True


def answered(*answers: Any, heard: list[Any] | None = None) -> tuple[Any, Answers]:
    """What becomes of a write of one record, and the producer."""

    async def run() -> tuple[Any, Answers]:
        writer: Any = BatchWriter({})
        writer._producer = producer = Answers(*answers)
        if heard is not None:
            writer.tell(frozenset({"t"}), heard.append)
        (outcome,) = await asyncio.gather(
            asyncio.wait_for(writer.write([OutRecord("t", 0, None, b"")]), 5.0), return_exceptions=True
        )
        return outcome, producer

    return asyncio.run(run())


def test_a_record_that_the_brokers_have_without_saying_where_is_written_and_nobody_is_told_of_it() -> None:
    heard: list[Any] = []
    assert answered(None, heard=heard)[0] == {} and heard == []
    assert answered(7, heard=heard)[0] == {("t", 0): 7} and len(heard) == 1


@pytest.mark.parametrize(
    "error", [KafkaException(KafkaError(KafkaError._FATAL)), RuntimeError("whoever is told failed")]
)
def test_whoever_waits_hears_of_an_error_before_what_comes_after_it(error: Exception) -> None:
    outcome, producer = answered(error, 7)
    assert outcome is error and producer.purged


class Told:
    """A producer that only notes what it is given."""

    def __init__(self) -> None:
        self.given: list[bytes] = []

    def produce(self, topic: str, value: bytes, *_: Any, **__: Any) -> None:
        self.given.append(value)

    def poll(self, _: float) -> int:
        return 0


def gathered(play: Callable[[BatchWriter, Told, Callable[..., None]], Awaitable[None]]) -> None:
    """Let ``play`` begin writes of one record with its third argument, to a writer whose producer only notes them."""

    async def run() -> None:
        writer: Any = BatchWriter({})
        writer._producer = told = Told()
        writes: list[asyncio.Task[Any]] = []

        def write(value: bytes, *, urgent: bool = False) -> None:
            writes.append(asyncio.create_task(writer.write([OutRecord("t", 0, None, value, urgent=urgent)])))

        writer._let_first_arrive = _at_once
        await play(writer, told, write)
        for one in writes:
            one.cancel()
        await asyncio.gather(*writes, return_exceptions=True)

    asyncio.run(run())


async def _at_once(*_: Any) -> None:
    return None


async def _some_turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_writes_are_gathered_until_they_are_released_and_sent_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "GATHER_S", 60.0)

    async def play(writer: BatchWriter, told: Told, write: Callable[..., None]) -> None:
        for value in (b"a", b"b", b"c"):
            write(value)
            await _some_turns()
        assert told.given == []
        writer.release()
        await _some_turns()
        assert told.given == [b"a", b"b", b"c"]
        write(b"d")
        await _some_turns()
        assert told.given == [b"a", b"b", b"c"]
        await writer.told(0.0)
        await _some_turns()
        assert told.given == [b"a", b"b", b"c", b"d"]

    gathered(play)


def test_what_is_urgent_is_not_gathered_and_overtakes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "GATHER_S", 60.0)

    async def play(_: BatchWriter, told: Told, write: Callable[..., None]) -> None:
        write(b"a")
        write(b"cut", urgent=True)
        await _some_turns()
        assert told.given == [b"a", b"cut"]

    gathered(play)


def test_nothing_is_gathered_for_long() -> None:
    async def play(_: BatchWriter, told: Told, write: Callable[..., None]) -> None:
        for value in (b"a", b"b"):
            write(value)
            await asyncio.sleep(10 * writer_module.GATHER_S)
            assert told.given[-1] == value

    gathered(play)


def test_nothing_to_write_asks_no_broker() -> None:
    assert asyncio.run(BatchWriter({"bootstrap.servers": "127.0.0.1:1"}).write([])) == {}
