"""Internal batches: written once per source batch and target partition, absorbed once however often they arrive."""

from collections.abc import Mapping

import numpy as np

from schemas.columns import encode_columns
from schemas.topics import TopicSpec
from streams.stages.columns import InternalBatch, Ints, encode_names
from streams.stages.names import Names
from streams.stages.output import Routed


def route(
    topic: TopicSpec,
    target: Ints,
    columns: Mapping[str, np.ndarray],
    *,
    named: tuple[str, ...],
    names: Names,
    origin: tuple[int, int],
) -> list[Routed]:
    """Split rows by their ``target`` partition; each batch carries the ids of the codes in its ``named`` columns.

    ``origin`` is (source partition, its watermark in ms). Rows keep their order. O(rows).
    """
    routed = []
    for partition in np.unique(target).tolist():
        rows = np.flatnonzero(target == partition)
        chosen = {name: column[rows] for name, column in columns.items()}
        codes = np.unique(np.concatenate([chosen[name] for name in named]))
        batch = InternalBatch(*origin, encode_columns(chosen), encode_names(names.of(codes.tolist())))
        routed.append(Routed(topic, int(partition), batch))
    return routed


class OriginGuard:
    """Per origin partition the highest source offset absorbed, and the origins' watermarks."""

    def __init__(self) -> None:
        self._absorbed: dict[int, int] = {}
        self._watermark_ms: dict[int, int] = {}

    def watermark_ms(self, idle_after_ms: int) -> int | None:
        """The event time up to which the origins are complete; None before any batch.

        An origin that lies more than ``idle_after_ms`` of event time behind the leading one is idle and holds nobody up.
        """
        leading = max(self._watermark_ms.values(), default=None)
        if leading is None:
            return None
        return min(mark for mark in self._watermark_ms.values() if mark >= leading - idle_after_ms)

    def fresh_rows(self, batch: InternalBatch, origin_offset: Ints) -> slice:
        """The rows that were not absorbed before (offsets are non-decreasing), which count as absorbed from now on."""
        seen = self._absorbed.get(batch.origin_partition, -1)
        start = int(np.searchsorted(origin_offset, seen, side="right"))
        if start < len(origin_offset):
            self._absorbed[batch.origin_partition] = int(origin_offset[-1])
        held = self._watermark_ms.get(batch.origin_partition, batch.watermark_ms)
        self._watermark_ms[batch.origin_partition] = max(held, batch.watermark_ms)
        return slice(start, len(origin_offset))

    def state(self) -> dict[str, Ints]:
        """The columns that hold the state, one row per origin partition."""
        origins = sorted(self._watermark_ms)
        absorbed = [self._absorbed.get(origin, -1) for origin in origins]
        marks = [self._watermark_ms[origin] for origin in origins]
        return {
            "origin": np.array(origins, np.int64),
            "absorbed": np.array(absorbed, np.int64),
            "watermark_ms": np.array(marks, np.int64),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Ints]) -> "OriginGuard":
        """The object of ``state()``."""
        guard = cls()
        origins = state["origin"].tolist()
        guard._absorbed = dict(zip(origins, state["absorbed"].tolist(), strict=True))
        guard._watermark_ms = dict(zip(origins, state["watermark_ms"].tolist(), strict=True))
        return guard
