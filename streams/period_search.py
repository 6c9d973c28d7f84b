"""Looks for periods beside the stream: with all the time there is while it is idle, with a small share while it is busy."""

import asyncio
import time
from typing import Any

from streams.engine.table import StateTable
from streams.runner import StageRunner

# Three of a worker's stages search: together they take a twentieth of a busy one.
BUSY_SHARE, IDLE_SHARE = 0.05 / 3, 0.8
IDLE_AFTER_S, PAUSE_S = 0.1, 0.05
KEYS_AT_A_TIME = 2


class PeriodSearch:
    """Examines the keys of one stage's states, a few at a time, and publishes what changed.

    What was examined is not part of the log between two snapshots: after a crash some keys are looked at once more, and their
    messages carry the same version or a later one.
    """

    def __init__(self, runner: StageRunner) -> None:
        self._runner = runner
        self._table: StateTable = runner.table

    async def run(self) -> None:
        """Search for ever; ended by cancellation."""
        while True:
            spent_s = await self._search_once()
            busy = self._runner.in_hand or time.monotonic() - self._runner.last_batch_at < IDLE_AFTER_S
            share = BUSY_SHARE if busy else IDLE_SHARE
            await asyncio.sleep(spent_s * (1.0 / share - 1.0) if spent_s else PAUSE_S)

    async def _search_once(self) -> float:
        """Examine a few keys of the state that has most to do; the seconds spent, 0 if there was nothing to do."""
        states: list[Any] = list(self._table.states.values())
        waiting = [state for state in states if state.untested]
        if not waiting:
            return 0.0
        started = time.perf_counter()
        patterns = max(waiting, key=lambda state: state.untested).examine(KEYS_AT_A_TIME)
        spent_s = time.perf_counter() - started
        await self._runner.publish(patterns)
        return max(spent_s, 1e-6)
