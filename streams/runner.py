"""What an agent does with a fetched batch: guard, decode, stage, emit, remember; acknowledged only after all of it."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
from aiokafka import ConsumerRecord

from streams.decoding import EventDecoder
from streams.engine.statelog import Chunk
from streams.engine.table import StateTable
from streams.engine.writer import BatchWriter, OutRecord
from streams.metrics import WorkerMetrics
from streams.records import late_records, output_records, rejected_records
from streams.stages.columns import decode_internal, encode_events
from streams.stages.internal_stage import InternalStage
from streams.stages.records import encode_values
from streams.stages.user import UserStage


class Work(msgspec.Struct, frozen=True):
    """What became of a batch: the chunk to remember, the records to write, and events by what happened to them."""

    payload: bytes
    records: list[OutRecord]
    counts: dict[str, int]


class Step(Protocol):
    """How a stage takes in the records of its topic."""

    def __call__(self, state: Any, records: Sequence[ConsumerRecord]) -> Work:
        """Absorb the records into the state."""


class UserStep:
    """Decodes and validates events for the user stage."""

    def __init__(self, decoder: EventDecoder, is_last: Callable[[ConsumerRecord], bool]) -> None:
        self._decoder = decoder
        self._is_last = is_last

    def __call__(self, state: UserStage, records: Sequence[ConsumerRecord]) -> Work:
        """Absorb events; what cannot be decoded or validated is rejected, what comes too late is set aside."""
        events, rejects = self._decoder.decode(records, int(time.time() * 1000))
        payload = encode_events(events, state.names.held)
        output = state.apply(events, records[-1].offset, self._is_last(records[-1]))
        written = output_records(output, state.settings.partitions)
        written += rejected_records(records, rejects, "user") + late_records(records, output.late.tolist())
        reasons: dict[str, int] = {}
        for reject in rejects:
            reasons[f"rejected:{reject.reason}"] = reasons.get(f"rejected:{reject.reason}", 0) + 1
        return Work(payload, written, output.counts | reasons)


def internal_step(state: InternalStage, records: Sequence[ConsumerRecord]) -> Work:
    """Absorb internal batches."""
    values = [record.value for record in records]
    output = state.apply([decode_internal(value) for value in values], records[-1].offset)
    return Work(encode_values(values), output_records(output, state.settings.partitions), output.counts)


class StageRunner:
    """Carries batches through one stage: the state is ahead of the log only while the batch is unacknowledged."""

    def __init__(self, stage: str, step: Step, table: StateTable, writer: BatchWriter, metrics: WorkerMetrics) -> None:
        self.stage = stage
        self.table = table
        self._step = step
        self._writer = writer
        self._metrics = metrics
        self.last_batch_at = time.monotonic()

    async def process(self, records: Sequence[ConsumerRecord]) -> bool:
        """Absorb a batch of one partition and make it durable; False if the partition is no longer ours.

        Raises what a write raises: the state is then ahead of the log, and the worker must end without acknowledging.
        """
        started, partition = time.perf_counter(), records[0].partition
        state: Any = self.table.states.get(partition)
        if state is None:
            return False
        previous = state.absorbed_offset
        fresh = [record for record in records if record.offset > previous] if records[0].offset <= previous else records
        if fresh:
            work = self._step(state, fresh)
            busy = time.perf_counter()
            await self._writer.write(work.records)
            await self.table.append(partition, Chunk(previous, fresh[0].offset, fresh[-1].offset, work.payload))
            self.last_batch_at = time.monotonic()
            self._metrics.on_batch(self.stage, fresh, work, busy - started, time.perf_counter() - busy)
        return True
