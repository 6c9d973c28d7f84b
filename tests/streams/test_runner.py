"""Batches in hand: absorbed ahead of their writes, durable and acknowledged in order, and not at all after a failure."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from streams.engine.batches import FetchedBatch
from streams.engine.fetching import Round
from streams.engine.statelog import Chunk
from streams.engine.writer import OutRecord
from streams.metrics import WorkerMetrics
from streams.runner import (
    MAX_CHUNK_BYTES_IN_HAND,
    MAX_IN_HAND,
    SkippedRecordsError,
    StageRunner,
    StateMissingError,
    Work,
)


class Log:
    """A writer and a table in one, whose writes wait for ``gate``: what was written, in order."""

    def __init__(self) -> None:
        self.states: dict[int, Any] = {0: SimpleNamespace(absorbed_offset=-1), 1: SimpleNamespace(absorbed_offset=-1)}
        self.gate, self.written = asyncio.Event(), list[Any]()
        self.failing: Any = None
        self.due = set[int]()
        self.owned = set[int]()
        self.released = 0

    def release(self) -> None:
        self.released += 1

    async def write(self, records: Sequence[OutRecord]) -> None:
        await self.gate.wait()
        for record in records:
            self._note(record.value)

    async def append(self, partition: int, chunks: Sequence[Chunk]) -> None:
        await asyncio.sleep(0)
        for chunk in chunks:
            self._note((partition, chunk.previous, chunk.first, chunk.last))

    def _note(self, what: Any) -> None:
        if what == self.failing:
            raise OSError(f"the broker refused {what}")
        self.written.append(what)

    def owns(self, topic: str, partition: int) -> bool:
        return partition in self.owned

    def wants_snapshot(self, partition: int) -> bool:
        return partition in self.due

    def start_snapshot(self, partition: int) -> None:
        self.due.discard(partition)
        self.written.append(("snapshot", self.states[partition].absorbed_offset))


def step(state: Any, records: Sequence[Any]) -> Work:
    state.absorbed_offset = records[-1].offset
    value = b"%d-%d" % (records[0].offset, records[-1].offset)
    return Work(value, [OutRecord("out", 0, None, value)], [], {})


def batch(first: int, last: int, partition: int = 0, read_from: int | None = None) -> FetchedBatch:
    records: list[Any] = [
        SimpleNamespace(topic="events", offset=at, partition=partition, timestamp=0) for at in range(first, last + 1)
    ]
    return FetchedBatch(records, first if read_from is None else read_from)


def scenario(
    play: Callable[[StageRunner, Log, list[Any], list[Any]], Awaitable[None]],
) -> tuple[Log, list[Any], list[Any]]:
    """Let a scenario play with a runner; the log, the acknowledgements and the crashes it leaves."""

    async def run() -> tuple[Log, list[Any], list[Any]]:
        log, acked, crashes = Log(), list[Any](), list[Any]()

        async def crash(error: BaseException) -> None:
            crashes.append(error)

        runner = StageRunner("user", step, log, log, WorkerMetrics(), crash, 1, Round())  # type: ignore[arg-type]
        await play(runner, log, acked, crashes)
        for _ in range(200):
            await asyncio.sleep(0.005)
            if crashes or not runner.in_hand:
                break
        return log, acked, crashes

    return asyncio.run(run())


def test_batches_are_absorbed_while_earlier_ones_are_written_and_acknowledged_in_order() -> None:
    async def play(runner: StageRunner, log: Log, acked: list[Any], _: list[Any]) -> None:
        await runner.take(batch(0, 4), lambda: acked.append(4))
        await runner.take(batch(5, 9), lambda: acked.append(9))
        assert log.states[0].absorbed_offset == 9
        assert (log.written, acked, runner.in_hand) == ([], [], 2)
        log.gate.set()

    log, acked, crashes = scenario(play)
    assert log.written == [b"0-4", b"5-9", (0, -1, 0, 4), (0, 4, 5, 9)]
    assert (acked, crashes) == ([4, 9], [])


def test_a_failed_write_ends_the_worker_and_nothing_after_it_is_remembered_or_acknowledged() -> None:
    async def play(runner: StageRunner, log: Log, acked: list[Any], crashes: list[Any]) -> None:
        log.failing = (0, 4, 5, 9)
        log.gate.set()
        await runner.take(batch(0, 4), lambda: acked.append(4))
        await asyncio.sleep(0.01)
        log.gate.clear()
        for first in (5, 10):
            await runner.take(batch(first, first + 4), lambda last=first + 4: acked.append(last))  # type: ignore[misc]
        log.gate.set()
        await asyncio.sleep(0.01)
        assert [str(error) for error in crashes] == ["the broker refused (0, 4, 5, 9)"]
        with pytest.raises(OSError, match="the broker refused"):
            await runner.take(batch(15, 19), lambda: acked.append(19))

    log, acked, _ = scenario(play)
    assert [one for one in log.written if isinstance(one, tuple)] == [(0, -1, 0, 4)]
    assert acked == [4]


def test_what_comes_of_an_acknowledgement_within_some_turns_of_the_loop_is_there_before_the_next_batch() -> None:
    heard, before = list[str](), list[int]()

    def hear(turns: int) -> None:
        if turns:
            asyncio.get_running_loop().call_soon(hear, turns - 1)
        else:
            heard.append("acknowledged")

    def noting(state: Any, records: Sequence[Any]) -> Work:
        before.append(len(heard))
        if not heard:
            hear(6)
        return step(state, records)

    async def play(runner: StageRunner, log: Log, acked: list[Any], _: list[Any]) -> None:
        log.gate.set()
        runner._step = noting
        await asyncio.gather(*(runner.take(batch(first, first + 4), lambda: acked.append(1)) for first in (0, 5)))

    scenario(play)
    assert before == [0, 1]


def test_no_more_batches_are_taken_than_may_be_in_hand() -> None:
    async def play(runner: StageRunner, log: Log, acked: list[Any], _: list[Any]) -> None:
        for at in range(MAX_IN_HAND - 1):
            await runner.take(batch(at, at), lambda: acked.append("done"))
        last = asyncio.create_task(runner.take(batch(MAX_IN_HAND - 1, MAX_IN_HAND - 1), lambda: acked.append("done")))
        await asyncio.sleep(0.01)
        assert not last.done()
        log.gate.set()
        await last

    _, acked, _ = scenario(play)
    assert len(acked) == MAX_IN_HAND


def test_large_batches_count_by_their_bytes() -> None:
    async def play(runner: StageRunner, log: Log, acked: list[Any], _: list[Any]) -> None:
        runner._step = lambda state, records: msgspec.structs.replace(  # type: ignore[assignment]
            step(state, records), payload=bytes(MAX_CHUNK_BYTES_IN_HAND // 2)
        )
        for at in range(2):
            await runner.take(batch(at, at), lambda: acked.append("done"))
        third = asyncio.create_task(runner.take(batch(2, 2), lambda: acked.append("done")))
        await asyncio.sleep(0.01)
        assert not third.done()
        log.gate.set()
        await third

    _, acked, _ = scenario(play)
    assert len(acked) == 3


def test_there_is_room_again_as_soon_as_the_first_batches_are_durable() -> None:
    async def play(runner: StageRunner, log: Log, acked: list[Any], _: list[Any]) -> None:
        later = asyncio.Event()
        write = log.write

        async def first_alone(records: Sequence[OutRecord]) -> None:
            await write(records)
            if records[0].value != b"0-0":
                await later.wait()

        log.write = first_alone  # type: ignore[method-assign]
        log.gate.set()
        for at in range(MAX_IN_HAND):
            await asyncio.wait_for(runner.take(batch(at, at), lambda: acked.append("done")), 5.0)
        assert acked == ["done"]
        later.set()

    _, acked, _ = scenario(play)
    assert len(acked) == MAX_IN_HAND


def test_a_batch_that_is_delivered_again_is_acknowledged_after_the_copy_in_hand_is_durable() -> None:
    async def play(runner: StageRunner, log: Log, acked: list[Any], _: list[Any]) -> None:
        await runner.take(batch(0, 4), lambda: acked.append("first"))
        await runner.take(batch(0, 4), lambda: acked.append("again"))
        assert acked == []
        log.gate.set()

    log, acked, _ = scenario(play)
    assert log.written == [b"0-4", (0, -1, 0, 4)]
    assert acked == ["first", "again"]


def test_a_batch_whose_partition_is_given_up_is_neither_remembered_nor_acknowledged() -> None:
    async def play(runner: StageRunner, log: Log, acked: list[Any], _: list[Any]) -> None:
        await runner.take(batch(0, 0, partition=1), lambda: acked.append("held up"))
        await runner.take(batch(0, 4), lambda: acked.append("given up"))
        del log.states[0]
        log.gate.set()
        await asyncio.sleep(0.01)
        await runner.take(batch(5, 9), lambda: acked.append("not ours"))

    log, acked, crashes = scenario(play)
    assert log.written == [b"0-0", b"0-4", (1, -1, 0, 0)]
    assert (acked, crashes) == (["held up"], [])


def test_a_snapshot_waits_until_what_the_state_has_absorbed_is_durable() -> None:
    async def play(runner: StageRunner, log: Log, acked: list[Any], _: list[Any]) -> None:
        await runner.take(batch(0, 4), lambda: acked.append(4))
        log.due.add(0)
        waiting = asyncio.create_task(runner.take(batch(5, 9), lambda: acked.append(9)))
        await asyncio.sleep(0.01)
        assert log.states[0].absorbed_offset == 4
        log.gate.set()
        await waiting

    log, acked, _ = scenario(play)
    assert log.written == [b"0-4", (0, -1, 0, 4), ("snapshot", 4), b"5-9", (0, 4, 5, 9)]
    assert acked == [4, 9]


def test_a_batch_that_does_not_follow_what_was_absorbed_is_refused() -> None:
    async def play(runner: StageRunner, log: Log, acked: list[Any], _: list[Any]) -> None:
        log.gate.set()
        await runner.take(batch(0, 4), lambda: acked.append("first"))
        with pytest.raises(SkippedRecordsError, match="read from 7, but absorbed to 4"):
            await runner.take(batch(7, 9), lambda: acked.append("after a hole"))
        assert log.states[0].absorbed_offset == 4

    assert scenario(play)[1] in (["first"], [])


def test_a_hole_of_the_log_itself_is_no_loss() -> None:
    async def play(runner: StageRunner, log: Log, acked: list[Any], _: list[Any]) -> None:
        log.gate.set()
        await runner.take(batch(0, 4), lambda: acked.append("first"))
        await runner.take(batch(7, 9, read_from=5), lambda: acked.append("after transaction markers"))
        assert log.states[0].absorbed_offset == 9

    scenario(play)


def test_a_new_state_begins_where_its_log_begins() -> None:
    async def play(runner: StageRunner, log: Log, acked: list[Any], _: list[Any]) -> None:
        log.gate.set()
        await runner.take(batch(1_000, 1_004), lambda: acked.append("first"))
        assert log.states[0].absorbed_offset == 1_004

    scenario(play)


def test_a_partition_that_is_ours_without_its_state_is_an_error_and_not_a_standstill() -> None:
    async def play(runner: StageRunner, log: Log, acked: list[Any], _: list[Any]) -> None:
        log.gate.set()
        await runner.take(batch(0, 4, partition=7), lambda: acked.append("not ours"))
        log.owned.add(7)
        with pytest.raises(StateMissingError, match="partition 7"):
            await runner.take(batch(0, 4, partition=7), lambda: acked.append("ours"))

    assert scenario(play)[1] == []


def test_agents_compute_one_batch_between_two_turns_of_the_loop() -> None:
    """Whatever else waits for the loop waits for one batch, not for one of each stage."""
    computed, ticks = list[int](), list[int]()

    async def run() -> None:
        one, log = Round(), Log()
        log.gate.set()

        def counting(state: Any, records: Sequence[Any]) -> Work:
            computed.append(len(ticks))
            return step(state, records)

        async def crash(error: BaseException) -> None:
            raise error

        def runner(stage: str) -> StageRunner:
            return StageRunner(stage, counting, log, log, WorkerMetrics(), crash, 1, one)  # type: ignore[arg-type]

        async def tick() -> None:
            while len(computed) < 3:
                ticks.append(0)
                await asyncio.sleep(0)

        stages = ("user", "region", "place")
        taking = [runner(stage).take(batch(at, at), lambda: None) for at, stage in enumerate(stages)]
        await asyncio.gather(tick(), *taking)

    asyncio.run(run())
    assert len(set(computed)) == 3


def test_what_the_batches_of_a_round_write_is_sent_when_none_of_them_waits_any_more() -> None:
    async def play(runner: StageRunner, log: Log, acked: list[Any], _: list[Any]) -> None:
        log.gate.set()
        for _ in range(2):
            runner._round.note_delivered()
        await runner.take(batch(0, 4), lambda: acked.append(4))
        assert log.released == 0
        await runner.take(batch(5, 9), lambda: acked.append(9))
        assert log.released == 1

    assert scenario(play)[1] == [4, 9]


def test_a_batch_is_taken_when_it_is_computed_whatever_became_of_it() -> None:
    async def play(runner: StageRunner, log: Log, acked: list[Any], _: list[Any]) -> None:
        log.owned = {7}
        for _ in range(2):
            runner._round.note_delivered()
        over = asyncio.create_task(runner._round.nearly_over(60.0, 0))
        await runner.take(batch(0, 4), lambda: acked.append(4))
        assert not over.done()
        with pytest.raises(StateMissingError):
            await runner.take(batch(0, 4, partition=7), lambda: None)
        await asyncio.wait_for(over, 1.0)
        log.gate.set()

    scenario(play)
