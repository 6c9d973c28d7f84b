"""The short way between stages of one worker: what it wrote to an internal topic itself need not be fetched.

Once the brokers have acknowledged such a record its offset is known. If it is the next one of a partition that is ours, it is
handed to our agent as if it had been fetched, which saves a round of the stages for each hop. Whatever came between, of another
worker or of ourselves before a restart, is fetched as ever, and the short way goes on behind it.
"""

import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from faust.types import TP

from streams.engine.fetched_records import FetchedRecord
from streams.engine.writer import Placed

# Beyond that what is held of a partition is forgotten, and fetched.
MAX_HELD_BYTES = 4_000_000
CREATE_TIME = 0


class HandOver:
    """The records of our own that were acknowledged and not delivered yet, by partition in the order of their offsets."""

    def __init__(self) -> None:
        self._held: defaultdict[TP, dict[int, FetchedRecord]] = defaultdict(dict)
        self._bytes: defaultdict[TP, int] = defaultdict(int)

    def hold(self, placed: Sequence[Placed], owned: Collection[TP]) -> set[TP]:
        """Keep those of the ``owned`` partitions until they are taken; the partitions in which one is urgent."""
        urgent = set()
        for one in placed:
            tp = TP(one.record.topic, one.record.partition)
            if tp not in owned:
                continue
            self._bytes[tp] += len(one.record.value or b"")
            if self._bytes[tp] > MAX_HELD_BYTES:
                self._drop(tp)
                continue
            self._held[tp][one.offset] = as_fetched(one)
            if one.record.urgent:
                urgent.add(tp)
        return urgent

    def partitions(self) -> list[TP]:
        """The partitions of which something is held."""
        return list(self._held)

    def take(self, tp: TP, position: int) -> list[FetchedRecord]:
        """The records from ``position`` on up to the first one that is missing, and forget these and what lies before them."""
        held, taken = self._held[tp], list[FetchedRecord]()
        while (record := held.get(position + len(taken))) is not None:
            taken.append(record)
        rest = {offset: record for offset, record in held.items() if offset >= position + len(taken)}
        if rest:
            self._held[tp], self._bytes[tp] = rest, sum(len(record.value or b"") for record in rest.values())
        else:
            self._drop(tp)
        return taken

    def forget(self) -> None:
        """Hold nothing any more: all is fetched."""
        self._held.clear()
        self._bytes.clear()

    def _drop(self, tp: TP) -> None:
        self._held.pop(tp, None)
        self._bytes.pop(tp, None)


def as_fetched(placed: Placed) -> FetchedRecord:
    """A record as it would be fetched."""
    record = placed.record
    time_ms = record.timestamp_ms or int(time.time() * 1000)
    return FetchedRecord(
        record.topic, record.partition, placed.offset, time_ms, CREATE_TIME, record.key, record.value, ()
    )


def skip(fetcher: Any, delivered: dict[TP, int]) -> None:
    """Let an aiokafka fetcher go on behind what was ``delivered`` without it, which is forgotten. In the fetcher's thread."""
    subscription = fetcher._subscriptions.subscription
    for tp in list(delivered):
        position = delivered.pop(tp, None)  # the other thread may have cleared it
        if position is not None and subscription is not None and fetcher._subscriptions.is_assigned(tp):
            state = subscription.assignment.state_value(tp)
            if state.has_valid_position and state.position < position:
                fetcher.seek_to(tp, position)
