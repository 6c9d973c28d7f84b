"""Tells the stage of crowds what time it is while a source partition has no events."""

import asyncio
import time
from typing import Any

from streams.engine.fetching import Round
from streams.records import internal_records
from streams.runner import StageRunner

LOOK_EVERY_S = 0.01
FIRST_AFTER_S, LAST_AFTER_S = 0.04, 60.0
# So much longer a worker waits for events that is busy: if it hears of none it may be since it has not asked for any.
WHEN_BUSY = 5


class Ticker:
    """After the last batch of a partition come a few more ticks of its clock, each twice as long after it as the one before.

    Crowds are told now and then (`CrowdStage`): without a tick the last events before a pause would wait for the next ones.
    """

    def __init__(self, runner: StageRunner, round_: Round) -> None:
        self._runner = runner
        self._round = round_
        # By partition: up to where it is absorbed, since when, and how long after that the next tick comes.
        self._quiet: dict[int, tuple[int, float, float]] = {}

    async def run(self) -> None:
        """Tick for ever; ended by cancellation."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            states: dict[int, Any] = self._runner.table.states
            now_s = time.monotonic()
            idle = self._round.has_asked_in_vain(now_s)
            due = [state for at, state in states.items() if self.notice(at, state.absorbed_offset, now_s, idle)]
            if due:
                sent_ms = int(time.time() * 1000)
                ticks = [tick for state in due for tick in state.tick(sent_ms)]
                # In a task, so that it begins after the writes of the batches that the ticks speak of.
                await asyncio.ensure_future(self._runner.write(internal_records(ticks)))

    def notice(self, partition: int, absorbed_offset: int, now_s: float, is_idle: bool) -> bool:
        """Note how far a partition is absorbed now; whether it is to tick, which a busy worker does later."""
        seen_offset, since_s, after_s = self._quiet.get(partition, (None, now_s, FIRST_AFTER_S))
        if seen_offset != absorbed_offset:
            since_s, after_s = now_s, FIRST_AFTER_S
        waited_s = (now_s - since_s) / (1 if is_idle else WHEN_BUSY)
        due = waited_s >= after_s and after_s <= LAST_AFTER_S
        self._quiet[partition] = absorbed_offset, since_s, 2 * after_s if due else after_s
        return due
