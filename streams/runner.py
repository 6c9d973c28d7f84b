"""What an agent does with a fetched batch: guard, decode, stage, emit, remember; acknowledged only after all of it.

Absorbing a batch and making it durable overlap: while the brokers confirm one batch, the next is computed.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import takewhile
from typing import Any, Protocol

import msgspec

from schemas.patterns import Pattern
from streams.decoding import EventDecoder
from streams.engine.batches import FetchedBatch
from streams.engine.fetched_records import FetchedRecord
from streams.engine.fetching import Round
from streams.engine.statelog import NOTHING_ABSORBED, Chunk
from streams.engine.table import StateTable
from streams.engine.writer import BatchWriter, OutRecord
from streams.metrics import WorkerMetrics
from streams.records import late_records, output_records, pattern_records, rejected_records
from streams.stages.columns import encode_events
from streams.stages.crossing import decode_message
from streams.stages.output import StageOutput
from streams.stages.records import encode_values
from streams.stages.settings import MiningSettings
from streams.stages.user import UserStage

# How far a stage may be ahead of its log: brokers take tens of milliseconds, in which several rounds of batches are computed.
MAX_IN_HAND = 16
MAX_CHUNK_BYTES_IN_HAND = 4_000_000
# A telling of crowds goes to and fro between these two, whose batches take little: they do not wait for those of others.
TURN_OF, LAST = {"union": 0, "region": 0}, 1
# So many turns of the event loop are between two batches. From the arrival of an acknowledgement to the delivery of what it
# lets go on are some more than half a dozen; with a batch in each of them that took longer than the brokers.
TURNS_BETWEEN_BATCHES = 8


class SkippedRecordsError(RuntimeError):
    """Records of the source were never handed to the stage: to absorb what follows would lose them."""


class StateMissingError(RuntimeError):
    """A partition of the source is ours and its state is not: its changelog was not assigned with it."""


class Work(msgspec.Struct, frozen=True):
    """What became of a batch: the chunk to remember, the records to write, the patterns among them, and events by what
    happened to them."""

    payload: bytes
    records: list[OutRecord]
    patterns: list[Pattern]
    counts: dict[str, int]


class Step(Protocol):
    """How a stage takes in the records of its topic."""

    def __call__(self, state: Any, records: Sequence[FetchedRecord]) -> Work:
        """Absorb the records into the state."""


class UserStep:
    """Decodes and validates events for the user stage."""

    def __init__(self, decoder: EventDecoder, is_last: Callable[[FetchedRecord], bool]) -> None:
        self._decoder = decoder
        self._is_last = is_last

    def __call__(self, state: UserStage, records: Sequence[FetchedRecord]) -> Work:
        """Absorb events; what cannot be decoded or validated is rejected, what comes too late is set aside."""
        now_ms = int(time.time() * 1000)
        events, rejects = self._decoder.decode(records, now_ms)
        payload = encode_events(events, state.names)
        output = state.apply(events, records[-1].offset, self._is_last(records[-1]), now_ms)
        written = output_records(output, state.settings.partitions)
        written += rejected_records(records, rejects, "user") + late_records(records, output.late.tolist())
        reasons: dict[str, int] = {}
        for reject in rejects:
            reasons[f"rejected:{reject.reason}"] = reasons.get(f"rejected:{reject.reason}", 0) + 1
        return Work(payload, written, output.patterns, output.counts | reasons)


class BehindStage(Protocol):
    """The state of a stage that reads an internal topic."""

    settings: MiningSettings

    def apply(self, messages: Sequence[Any], last_offset: int) -> StageOutput:
        """Absorb the topic's messages up to ``last_offset``."""


def internal_step(state: BehindStage, records: Sequence[FetchedRecord]) -> Work:
    """Absorb the messages of an internal topic."""
    values = [record.value or b"" for record in records]
    output = state.apply([decode_message(value) for value in values], records[-1].offset)
    written = output_records(output, state.settings.partitions)
    return Work(encode_values(values), written, output.patterns, output.counts)


class InHand(msgspec.Struct, frozen=True):
    """A batch that its state has absorbed and the log has not: ``written`` ends when the brokers have its outputs.

    ``work``, ``chunk`` and ``written`` are None if there was nothing new in it.
    """

    partition: int
    state: Any
    records: Sequence[FetchedRecord]
    work: Work | None
    chunk: Chunk | None
    written: asyncio.Future[Any] | None
    done: Callable[[], None]
    compute_s: float
    computed_at: float


class StageRunner:
    """Carries batches through one stage: a state is ahead of its log only by the few batches that are in hand.

    Batches become durable in the order in which they were taken: their outputs, which are written at once, then their chunks,
    then ``done`` is called. After a write that failed nothing is remembered, absorbed or acknowledged any more, and ``crash`` is
    called.
    """

    def __init__(
        self,
        stage: str,
        step: Step,
        table: StateTable,
        writer: BatchWriter,
        metrics: WorkerMetrics,
        crash: Callable[[BaseException], Awaitable[None]],
        partitions: int,
        round_: Round,
    ) -> None:
        self.stage = stage
        self.table = table
        self._step = step
        self._writer = writer
        self._metrics = metrics
        self._crash = crash
        self._in_hand: deque[InHand] = deque()
        self._settling: asyncio.Task[None] | None = None
        self._some_settled = asyncio.Event()
        self._failure: Exception | None = None
        self._partitions = partitions
        self._round = round_
        self.last_batch_at = time.monotonic()

    @property
    def _bytes_in_hand(self) -> int:
        return sum(len(batch.chunk.payload) for batch in self._in_hand if batch.chunk is not None)

    @property
    def in_hand(self) -> int:
        """Batches that are absorbed and not durable yet."""
        return len(self._in_hand)

    async def take(self, batch: FetchedBatch, done: Callable[[], None]) -> None:
        """Absorb a batch of one partition, and call ``done`` once it and every batch before it are durable.

        A batch whose partition is given up before it is durable is never done. Returns when there is room for another one.
        Raises what the stage raises, or what an earlier write raised; SkippedRecordsError if the batch does not follow what the
        state has absorbed, and StateMissingError if there is no state for a partition that is ours.
        """
        async with self._round.turns.turn(TURN_OF.get(self.stage, LAST)):
            try:
                await self._absorb(batch, done)
                for _ in range(TURNS_BETWEEN_BATCHES):
                    await asyncio.sleep(0)
            finally:
                self._round.note_taken()
        if self._round.is_over:
            self._writer.release()
        await self._settled_below(MAX_IN_HAND, MAX_CHUNK_BYTES_IN_HAND)

    async def _absorb(self, batch: FetchedBatch, done: Callable[[], None]) -> None:
        if self._failure is not None:
            raise self._failure
        topic, partition = batch.records[0].topic, batch.records[0].partition
        if self.table.wants_snapshot(partition):
            # A snapshot must not hold what is not in the log yet: its outputs could be lost.
            await self._settled_below(1, 0)
            self.table.start_snapshot(partition)
        state: Any = self.table.states.get(partition)
        if state is None:
            if self.table.owns(topic, partition):
                raise StateMissingError(f"{self.stage}, partition {partition}: its state was never recovered")
            return
        if batch.read_from > state.absorbed_offset + 1 and state.absorbed_offset != NOTHING_ABSORBED:
            raise SkippedRecordsError(
                f"{self.stage}, partition {partition}: read from {batch.read_from}, but absorbed to {state.absorbed_offset}"
            )
        self._in_hand.append(self._absorbed(state, batch.records, done))
        if self._settling is None or self._settling.done():
            self._settling = asyncio.create_task(self._settle())

    def _absorbed(self, state: Any, records: Sequence[FetchedRecord], done: Callable[[], None]) -> InHand:
        started, previous = time.perf_counter(), state.absorbed_offset
        fresh = [record for record in records if record.offset > previous] if records[0].offset <= previous else records
        work = chunk = written = None
        if fresh:
            work = self._step(state, fresh)
            chunk = Chunk(previous, fresh[0].offset, fresh[-1].offset, work.payload)
            written = asyncio.ensure_future(self._writer.write(work.records))
        now = time.perf_counter()
        return InHand(records[0].partition, state, fresh, work, chunk, written, done, now - started, now)

    async def _settled_below(self, batches: int, most_bytes: int) -> None:
        while self._failure is None and (len(self._in_hand) >= batches or self._bytes_in_hand > most_bytes):
            self._some_settled.clear()
            await self._some_settled.wait()
        if self._failure is not None:
            raise self._failure

    async def _settle(self) -> None:
        """Make what is in hand durable: the chunks of all first batches whose outputs are written at a time."""
        try:
            while self._in_hand:
                if self._in_hand[0].written is not None:
                    await self._in_hand[0].written
                group = list(takewhile(_is_written, self._in_hand))
                owned = [batch for batch in group if self.table.states.get(batch.partition) is batch.state]
                await self._remember(owned)
                for _ in group:
                    self._in_hand.popleft()
                for batch in owned:
                    self._finish(batch)
                self._some_settled.set()
        except Exception as error:
            self._failure = error
            self._some_settled.set()
            await self._crash(error)

    async def _remember(self, batches: Sequence[InHand]) -> None:
        by_partition: dict[int, list[Chunk]] = {}
        for batch in batches:
            if batch.chunk is not None:
                by_partition.setdefault(batch.partition, []).append(batch.chunk)
        with self._metrics.changelog_seconds.labels(self.stage).time():
            await asyncio.gather(*(self.table.append(partition, chunks) for partition, chunks in by_partition.items()))

    def _finish(self, batch: InHand) -> None:
        batch.done()
        self.last_batch_at = time.monotonic()
        if batch.work is not None:
            waited_s = time.perf_counter() - batch.computed_at
            self._metrics.on_batch(self.stage, batch.records, batch.work, batch.compute_s, waited_s)

    async def publish(self, patterns: Sequence[Pattern]) -> None:
        """Write patterns that were found beside the batches."""
        await self.write(pattern_records(patterns, self._partitions), patterns)

    async def write(self, records: Sequence[OutRecord], patterns: Sequence[Pattern] = ()) -> None:
        """Write records beside the batches, with ``patterns`` among them; nothing after a write that failed."""
        if self._failure is None:
            await self._writer.write(records)
            self._metrics.on_written(records, patterns)


def _is_written(batch: InHand) -> bool:
    """Whether the brokers have taken its outputs; false of those that they refused, which the next look finds."""
    written = batch.written
    return written is None or (written.done() and written.exception() is None)
