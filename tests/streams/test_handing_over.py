"""The short way between stages of one worker: what it wrote itself is delivered without being fetched, once and in order."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from schemas.topics import INTERNAL_REGION
from streams.engine.batches import FetchedBatch
from streams.engine.fetching import FetchDemand, Round
from streams.engine.handing_over import MAX_HELD_BYTES, HandOver, skip
from streams.engine.transport import BatchConsumer
from streams.engine.writer import OutRecord, Placed
from streams.records import internal_records
from streams.stages.columns import InternalBatch
from streams.stages.crossing import Cut, Message, RegionReport
from streams.stages.crowd_parts import NO_PARTS
from streams.stages.output import Routed

ROWS = TP("rows", 0)


def placed(*offsets: int, tp: TP = ROWS, urgent: bool = False, size: int = 1) -> list[Placed]:
    return [Placed(OutRecord(tp.topic, tp.partition, None, bytes(size), urgent=urgent), offset) for offset in offsets]


def taken(handed: HandOver, position: int) -> list[int]:
    return [record.offset for record in handed.take(ROWS, position)]


def test_what_follows_the_position_is_taken_up_to_the_first_gap_and_the_rest_when_it_is_closed() -> None:
    handed = HandOver()
    handed.hold(placed(5, 6, 8), {ROWS})
    assert (taken(handed, 5), taken(handed, 7), taken(handed, 8)) == ([5, 6], [], [8])
    assert handed.partitions() == []


def test_what_lies_before_the_position_is_forgotten() -> None:
    handed = HandOver()
    handed.hold(placed(3, 4, 5), {ROWS})
    assert (taken(handed, 5), taken(handed, 3)) == ([5], [])


def test_partitions_of_other_workers_are_not_held() -> None:
    handed = HandOver()
    assert handed.hold(placed(0, tp=TP("rows", 1), urgent=True), {ROWS}) == set()
    assert handed.partitions() == []


def test_of_a_partition_that_waits_too_long_nothing_is_held() -> None:
    handed = HandOver()
    handed.hold(placed(0, 1, size=MAX_HELD_BYTES // 2), {ROWS})
    assert taken(handed, 7) == []
    handed.hold(placed(7, 8, 9, size=MAX_HELD_BYTES // 2), {ROWS})
    assert taken(handed, 7) == []


def test_a_record_that_is_handed_over_is_as_it_would_be_fetched() -> None:
    handed = HandOver()
    handed.hold([Placed(OutRecord("rows", 0, b"key", b"value", timestamp_ms=12), 5)], {ROWS})
    (record,) = handed.take(ROWS, 5)
    assert (record.topic, record.partition, record.offset, record.timestamp) == ("rows", 0, 5, 12)
    assert (record.key, record.value, record.headers) == (b"key", b"value", ())


def test_only_a_telling_is_urgent() -> None:
    batch = InternalBatch(0, 0, True, b"", b"")
    cuts = [Cut(1, [], 0, tell, False) for tell in (False, True)]
    report = RegionReport(0, 0, None, NO_PARTS, None, cut=cuts[1])
    messages: list[Message] = [batch, *cuts, report]
    records = internal_records(Routed(INTERNAL_REGION, 0, message) for message in messages)
    assert [record.urgent for record in records] == [False, False, True, True]


class Fetcher:
    """As much of aiokafka's as skipping uses: partitions with their positions, None before the first."""

    def __init__(self, positions: dict[TP, int | None]) -> None:
        self.sought: dict[TP, int] = {}
        states = {tp: SimpleNamespace(has_valid_position=at is not None, position=at) for tp, at in positions.items()}
        subscription = SimpleNamespace(assignment=SimpleNamespace(state_value=states.__getitem__))
        self._subscriptions = SimpleNamespace(subscription=subscription, is_assigned=states.__contains__)

    def seek_to(self, tp: TP, offset: int) -> None:
        self.sought[tp] = offset


def test_the_fetcher_goes_on_behind_what_was_delivered_and_never_back() -> None:
    others = [TP("rows", at) for at in (1, 2, 3)]
    fetcher = Fetcher({ROWS: 5, others[0]: 9, others[1]: None})
    delivered = dict.fromkeys([ROWS, *others], 8)
    skip(fetcher, delivered)
    assert (fetcher.sought, delivered) == ({ROWS: 8}, {})


class Delivering:
    """A consumer at offset 5 of a partition, what its agents got, and what its fetcher is told to pass over."""

    def __init__(self, *, ahead: bool = False, rebalancing: bool = False, active: bool = True) -> None:
        self.got: list[tuple[list[int], int]] = []
        self.ends: dict[TP, int] = {}
        self.consumer: Any = BatchConsumer.__new__(BatchConsumer)
        demand = FetchDemand()
        demand.ahead = ahead
        app = SimpleNamespace(
            batch_topics={"rows"}, inner_topics={"rows"}, rebalancing=rebalancing, max_batch_events=10,
            consumer_generation_id=1, monitor=SimpleNamespace(track_tp_end_offset=self.ends.__setitem__),
            writer=SimpleNamespace(told=self._told),
        )  # fmt: skip
        vars(self.consumer).update(
            app=app, callback=self._on_message, flow_active=True, _batch_ends=defaultdict(deque),
            _read_offset=defaultdict(lambda: None, {ROWS: 5}), _sought={ROWS: 5}, round=Round(),
            _buffered_partitions=set(), assignment=lambda: {ROWS}, highwater=lambda _: 6,
            _get_active_partitions=lambda: {ROWS} if active else set(), _handed=HandOver(), _handing=None,
            _delivering=asyncio.Lock(), _thread=SimpleNamespace(demand=demand, delivered={}),
            suspend_flow=asyncio.Event(), _stopped=asyncio.Event(), _crashed=asyncio.Event(),
            add_future=asyncio.ensure_future, wait_first=self._first,
        )  # fmt: skip

    async def _on_message(self, message: Any) -> None:
        batch: FetchedBatch = message.value
        self.got.append(([record.offset for record in batch.records], batch.read_from))

    async def _told(self, at_most_s: float) -> None:
        return None

    async def _first(self, delivery: Any, suspension: Any) -> None:
        suspension.close()
        await delivery

    async def fetched(self, *offsets: int) -> None:
        records = [
            SimpleNamespace(topic="rows", partition=0, offset=at, timestamp=0, timestamp_type=0, value=b"")
            for at in offsets
        ]
        await self.consumer._deliver_all({ROWS: records}, {ROWS})


async def a_few_turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def after(*steps: Sequence[Placed] | list[int], **how: bool) -> Delivering:
    """A consumer to which records were handed over (placed ones) and delivered by a fetch (offsets), step by step."""
    one = Delivering(**how)

    async def play() -> None:
        for step in steps:
            if step and isinstance(step[0], Placed):
                one.consumer._hand_over(step)
            else:
                await one.fetched(*step)  # type: ignore[arg-type]
            await a_few_turns()

    asyncio.run(play())
    return one


def test_what_follows_is_delivered_without_a_fetch_and_passed_over_by_the_next_one() -> None:
    one = after(placed(5, 6))
    assert one.got == [([5, 6], 5)]
    assert one.consumer._thread.delivered == {ROWS: 7}


def test_the_watchdog_knows_of_what_was_handed_over_though_no_fetch_told_of_it() -> None:
    assert after(placed(5, 6)).ends == {ROWS: 7}


def test_what_is_fetched_all_the_same_is_not_delivered_again() -> None:
    assert after(placed(5, 6), [5, 6, 7]).got == [([5, 6], 5), ([7], 7)]


def test_what_another_worker_wrote_before_it_is_fetched_first() -> None:
    one = after(placed(7), [5, 6])
    assert one.got == [([5, 6], 5), ([7], 7)]


@pytest.mark.parametrize("how", [{"ahead": True}, {"rebalancing": True}, {"active": False}])
def test_behind_a_backlog_during_a_rebalance_and_to_a_full_queue_nothing_is_handed_over(how: dict[str, bool]) -> None:
    assert after(placed(5, 6), **how).got == []


def test_rows_wait_until_the_round_is_over_and_a_telling_does_not() -> None:
    one = Delivering()

    async def play() -> None:
        one.consumer.round.note_delivered()
        one.consumer._hand_over(placed(5))
        await a_few_turns()
        assert one.got == []
        one.consumer.round.note_taken()
        await a_few_turns()
        assert one.got == [([5], 5)]
        one.consumer.round.note_delivered()
        one.consumer._hand_over(placed(6, urgent=True))
        await a_few_turns()
        assert one.got == [([5], 5), ([6], 6)]

    asyncio.run(play())


def test_a_round_is_over_when_it_is_computed_and_acknowledged_and_what_came_of_it_is_delivered() -> None:
    one, acknowledged = Delivering(), asyncio.Event()

    async def told(at_most_s: float) -> None:
        await acknowledged.wait()

    async def play() -> None:
        one.consumer.app.writer.told = told
        one.consumer.round.note_delivered()
        over = asyncio.create_task(one.consumer._see_round_through())
        await a_few_turns()
        one.consumer.round.note_taken()
        one.consumer._handed.hold(placed(5, 6), {ROWS})
        await a_few_turns()
        assert (one.got, over.done()) == ([], False)
        acknowledged.set()
        await asyncio.wait_for(over, 1.0)

    asyncio.run(play())
    assert one.got == [([5, 6], 5)]


def test_what_was_handed_over_before_a_rebalance_is_not_delivered_after_it() -> None:
    one = Delivering()
    one.consumer._handed.hold(placed(5), {ROWS})
    one.consumer._thread.delivered[ROWS] = 5
    one.consumer._forget_delivered()
    asyncio.run(one.consumer._deliver_apart(one.consumer._handed.partitions()))
    assert (one.got, one.consumer._thread.delivered) == ([], {})
