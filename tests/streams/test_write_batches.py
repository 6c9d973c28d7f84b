"""What goes into which batch, when, and who hears of it, with a producer that only notes what it is given."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError

from streams.engine import writer as writer_module
from streams.engine.writer import BatchWriter, Delivery, OutRecord, next_batch


class Batch:
    """What is to be written to a partition: it takes so many records."""

    def __init__(self, room: int) -> None:
        self.room, self.values = room, list[bytes]()

    def append(self, *, value: bytes, **_: Any) -> object | None:
        if self.values and len(self.values) >= self.room:
            return None
        self.values.append(value)
        return self

    def size(self) -> int:
        return sum(map(len, self.values))


class Told:
    """A producer that notes what it is given, and gives for each batch what the brokers say of it: nothing yet."""

    def __init__(self, room: int = 1_000) -> None:
        self.room, self.given = room, list[list[bytes]]()
        self.answers: list[asyncio.Future[Any]] = []

    def create_batch(self) -> Batch:
        return Batch(self.room)

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Future[Any]:
        self.given.append(batch.values)
        self.answers.append(asyncio.get_running_loop().create_future())
        return self.answers[-1]

    def answer(self, at: int, said: int | Exception) -> None:
        """The brokers have the batch at this offset, or refuse it."""
        if isinstance(said, Exception):
            self.answers[at].set_exception(said)
        else:
            self.answers[at].set_result(SimpleNamespace(offset=said))


Writes = list["asyncio.Task[Any]"]


def played(
    play: Callable[[BatchWriter, Told, Callable[..., None], Writes], Awaitable[None]], room: int = 1_000
) -> None:
    """Let ``play`` begin writes of one record each, to a writer whose producer only notes them."""

    async def run() -> None:
        writer = BatchWriter({})
        writer._producer = told = Told(room)
        writes: Writes = []

        def write(value: bytes, *, urgent: bool = False, partition: int = 0) -> None:
            record = OutRecord("t", partition, None, value, urgent=urgent)
            writes.append(asyncio.create_task(writer.write([record])))

        await play(writer, told, write, writes)
        for one in writes:
            one.cancel()
        await asyncio.gather(*writes, return_exceptions=True)

    asyncio.run(run())


async def _some_turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_writes_are_gathered_until_they_are_released_and_share_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "GATHER_S", 60.0)

    async def play(writer: BatchWriter, told: Told, write: Callable[..., None], _: Writes) -> None:
        for value in (b"a", b"b", b"c"):
            write(value)
            await _some_turns()
        assert told.given == []
        writer.release()
        await _some_turns()
        assert told.given == [[b"a", b"b", b"c"]]
        told.answer(0, 0)
        write(b"d")
        await _some_turns()
        assert told.given == [[b"a", b"b", b"c"]]
        await writer.told(0.0)
        await _some_turns()
        assert told.given == [[b"a", b"b", b"c"], [b"d"]]

    played(play)


def test_each_write_that_shares_a_batch_hears_of_its_own_offset() -> None:
    async def play(writer: BatchWriter, told: Told, write: Callable[..., None], writes: Writes) -> None:
        for value in (b"a", b"b", b"c"):
            write(value)
        await _some_turns()
        writer.release()
        await _some_turns()
        told.answer(0, 10)
        await _some_turns()
        told.answer(1, 12)
        assert await asyncio.gather(*writes) == [{("t", 0): 10}, {("t", 0): 11}, {("t", 0): 12}]

    played(play, room=2)


def test_of_a_partition_one_batch_at_a_time_is_on_its_way_and_what_comes_meanwhile_makes_the_next() -> None:
    async def play(_: BatchWriter, told: Told, write: Callable[..., None], __: Writes) -> None:
        for value in (b"a", b"b", b"c"):
            write(value, urgent=True)
            await _some_turns()
        assert told.given == [[b"a"]]
        told.answer(0, 0)
        await _some_turns()
        assert told.given == [[b"a"], [b"b", b"c"]]

    played(play)


def test_a_large_write_does_not_hold_up_those_to_other_partitions() -> None:
    async def play(writer: BatchWriter, told: Told, write: Callable[..., None], _: Writes) -> None:
        large = asyncio.create_task(writer.write([OutRecord("t", 0, None, b"large", urgent=True)] * 5))
        await _some_turns()
        write(b"small", urgent=True, partition=1)
        await _some_turns()
        assert told.given == [[b"large"] * 2, [b"small"]]
        for at, offset in ((0, 0), (2, 2), (3, 4)):
            told.answer(at, offset)
            await _some_turns()
        assert told.given == [[b"large"] * 2, [b"small"], [b"large"] * 2, [b"large"]]
        assert await large == {("t", 0): 4}

    played(play, room=2)


def test_what_is_urgent_is_not_gathered_and_overtakes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "GATHER_S", 60.0)

    async def play(_: BatchWriter, told: Told, write: Callable[..., None], __: Writes) -> None:
        write(b"a")
        write(b"cut", urgent=True)
        await _some_turns()
        assert told.given == [[b"a", b"cut"]]

    played(play)


def test_nothing_is_gathered_for_long() -> None:
    async def play(_: BatchWriter, told: Told, write: Callable[..., None], __: Writes) -> None:
        for at, value in enumerate((b"a", b"b")):
            write(value)
            await asyncio.sleep(10 * writer_module.GATHER_S)
            assert told.given[-1] == [value]
            told.answer(at, at)

    played(play)


def test_a_batch_waits_while_too_many_bytes_are_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "MOST_BYTES_SENT", 5)

    async def play(_: BatchWriter, told: Told, write: Callable[..., None], __: Writes) -> None:
        for partition, value in enumerate((b"123456", b"7")):
            write(value, urgent=True, partition=partition)
        await _some_turns()
        assert told.given == [[b"123456"]]
        told.answer(0, 0)
        await _some_turns()
        assert told.given == [[b"123456"], [b"7"]]

    played(play)


def test_a_record_that_the_brokers_have_without_saying_where_is_written_and_nobody_is_told_of_it() -> None:
    heard: list[Any] = []

    async def play(writer: BatchWriter, told: Told, write: Callable[..., None], writes: Writes) -> None:
        writer.tell(frozenset({"t"}), heard.append)
        write(b"a", urgent=True)
        await _some_turns()
        told.answer(0, -1)
        assert await writes[0] == {} and heard == []
        write(b"b", urgent=True)
        await _some_turns()
        told.answer(1, 7)
        assert await writes[1] == {("t", 0): 7} and [one.offset for one in heard[0]] == [7]

    played(play)


def test_after_a_failure_whoever_waits_hears_of_it_and_nothing_is_written_any_more() -> None:
    error = MessageSizeTooLargeError("refused")

    async def play(_: BatchWriter, told: Told, write: Callable[..., None], writes: Writes) -> None:
        for partition, value in enumerate((b"a", b"b")):
            write(value, urgent=True, partition=partition)
        await _some_turns()
        write(b"behind it", urgent=True)
        await _some_turns()
        told.answer(0, error)
        await _some_turns()
        write(b"later", urgent=True)
        assert await asyncio.gather(*writes, return_exceptions=True) == [error] * 4
        assert told.given == [[b"a"], [b"b"]]

    played(play)


def test_a_failure_of_whoever_is_told_is_a_failure_of_the_writer() -> None:
    async def play(writer: BatchWriter, told: Told, write: Callable[..., None], writes: Writes) -> None:
        def refuse(_: Any) -> None:
            raise RuntimeError("whoever is told failed")

        writer.tell(frozenset({"t"}), refuse)
        write(b"a", urgent=True)
        await _some_turns()
        told.answer(0, 0)
        await asyncio.wait(writes)
        write(b"b")
        with pytest.raises(RuntimeError, match="whoever is told failed"):
            await writes[1]

    played(play)


def test_brokers_that_are_not_there_yet_are_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(Told):
        tries, ended = 0, 0

        def __init__(self, **_: Any) -> None:
            super().__init__()

        async def start(self) -> None:
            Late.tries += 1
            if Late.tries < 3:
                raise KafkaConnectionError("nobody there")

        async def stop(self) -> None:
            Late.ended += 1

    monkeypatch.setattr(writer_module, "AIOKafkaProducer", Late)
    monkeypatch.setattr(writer_module, "RECONNECT_AFTER_S", 0.0)

    async def run() -> dict[Any, int]:
        writer: Any = BatchWriter({})
        writing = asyncio.create_task(writer.write([OutRecord("t", 0, None, b"a", urgent=True)]))
        for _ in range(4):
            await _some_turns()
        writer._producer.answer(0, 5)
        return await writing

    assert asyncio.run(run()) == {("t", 0): 5}
    assert (Late.tries, Late.ended) == (3, 2)


def test_nothing_to_write_asks_no_broker() -> None:
    assert asyncio.run(BatchWriter({"bootstrap_servers": "127.0.0.1:1"}).write([])) == {}


def test_a_batch_holds_what_it_takes_and_a_record_that_no_other_fits_with_is_alone() -> None:
    values = [b"a", b"bb", b"cccccccc", b"d"]

    class Sized(Batch):
        def append(self, *, value: bytes, **_: Any) -> object | None:
            if self.values and self.size() + len(value) > self.room:
                return None
            self.values.append(value)
            return self

    async def run() -> list[tuple[list[bytes], list[list[bytes | None]]]]:
        deliveries = [Delivery([OutRecord("t", 0, None, value)], frozenset(), lambda _: None) for value in values]
        queue = deque((delivery, delivery.records[0]) for delivery in deliveries)
        found = []
        while queue:
            batch, held = next_batch(Sized(4), queue)
            found.append((batch.values, [[one.value for one in part] for _, part in held]))
        return found

    assert asyncio.run(run()) == [
        ([b"a", b"bb"], [[b"a"], [b"bb"]]),
        ([b"cccccccc"], [[b"cccccccc"]]),
        ([b"d"], [[b"d"]]),
    ]
