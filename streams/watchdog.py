"""Watches a worker's progress and decides when it is better started again than waited for."""

import asyncio
import contextlib
import time
from typing import Any

import structlog
from aiokafka.errors import KafkaError

from streams.health import Heartbeat
from streams.metrics import WorkerMetrics
from streams.settings import WorkerSettings

log = structlog.get_logger()
INTERVAL_S = 0.25
NOTE_STATES_EVERY_S = 1.0
NOTE_OFFSETS_EVERY_S, NOTE_OFFSETS_WITHIN_S = 5.0, 5.0


class Watchdog:
    """Ends its watch with a ``verdict`` when the worker crashed, recovers for too long, or stands still with input waiting."""

    def __init__(self, app: Any, settings: WorkerSettings, metrics: WorkerMetrics, heartbeat: Heartbeat) -> None:
        self.verdict: str | None = None
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._heartbeat = heartbeat
        self._progress: tuple[Any, ...] = ()
        self._progressed_at = self._recovered_at = self._noted_at = self._offsets_at = time.monotonic()

    async def watch(self) -> None:
        """Return when the worker should end; ``verdict`` says why."""
        while self.verdict is None:
            await asyncio.sleep(INTERVAL_S)
            self._heartbeat.beat()
            now = time.monotonic()
            self._heartbeat.ready = self._is_ready()
            self._metrics.ready.set(self._heartbeat.ready)
            if now - self._noted_at > NOTE_STATES_EVERY_S:
                self._metrics.on_states(self._app.tables)
                self._noted_at = now
            if self._heartbeat.ready and now - self._offsets_at > NOTE_OFFSETS_EVERY_S:
                self._offsets_at = now
                await self._note_offsets()
            self.verdict = self._crash() or self._overdue_recovery(now) or self._stall(now)

    async def _note_offsets(self) -> None:
        """A worker that is stuck fetches nothing more, so the ends are asked for; a broker that is away leaves what was known."""
        with contextlib.suppress(TimeoutError, KafkaError):
            offsets = await asyncio.wait_for(self._app.consumer.progress(), NOTE_OFFSETS_WITHIN_S)
            self._metrics.on_offsets(offsets)

    def _is_ready(self) -> bool:
        app = self._app
        return bool(app.tables.actives_ready and not app.rebalancing and not app.should_stop)

    def _crash(self) -> str | None:
        return f"crashed: {self._app.crash_reason!r}" if self._app.crashed else None

    def _overdue_recovery(self, now: float) -> str | None:
        if self._heartbeat.ready:
            self._recovered_at = now
        overdue = now - self._recovered_at > self._settings.recovery_deadline_s
        return "state was not recovered before the deadline" if overdue else None

    def _stall(self, now: float) -> str | None:
        progress = self._position()
        if progress != self._progress or not self._heartbeat.ready or not self._has_lag():
            self._progress, self._progressed_at = progress, now
        stalled = now - self._progressed_at > self._settings.stall_deadline_s
        return "no progress although input is waiting" if stalled else None

    def _position(self) -> tuple[Any, ...]:
        return tuple(
            (name, partition, state.absorbed_offset)
            for name, table in sorted(self._app.tables.items())
            for partition, state in sorted(table.states.items())
        )

    def _has_lag(self) -> bool:
        monitor, app = self._app.monitor, self._app
        for tp, end in list(monitor.tp_end_offsets.items()):
            if tp.topic in app.batch_topics and end > (monitor.tp_committed_offsets.get(tp) or 0):
                return True
        return False
