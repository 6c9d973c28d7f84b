"""Internal batches: written once per source batch and target partition, absorbed once however often they arrive."""

from collections.abc import Iterable, Mapping

import msgspec
import numpy as np

from schemas.columns import encode_columns
from schemas.topics import TopicSpec
from streams.stages.coded_ids import encode_ids
from streams.stages.columns import InternalBatch, Ints
from streams.stages.names import Names
from streams.stages.output import Routed

NO_CODES = np.empty(0, np.int64)


class Origin(msgspec.Struct, frozen=True):
    """Where rows come from: a source partition, its event-time clock, whether it has no backlog, the last offset it has
    absorbed, the wall clock there (0: none), and whether nothing has come for a while.
    """

    partition: int
    clock_ms: int
    caught_up: bool
    through: int
    sent_ms: int = 0
    quiet: bool = False


def route(
    topic: TopicSpec,
    target: Ints,
    columns: Mapping[str, np.ndarray],
    targets: Iterable[int],
    *,
    named: tuple[str, ...],
    names: Names,
    origin: Origin,
) -> list[Routed]:
    """Split rows by their ``target`` partition, one batch for each of ``targets``, empty ones too.

    A batch carries the ids of the codes in its ``named`` columns. Rows keep their order. O(rows).
    """
    return [
        batch_for(topic, int(partition), np.flatnonzero(target == partition), columns, named, names, origin)
        for partition in targets
    ]


def batch_for(
    topic: TopicSpec, partition: int, rows: Ints, columns: Mapping[str, np.ndarray], named: tuple[str, ...],
    names: Names, origin: Origin,
) -> Routed:  # fmt: skip
    """The batch of some rows for one partition."""
    chosen = {name: column[rows] for name, column in columns.items()}
    known = names.of(np.concatenate([chosen[name] for name in named]) if named else NO_CODES)
    batch = InternalBatch(
        origin.partition, origin.clock_ms, origin.caught_up,
        encode_columns(chosen), encode_ids(known), origin.through, origin.sent_ms, origin.quiet,
    )  # fmt: skip
    return Routed(topic, partition, batch)


class OriginGuard:
    """Per origin partition the highest source offset absorbed."""

    def __init__(self, origins: int) -> None:
        self.absorbed = np.full(origins, -1, np.int64)

    def fresh_rows(self, origin: int, origin_offset: Ints) -> slice:
        """The rows that were not absorbed before (offsets are non-decreasing), which count as absorbed from now on."""
        start = int(np.searchsorted(origin_offset, self.absorbed[origin], side="right"))
        if start < len(origin_offset):
            self.absorbed[origin] = origin_offset[-1]
        return slice(start, len(origin_offset))
