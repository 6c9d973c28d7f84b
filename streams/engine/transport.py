"""A Faust transport that hands an agent one message per fetched partition batch, and commits by batch ends.

Stock Faust passes records one by one through several asyncio tasks (3,000 to 6,000 events/s). Here the message's value is
a batch of fetched records, so everything else of Faust stays: assignor, agents, acks, commits, tables and recovery.
``tests/streams/test_faust_contract.py`` holds the contract of every private method that is overridden.
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import faust
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage
from mode.utils.objects import cached_property
from mode.utils.queues import FlowControlEvent

from streams.engine.batches import FetchedBatch, cut_batches
from streams.engine.consumer_thread import BatchConsumerThread
from streams.engine.fetched_records import FetchedRecord
from streams.engine.fetching import LONG_ROUND_S, SHORT_ROUND_S, Round
from streams.engine.handing_over import HandOver
from streams.engine.writer import BatchWriter, Placed

PAUSE_S = 0.05
# How long a round waits for the brokers: what they have not taken by then is delivered in the next one.
ACKNOWLEDGED_WITHIN_S = 0.02
# New events fetched or waiting, as a share of a full batch, from which on records are fetched ahead.
BACKLOG_SHARE = 0.25


class KeepingFlowControl(FlowControlEvent):
    """A flow control that keeps what was delivered while the flow was being resumed.

    Faust resumes partitions and seeks before it resumes the flow, and stock ``resume`` empties the agents' queues: a batch that
    came between is lost. What is stale was emptied when the flow was suspended.
    """

    def resume(self) -> None:
        """Let the queues be filled again."""
        self._suspend.clear()
        self._resume.set()


class BatchSchema(faust.Schema):
    """Passes keys and values through untouched: the value is one FetchedBatch."""

    def compile(self, app: Any, *, default_propagate: bool = False, **_: Any) -> Any:
        """The decode function that Faust calls per message; it only wraps the message in an event."""
        create_event = app.create_event

        async def decode(message: Any, *, propagate: bool = default_propagate) -> Any:
            return create_event(message.key, message.value, None, message)

        return decode


class BatchConsumer(driver.Consumer):
    """Delivers batches of the topics named in ``app.batch_topics``; all other topics as stock Faust does."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._batch_ends: defaultdict[TP, deque[int]] = defaultdict(deque)
        self._sought: dict[TP, int] = {}
        self.round = self.app.round
        self._delivering = asyncio.Lock()
        self._handed = HandOver()
        self._handing: asyncio.Future[None] | None = None
        self.app.writer.tell(self.app.inner_topics, self._hand_over)

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def _new_offset(self, tp: TP) -> int | None:
        """The offset after the last batch such that it and all batches before it are acknowledged."""
        if tp.topic not in self.app.batch_topics:
            return super()._new_offset(tp)
        acked, ends, last = self._acked_index[tp], self._batch_ends[tp], None
        committed = self._committed_offset[tp] or 0
        # An end below the commit was delivered twice: it is not acknowledged again.
        while ends and (ends[0] in acked or ends[0] < committed):
            last = ends.popleft()
            acked.discard(last)
        if last is None:
            return None
        self._acked[tp][:] = [offset for offset in self._acked[tp] if offset > last]
        return last + 1

    async def progress(self) -> dict[TP, tuple[int, int]]:
        """The committed offset and the end of every partition of the batch topics that we own, whether it is fetched or not."""
        owned = [tp for tp in self.assignment() if tp.topic in self.app.batch_topics]
        ends = await self._thread.reported_ends(owned) if owned else {}
        return {tp: (self._committed_offset[tp] or 0, max(end, self.highwater(tp) or 0)) for tp, end in ends.items()}

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Forget the delivery order of what was fetched: a later owner, us included, fetches from the commit again."""
        await super().on_partitions_revoked(revoked)
        self._forget_delivered()
        for tp in revoked:
            self._batch_ends.pop(tp, None)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Start from the committed offsets with an empty delivery order; what is to be recovered comes as fast as it can."""
        self._thread.demand.ahead = True
        self._forget_delivered()
        self._batch_ends.clear()
        self._sought.clear()
        await super().on_partitions_assigned(assigned, generation_id)

    def _forget_delivered(self) -> None:
        """Nobody takes what was delivered; what was handed over is fetched again from the commit."""
        self.round.forget()
        self._handed.forget()
        self._thread.delivered.clear()

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Mapping[TP, list[FetchedRecord]]:
        """What is fetched; behind a backlog that of the internal topics first: work that is half done comes before new work.

        Nothing of the batch topics before a rebalance has ended: until then neither states nor read positions are final.
        """
        if self.app.rebalancing and active_partitions is not None:
            active_partitions = {tp for tp in active_partitions if tp.topic not in self.app.batch_topics}
            if not active_partitions:  # an empty set would fetch of all
                await self.sleep(PAUSE_S)
                return {}
        inner = {tp for tp in active_partitions or () if tp.topic in self.app.inner_topics}
        if inner and self._thread.demand.ahead:
            records = await super()._getmany(inner, 0.0)
            if records:
                return records
        return await super()._getmany(active_partitions, timeout)

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                await asyncio.sleep(0)
                self.round.note_asking(time.monotonic())
                records, active = await self._wait_next_records(1.0)
                if records:
                    self.round.note_fetched()
                if records and not self.flow_active:
                    await self.perform_seek()
                elif records:
                    self._note_backlog(records)
                    await self.wait_first(self._deliver_all(records, active), self.suspend_flow.wait())
                    await self._see_round_through()
        except (*self.consumer_stopped_errors, asyncio.CancelledError):
            if not self.app.should_stop:
                raise

    async def _see_round_through(self) -> None:
        """Wait until the agents have taken nearly all of what was fetched, and of what they have made of it.

        Behind a backlog too: a partition that is paused since its queue is full may be seen again a second later.
        """
        if self._thread.demand.ahead:
            await self.round.nearly_over(LONG_ROUND_S)
            return
        await self._hand_on()
        await self.round.nearly_over(SHORT_ROUND_S)

    def _note_backlog(self, fetched: Mapping[TP, list[FetchedRecord]]) -> None:
        """Fetch ahead if many new events were fetched or lie behind those; what comes of them says nothing about it."""
        new = {tp: records for tp, records in fetched.items() if tp.topic in self._new_topics()}
        if new and not self.app.rebalancing:
            behind = sum(max(0, (self.highwater(tp) or 0) - records[-1].offset - 1) for tp, records in new.items())
            events = behind + sum(map(len, new.values()))
            self._thread.demand.ahead = events >= self.app.max_batch_events * BACKLOG_SHARE

    def _new_topics(self) -> frozenset[str]:
        """The topics of new events; to a worker of inner stages alone theirs are."""
        return self.app.batch_topics - self.app.inner_topics or self.app.inner_topics

    async def _deliver_all(self, fetched: Mapping[TP, list[FetchedRecord]], active: set[TP] | None) -> None:
        async with self._delivering:
            await self._deliver_fetched(fetched, active)
            await self._deliver_handed(self._handed.partitions())

    # -- the short way

    def _hand_over(self, placed: Sequence[Placed]) -> None:
        """Deliver what we have written ourselves: a telling's cuts and reports at once, the rest when no batch waits any more.

        What is written behind a backlog is fetched: nothing is fresh there, and it is fetched in larger pieces.
        """
        if self._thread.demand.ahead or self.app.rebalancing or self.should_stop:
            return
        urgent = self._handed.hold(placed, self.assignment())
        if urgent:
            self.add_future(self._deliver_apart(urgent))
        if self._handing is None or self._handing.done():
            self._handing = self.add_future(self._hand_on())

    async def _hand_on(self) -> None:
        await self.round.nearly_over(SHORT_ROUND_S, 0)
        await self.app.writer.told(ACKNOWLEDGED_WITHIN_S)
        await self._deliver_apart(self._handed.partitions())

    async def _deliver_apart(self, partitions: Collection[TP]) -> None:
        async def deliver() -> None:
            async with self._delivering:
                await self._deliver_handed(partitions)

        await self.wait_first(deliver(), self.suspend_flow.wait())

    async def _deliver_handed(self, partitions: Collection[TP]) -> None:
        for tp in partitions:
            if not self.flow_active or self.should_stop or self.app.rebalancing:
                return
            if tp not in self._get_active_partitions():
                continue
            records = self._handed.take(tp, self._read_offset[tp] or 0)
            if records:
                self.app.monitor.track_tp_end_offset(tp, max(self.highwater(tp) or 0, records[-1].offset + 1))
                await self._deliver(tp, records)
                self._thread.delivered[tp] = records[-1].offset + 1

    async def _deliver_fetched(self, fetched: Mapping[TP, list[FetchedRecord]], active: set[TP] | None) -> None:
        """Hand the agents what was fetched, new events first: what comes of them is there when the round is over."""
        generation = self.app.consumer_generation_id
        new, inner = self._new_topics(), self.app.inner_topics
        order = sorted(fetched.items(), key=lambda one: 0 if one[0].topic in new else 1 if one[0].topic in inner else 2)
        for tp, records in order:
            if not self.flow_active or self.should_stop or self.app.consumer_generation_id != generation:
                return
            early = self.app.rebalancing and tp.topic in self.app.batch_topics
            given_up = tp not in self.assignment()
            if early or given_up or (active is not None and tp not in active and tp not in self._buffered_partitions):
                continue
            wanted = self._unread(tp, records)
            if not wanted:
                continue
            self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
            await self._deliver(tp, wanted)

    def _unread(self, tp: TP, records: list[FetchedRecord]) -> list[FetchedRecord]:
        """The records from the read position on. Nothing if the first one lies beyond it: the position was moved back while
        they were fetched, so they are fetched again from there. A gap that is still there then is the log's own.
        """
        position, first = self._read_offset[tp] or 0, records[0].offset
        if first > position and tp.topic in self.app.batch_topics and self._sought.get(tp) != position:
            self._sought[tp] = position
            self._thread.seek(tp, position)
            return []
        return records if first >= position else [record for record in records if record.offset >= position]

    async def _deliver(self, tp: TP, records: list[FetchedRecord]) -> None:
        if tp.topic not in self.app.batch_topics:
            for record in records:
                await self.callback(self._to_message(tp, record))
                self._read_offset[tp] = record.offset
            return
        for batch in cut_batches(records, self.app.max_batch_events):
            end, ends, read_from = batch[-1].offset, self._batch_ends[tp], self._read_offset[tp] or 0
            while ends and ends[-1] >= batch[0].offset:  # delivered again after a seek: the first copy may be gone
                ends.pop()
            ends.append(end)
            self.round.note_delivered()
            await self.callback(self._batch_message(tp, FetchedBatch(batch, read_from)))
            self._read_offset[tp] = end + 1

    def _batch_message(self, tp: TP, batch: FetchedBatch) -> ConsumerMessage:
        last = batch.records[-1]
        return ConsumerMessage(
            last.topic, last.partition, last.offset, last.timestamp / 1000.0, last.timestamp_type, (), None, batch,
            None, None, None, tp, generation_id=self.app.consumer_generation_id,
        )  # fmt: skip


class BatchTransport(driver.Transport):
    """The aiokafka transport with the batch consumer."""

    Consumer = BatchConsumer


class BatchApp(faust.App):
    """A Faust app whose consumer hands the topics in ``batch_topics`` to agents in batches of ``max_batch_events``.

    ``inner_topics`` are those of them that the app itself writes, through ``writer``; behind a backlog they are fetched first.
    """

    def __init__(
        self, *args: Any, batch_topics: Sequence[str], inner_topics: Sequence[str], max_batch_events: int,
        writer: BatchWriter, **kwargs: Any,
    ) -> None:  # fmt: skip
        self.batch_topics = frozenset(batch_topics)
        self.inner_topics = frozenset(inner_topics)
        self.max_batch_events = max_batch_events
        self.writer = writer
        self.round = Round()
        super().__init__(*args, **kwargs)

    @cached_property
    def flow_control(self) -> FlowControlEvent:
        """Suspends and resumes the agents' queues."""
        return KeepingFlowControl(loop=self.loop)

    def _new_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_consumer, self, loop=self.loop)
