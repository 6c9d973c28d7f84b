"""The batch consumer's arithmetic: how records are cut into batches, and which offset may be committed."""

import asyncio
from collections import defaultdict, deque
from types import SimpleNamespace
from typing import Any

import pytest
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st
from mode.utils.queues import FlowControlQueue

from streams import app as worker_app
from streams.engine import batches
from streams.engine.batches import FetchedBatch, cut_batches
from streams.engine.consumer_thread import BatchConsumerThread
from streams.engine.fetching import WAITING_AT_NEXT_FETCH, FetchDemand, Round
from streams.engine.handing_over import HandOver
from streams.engine.transport import BatchConsumer, KeepingFlowControl
from streams.settings import WorkerSettings

TP0, ROWS = TP("events", 0), TP("rows", 0)


def committable(ends: list[int], acknowledged: set[int], committed: int | None = None) -> int | None:
    consumer = SimpleNamespace(
        app=SimpleNamespace(batch_topics={"events"}),
        _batch_ends={TP0: deque(ends)},
        _committed_offset={TP0: committed},
        _acked=defaultdict(list, {TP0: sorted(acknowledged)}),
        _acked_index=defaultdict(set, {TP0: set(acknowledged)}),
    )
    return BatchConsumer._new_offset(consumer, TP0)  # type: ignore[arg-type]


def test_nothing_is_committed_past_a_batch_that_is_still_in_hand() -> None:
    assert committable([9, 19, 29], {19, 29}) is None
    assert committable([9, 19, 29], {9, 29}) == 10
    assert committable([9, 19, 29], {9, 19, 29}) == 30


def test_gaps_in_the_offsets_do_not_hold_a_commit_back() -> None:
    assert committable([3, 700, 1_000_000], {3, 700}) == 701


def test_a_batch_that_was_delivered_twice_does_not_hold_commits_back_for_ever() -> None:
    assert committable([9, 19], {19}, committed=10) == 20


def unread(position: int | None, offsets: list[int], sought: dict[TP, int]) -> tuple[list[int], list[int]]:
    """The offsets that are delivered, and those that were sought back to."""
    seeks: list[int] = []
    consumer = SimpleNamespace(
        app=SimpleNamespace(batch_topics={"events"}),
        _read_offset={TP0: position},
        _sought=sought,
        _thread=SimpleNamespace(seek=lambda _, offset: seeks.append(offset)),
    )
    records = [SimpleNamespace(offset=offset) for offset in offsets]
    kept = BatchConsumer._unread(consumer, TP0, records)  # type: ignore[arg-type]
    return [record.offset for record in kept], seeks


def test_records_beyond_the_read_position_are_fetched_again_from_there_once() -> None:
    sought: dict[TP, int] = {}
    assert unread(100, [500, 501], sought) == ([], [100])
    assert unread(100, [500, 501], sought) == ([500, 501], [])
    assert unread(None, [7, 8], {}) == ([], [0])


def test_records_before_the_read_position_are_dropped() -> None:
    assert unread(5, [3, 4, 5, 6], {}) == ([5, 6], [])
    assert unread(None, [0, 1], {}) == ([0, 1], [])


@given(st.lists(st.integers(0, 60), min_size=1, max_size=40), st.integers(1, 7))
def test_batches_hold_all_records_in_order_within_their_bounds(sizes: list[int], most: int) -> None:
    records = [SimpleNamespace(offset=at, value=b"x" * size) for at, size in enumerate(sizes)]
    bound, batches.MAX_BATCH_BYTES = batches.MAX_BATCH_BYTES, 100
    try:
        cut = list(cut_batches(records, most))  # type: ignore[arg-type]
    finally:
        batches.MAX_BATCH_BYTES = bound
    assert [record.offset for batch in cut for record in batch] == list(range(len(sizes)))
    assert all(1 <= len(batch) <= most for batch in cut)
    assert all(len(batch) == 1 or sum(len(record.value) for record in batch) <= 100 for batch in cut)


def test_what_is_delivered_while_the_flow_is_being_resumed_is_kept() -> None:
    flow = KeepingFlowControl()
    queue = FlowControlQueue[int](flow_control=flow, clear_on_resume=True)
    queue.put_nowait(7)
    flow.resume()
    assert flow.is_active() and queue.get_nowait() == 7
    queue.put_nowait(8)
    flow.suspend()
    flow.clear()
    assert queue.empty()


def delivered(rebalancing: bool, fetched: dict[TP, list[int]]) -> list[tuple[TP, list[int], int]]:
    """What the agents get of the records that a fetch brought: their partition, offsets, and where they were read from."""
    got: list[tuple[TP, list[int], int]] = []
    consumer: Any = BatchConsumer.__new__(BatchConsumer)

    async def on_message(message: Any) -> None:
        batch: FetchedBatch = message.value
        got.append((message.tp, [record.offset for record in batch.records], batch.read_from))

    def record(tp: TP, offset: int) -> SimpleNamespace:
        return SimpleNamespace(
            topic=tp.topic, partition=tp.partition, offset=offset, timestamp=0, timestamp_type=0, value=b""
        )

    app = SimpleNamespace(
        batch_topics={"events", "rows"}, inner_topics={"rows"}, rebalancing=rebalancing, max_batch_events=2,
        consumer_generation_id=1, monitor=SimpleNamespace(track_tp_end_offset=lambda *_: None),
    )  # fmt: skip
    vars(consumer).update(
        app=app, callback=on_message, flow_active=True, _batch_ends=defaultdict(deque), _read_offset={TP0: 5, ROWS: 5},
        _sought={TP0: 5, ROWS: 5}, round=Round(), _buffered_partitions=set(), assignment=lambda: {TP0, ROWS},
        highwater=lambda _: 9, suspend_flow=asyncio.Event(), _stopped=asyncio.Event(), _crashed=asyncio.Event(),
    )  # fmt: skip
    records = {tp: [record(tp, offset) for offset in offsets] for tp, offsets in fetched.items()}
    asyncio.run(consumer._deliver_fetched(records, set(fetched)))
    return got


def test_every_batch_says_from_where_it_was_read() -> None:
    assert delivered(False, {TP0: [6, 7, 9]}) == [(TP0, [6, 7], 5), (TP0, [9], 8)]


def fetches_ahead(
    *fetched: dict[TP, int],
    end: int = 0,
    stages: frozenset[str] = frozenset({"events", "rows"}),
    rebalancing: bool = False,
) -> bool:
    """Whether records are fetched ahead after looks that brought so many, from offset 0 on, of partitions up to ``end``."""
    consumer: Any = BatchConsumer.__new__(BatchConsumer)
    app = SimpleNamespace(
        batch_topics=stages, inner_topics=frozenset({"rows"}), max_batch_events=100, rebalancing=rebalancing
    )
    vars(consumer).update(app=app, _thread=SimpleNamespace(demand=FetchDemand()), highwater=lambda _: end)
    for look in fetched:
        consumer._note_backlog(
            {tp: [SimpleNamespace(offset=at) for at in range(records)] for tp, records in look.items()}
        )
    return bool(consumer._thread.demand.ahead)


def test_records_are_fetched_ahead_while_new_events_come_in_large_batches() -> None:
    assert fetches_ahead({})
    assert not fetches_ahead({TP0: 24})
    assert fetches_ahead({TP0: 24}, {TP0: 25})
    assert fetches_ahead({TP0: 100}, {ROWS: 1}) and not fetches_ahead({TP0: 1}, {ROWS: 100})


def test_a_small_fetch_with_many_events_behind_it_is_of_a_backlog_too() -> None:
    assert fetches_ahead({TP0: 1}, end=25) and not fetches_ahead({TP0: 1}, end=24)


def test_to_a_worker_of_inner_stages_alone_their_records_are_what_is_new() -> None:
    assert not fetches_ahead({ROWS: 24}, stages=frozenset({"rows"}))
    assert fetches_ahead({ROWS: 25}, stages=frozenset({"rows"}))


def test_what_comes_during_a_rebalance_says_nothing_about_a_backlog() -> None:
    assert fetches_ahead({TP0: 1}, rebalancing=True)


def test_a_new_assignment_is_fetched_ahead_and_nobody_waits_for_what_was_delivered_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def assigned(*_: Any) -> None:
        return None

    monkeypatch.setattr(driver.Consumer, "on_partitions_assigned", assigned)
    consumer: Any = BatchConsumer.__new__(BatchConsumer)
    demand, one = FetchDemand(), Round()
    demand.ahead = False
    for _ in range(2 * WAITING_AT_NEXT_FETCH):
        one.note_delivered()
    vars(consumer).update(
        _thread=SimpleNamespace(demand=demand, delivered={}), round=one, _batch_ends={TP0: deque([9])}, _sought={TP0: 5},
        _handed=HandOver(),
    )  # fmt: skip

    async def play() -> None:
        await consumer.on_partitions_assigned({TP0}, 2)
        await asyncio.wait_for(one.nearly_over(60.0), 1.0)

    asyncio.run(play())
    assert demand.ahead and not consumer._batch_ends and not consumer._sought


def test_the_next_look_waits_until_the_agents_have_taken_nearly_all_of_the_last_one() -> None:
    consumer: Any = BatchConsumer.__new__(BatchConsumer)
    looks: list[int] = []
    stopped = asyncio.Event()

    async def look(timeout: float) -> Any:
        looks.append(len(looks))
        if len(looks) > 1:
            stopped.set()
        return {TP0: [SimpleNamespace(offset=0)]}, {TP0}

    async def deliver(*_: Any) -> None:
        for _ in range(2 * WAITING_AT_NEXT_FETCH):
            consumer.round.note_delivered()

    async def first(delivery: Any, suspension: Any) -> None:
        suspension.close()
        await delivery

    demand = FetchDemand()  # ahead: a long round, so that the time limit is not what ends it
    vars(consumer).update(
        round=Round(), _thread=SimpleNamespace(demand=demand), flow_active=True, suspend_flow=asyncio.Event(),
        _wait_next_records=look, _deliver_all=deliver, _note_backlog=lambda _: None, wait_first=first,
        _stopped=stopped, consumer_stopped_errors=(), app=SimpleNamespace(should_stop=True),
    )  # fmt: skip

    async def play() -> None:
        draining = asyncio.create_task(consumer._drain_messages(SimpleNamespace(_stopped=asyncio.Event())))
        for _ in range(20):
            await asyncio.sleep(0)
        assert looks == [0]
        for _ in range(WAITING_AT_NEXT_FETCH):
            consumer.round.note_taken()
        for _ in range(20):
            await asyncio.sleep(0)
        assert looks == [0, 1]
        draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)

    asyncio.run(play())


@pytest.mark.parametrize(("partitions", "most"), [(1, 8), (4, 12), (8, 20), (64, 20)])
def test_one_round_does_not_pause_fetching_and_many_partitions_do_not_make_the_queue_longer(
    partitions: int, most: int
) -> None:
    size = worker_app._faust_settings(WorkerSettings(), partitions)["stream_buffer_maxsize"]
    queue = FlowControlQueue[int](maxsize=size, flow_control=KeepingFlowControl())
    assert queue.pressure_high_size > min(partitions, worker_app.ROUND_PARTITIONS) and size <= most


def test_new_events_are_delivered_before_what_came_of_earlier_ones() -> None:
    assert [tp for tp, _, _ in delivered(False, {ROWS: [5], TP0: [5]})] == [TP0, ROWS]


def test_nothing_is_delivered_before_a_rebalance_has_ended() -> None:
    assert delivered(True, {TP0: [5, 6]}) == []


def test_the_group_is_joined_only_when_the_brokers_tell_of_every_topic() -> None:
    answers = iter([{"events"}, {"events"}, {"events", "changelog"}])

    async def topics() -> set[str]:
        return next(answers)

    thread = SimpleNamespace(_ensure_consumer=lambda: SimpleNamespace(topics=topics))
    asyncio.run(BatchConsumerThread._await_topics(thread, {"events", "changelog"}))  # type: ignore[arg-type]
    assert next(answers, None) is None
