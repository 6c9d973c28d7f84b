"""What a worker says about its source partitions when it gets them, before any event of theirs."""

from typing import Any

from faust.types import TP

from schemas.topics import EVENTS
from streams.engine.table import StateTable
from streams.engine.writer import BatchWriter
from streams.records import internal_records


class Announcer:
    """Tells the stages that work in time order how far each new partition has come and whether it has a backlog.

    Without it they would not wait for a partition that they have not heard of, or wait for one that has nothing to say.
    """

    table: StateTable

    def __init__(self, app: Any, writer: BatchWriter) -> None:
        self._app = app
        self._writer = writer

    async def __call__(self, partitions: list[int]) -> None:
        """Announce these source partitions, whose states are live."""
        sources = {partition: TP(EVENTS.name, partition) for partition in partitions}
        consumer = self._app.consumer
        first = await consumer.earliest_offsets(*sources.values())
        end = await consumer.highwaters(*sources.values())
        records = []
        for partition, tp in sources.items():
            state: Any = self.table.states[partition]
            position = max(state.absorbed_offset + 1, first.get(tp) or 0)
            records += internal_records(state.announce(caught_up=position >= (end.get(tp) or 0)))
        await self._writer.write(records)
