"""A Faust table whose partitions are stage states, kept in the changelog as a log of chunks with snapshots."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import faust
import structlog
from faust.types import TP

from streams.engine import statelog
from streams.engine.transport import BatchSchema
from streams.engine.writer import BatchWriter, OutRecord

MIN_LOG_BYTES = 16_000_000
# Many small chunks take longer to absorb again than their bytes tell; a large snapshot is worth waiting for some more of them.
MAX_LOG_CHUNKS = 1_000
MOST_WAITING = 4
CHANGELOG_CONFIG = {"max.message.bytes": "8388608"}
log = structlog.get_logger()


class State(Protocol):
    """The state of one partition: a function of the source's records up to ``absorbed_offset``."""

    absorbed_offset: int

    @property
    def event_time_s(self) -> float | None:
        """The latest event time that was absorbed, None before the first."""

    def sizes(self) -> dict[str, int]:
        """How much is held, by kind. O(1) or nearly so."""

    def replay(self, first: int, last: int, payload: bytes) -> None:
        """Absorb a chunk that ``payload`` describes, without emitting anything."""

    def to_bytes(self) -> bytes:
        """The whole state."""


class LogExtent:
    """What the changelog of one live partition holds: the chunks since its snapshot and their size."""

    def __init__(self, keys: Iterable[bytes], snapshot_bytes: int, chunk_bytes: int) -> None:
        self.keys = set(keys)
        self.chunks = sum(key[:2] == b"c/" for key in self.keys)
        self.snapshot_bytes = snapshot_bytes
        self.chunk_bytes = chunk_bytes
        self.snapshot_task: asyncio.Task[None] | None = None

    @property
    def wants_snapshot(self) -> bool:
        """Whether replaying the chunks costs more than reading a new snapshot would."""
        if self.snapshot_task is not None and not self.snapshot_task.done():
            return False
        waiting = min(max(self.snapshot_bytes / MIN_LOG_BYTES, 1.0), MOST_WAITING)
        return self.chunk_bytes > max(MIN_LOG_BYTES, self.snapshot_bytes) or self.chunks > MAX_LOG_CHUNKS * waiting


class StateTable(faust.Table):
    """The states of a stage, one per source partition.

    A state lives in memory (``states``) while its partition is assigned in consecutive generations. Otherwise somebody else
    may have owned it: it is dropped and rebuilt from the changelog.
    """

    def __init__(
        self,
        app: Any,
        *,
        writer: BatchWriter,
        new_state: Callable[[int, bytes | None], State],
        on_live: Callable[[list[int]], Awaitable[None]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            app, key_type=bytes, value_type=bytes, schema=BatchSchema(), recovery_buffer_size=32,
            extra_topic_configs=CHANGELOG_CONFIG, **kwargs,
        )  # fmt: skip
        self.states: dict[int, State] = {}
        self._new_state = new_state
        self._on_live = on_live
        self._writer = writer
        self._read: dict[int, dict[bytes, bytes]] = {}
        self._read_to: dict[TP, int] = {}
        self._extents: dict[int, LogExtent] = {}
        self._generation = -1

    @property
    def extents(self) -> Mapping[int, LogExtent]:
        """What the changelog holds of each live partition."""
        return self._extents

    def owns(self, topic: str, partition: int) -> bool:
        """Whether a partition of a source topic is assigned to this worker and no rebalance is under way."""
        return TP(topic, partition) in self.app.consumer.assignment() and not self.app.rebalancing

    # -- writing

    async def append(self, partition: int, chunks: Sequence[statelog.Chunk]) -> None:
        """Write the chunks of consecutive batches and wait for them."""
        records = [statelog.chunk_record(chunk) for chunk in chunks]
        await self._write(partition, records)
        extent = self._extents.get(partition)
        if (
            extent is None
        ):  # the partition was given up meanwhile; whoever has it now reads the same chunk or writes its own
            return
        extent.keys.update(key for key, _ in records)
        extent.chunks += len(records)
        extent.chunk_bytes += sum(len(value) for _, value in records)

    def wants_snapshot(self, partition: int) -> bool:
        """Whether a snapshot of the partition is due; False if it is not live."""
        extent = self._extents.get(partition)
        return extent is not None and extent.wants_snapshot

    async def _write(self, partition: int, records: Iterable[tuple[bytes, bytes | None]]) -> None:
        topic = self.changelog_topic_name
        written = await self._writer.write([OutRecord(topic, partition, key, value) for key, value in records])
        if partition in self.states:
            for offset in written.values():
                tp = TP(topic, partition)
                self._read_to[tp] = max(offset, self._read_to.get(tp, -1))

    def start_snapshot(self, partition: int) -> asyncio.Task[None]:
        """Serialise the state of a partition now and write it in the background; a failure ends the worker.

        Everything that the state has absorbed must be in the log already.
        """
        state, extent = self.states[partition], self._extents[partition]
        offset, data = state.absorbed_offset, state.to_bytes()
        extent.chunk_bytes = extent.chunks = 0
        extent.snapshot_task = asyncio.create_task(self._write_snapshot(partition, extent, offset, data))
        return extent.snapshot_task

    async def _write_snapshot(self, partition: int, extent: LogExtent, offset: int, data: bytes) -> None:
        try:
            *parts, manifest = statelog.snapshot_records(offset, data)
            # The manifest must not be acknowledged before the parts, nor a chunk be deleted before the manifest.
            await self._write(partition, parts)
            await self._write(partition, [manifest])
            stale = statelog.superseded(list(extent.keys), offset)
            await self._write(partition, [(key, None) for key in stale])
            extent.keys.difference_update(stale)
            extent.keys.update(key for key, _ in [*parts, manifest])
            extent.snapshot_bytes = len(data)
        except Exception as error:
            log.exception("snapshot failed", table=self.name, partition=partition)
            await self.app.crash(error)

    # -- reading, as Faust's recovery calls it

    def persisted_offset(self, tp: TP) -> int | None:
        """The last changelog offset that has been read for the partition; None to read it from the start."""
        return self._read_to.get(tp)

    def apply_changelog_batch(self, batch: Iterable[Any]) -> None:
        """Take over changelog records; those of a live partition are our own and known."""
        for event in batch:
            message = event.message
            self._read_to[message.tp] = message.offset
            if message.partition in self.states:
                continue
            records = self._read.setdefault(message.partition, {})
            if message.value is None:
                records.pop(message.key, None)
            else:
                records[message.key] = message.value

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Drop every state that somebody else may have advanced since we last owned it."""
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)
        actives = {tp.partition for tp in self.app.assignor.assigned_actives() if tp.topic == self.changelog_topic_name}
        kept = actives if generation_id == self._generation + 1 else set()
        self._generation = generation_id
        standbys = {
            tp.partition for tp in self.app.assignor.assigned_standbys() if tp.topic == self.changelog_topic_name
        }
        for partition in (set(self.states) - kept) | (set(self._read) - actives - standbys):
            self._drop(partition)
        for partition in sorted(set(self._read) & actives):
            log.info("standby takes over", table=self.name, partition=partition, records=len(self._read[partition]))

    def _drop(self, partition: int) -> None:
        tp = TP(self.changelog_topic_name, partition)
        self.states.pop(partition, None)
        self._extents.pop(partition, None)
        self._read.pop(partition, None)
        self._read_to.pop(tp, None)
        self.app.tables.recovery.revoke(tp)

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Build the states of the newly assigned partitions from what was read; a failure ends the worker."""
        try:
            new = sorted({tp.partition for tp in active_tps} - set(self.states))
            for partition in new:
                await self._build(partition)
            if new and self._on_live is not None:
                await self._on_live(new)
        except Exception as error:
            log.exception("recovery failed", table=self.name)
            await self.app.crash(error)
        await super().on_recovery_completed(active_tps, standby_tps)

    async def _build(self, partition: int) -> None:
        records = self._read.pop(partition, {})
        recovered = statelog.recover(records)
        sizes = [len(value) for key, value in records.items() if key[:2] == b"c/"]
        extent = LogExtent(records, len(recovered.snapshot or b""), sum(sizes))
        records.clear()
        state = self._new_state(partition, recovered.snapshot)
        for chunk in recovered.chunks:
            state.replay(chunk.first, chunk.last, chunk.payload)
            await asyncio.sleep(0)
        self.states[partition], self._extents[partition] = state, extent
        log.info(
            "state recovered", table=self.name, partition=partition, offset=state.absorbed_offset,
            snapshot_bytes=extent.snapshot_bytes, chunks=len(recovered.chunks),
        )  # fmt: skip
