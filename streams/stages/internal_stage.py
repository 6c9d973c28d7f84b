"""What the stages behind an internal topic share: batches in, each row absorbed once, patterns out."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from processors.sequence import NO_STATE
from schemas.patterns import Pattern
from streams.stages.alignment import TimeAligner
from streams.stages.coded_ids import decode_ids
from streams.stages.columns import InternalBatch, decode_internal
from streams.stages.internal import OriginGuard
from streams.stages.names import Names
from streams.stages.output import StageOutput
from streams.stages.packing import pack_arrays, pack_blobs, unpack_arrays, unpack_blobs
from streams.stages.records import decode_values
from streams.stages.settings import MiningSettings

Rows = Mapping[str, np.ndarray]


def concatenated(parts: Sequence[Rows]) -> dict[str, np.ndarray]:
    """The rows of several parts with the same columns."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class InternalStage(ABC):
    """The state of one partition of an internal topic, a function of that partition's records up to ``absorbed_offset``.

    Subclasses absorb rows, say which patterns are due, and name the blobs of their own state. With ``in_time_order`` they get
    the rows of all origins in one order of event time. Of their ``optional_columns`` (int64) a batch may lack some: what has
    nothing to say there, or was written before there were such; its rows hold NO_STATE instead.
    """

    optional_columns: tuple[str, ...] = ()

    def __init__(
        self, settings: MiningSettings, partition: int, *, max_names: int, in_time_order: bool = False
    ) -> None:
        self.settings = settings
        self.partition = partition
        self.absorbed_offset = -1
        self.guard = OriginGuard(settings.partitions)
        self.names = Names(max_names)
        self.aligner = TimeAligner(settings.partitions) if in_time_order else None

    @abstractmethod
    def _absorb(self, rows: Rows) -> dict[str, int]:
        """Take in rows that are new (at least one); counts by what happened."""

    @abstractmethod
    def _due_patterns(self, version: int) -> list[Pattern]:
        """The patterns that the rows since the last call made worth publishing, at most one per key."""

    @abstractmethod
    def _own_blobs(self) -> dict[str, bytes]:
        """The subclass's own state."""

    @abstractmethod
    def _load_blobs(self, blobs: Mapping[str, bytes]) -> None:
        """Become the state of ``_own_blobs``."""

    @property
    @abstractmethod
    def event_time_s(self) -> float | None:
        """The latest event time that was absorbed, None before the first."""

    def sizes(self) -> dict[str, int]:
        """How much is held, by kind."""
        held = {"names": len(self.names)}
        return held if self.aligner is None else held | {"rows_in_wait": len(self.aligner)}

    def apply(self, batches: Sequence[InternalBatch], last_offset: int) -> StageOutput:
        """Absorb internal batches up to ``last_offset`` of the internal topic, and publish as of then. O(rows)."""
        counts = self._take_in(batches)
        self.absorbed_offset = last_offset
        return StageOutput(patterns=self._due_patterns(last_offset), counts=counts)

    def _take_in(self, batches: Sequence[InternalBatch]) -> dict[str, int]:
        fresh, stale = self._fresh(batches)
        counts = {"stale": stale, "received": len(fresh["origin"]) if fresh else 0}
        if self.aligner is not None:
            fresh = self._in_turn(batches, fresh)
        if fresh:
            counts |= {"admitted": len(fresh["origin"])} | self._absorb(fresh)
        return counts

    def _fresh(self, batches: Sequence[InternalBatch]) -> tuple[Rows | None, int]:
        """The rows that were not absorbed before, and the number of those that were."""
        parts, stale = [], 0
        for batch in batches:
            rows = batch.rows()
            new = self.guard.fresh_rows(batch.origin_partition, np.asarray(rows["origin_offset"]))
            stale += new.start
            if new.stop > new.start:
                self.names.learn(decode_ids(batch.names))
                part = {
                    name: np.asarray(column)[new] if new.start else np.asarray(column) for name, column in rows.items()
                }
                part |= {
                    name: np.full(new.stop - new.start, NO_STATE) for name in self.optional_columns if name not in part
                }
                parts.append(part | {"origin": np.full(new.stop - new.start, batch.origin_partition)})
        return (concatenated(parts) if parts else None), stale

    def _in_turn(self, batches: Sequence[InternalBatch], fresh: Rows | None) -> Rows | None:
        assert self.aligner is not None
        for batch in batches:
            self.aligner.hear(batch.origin_partition, batch.clock_ms, batch.caught_up)
        if fresh:
            self.aligner.push(fresh)
        return self.aligner.release()

    # -- state

    def replay(self, first: int, last: int, payload: bytes) -> None:
        """Absorb a chunk of record values; what it gives was published before."""
        del first
        self.apply([decode_internal(value) for value in decode_values(payload)], last)

    def to_bytes(self) -> bytes:
        """The whole state of the partition."""
        common = {
            "offset": pack_arrays({"absorbed": np.array([self.absorbed_offset])}),
            "guard": pack_arrays({"absorbed": self.guard.absorbed}),
            "names": self.names.to_bytes(),
        }
        if self.aligner is not None:
            origins, held = self.aligner.state()
            common |= {"aligner": pack_arrays(origins), "held": pack_arrays(held)}
        return pack_blobs(common | self._own_blobs())

    def load(self, data: bytes) -> None:
        """Become the stage of ``to_bytes``. Raises ValueError or msgspec.DecodeError if ``data`` is something else."""
        blobs = unpack_blobs(data)
        self.absorbed_offset = int(unpack_arrays(blobs["offset"])["absorbed"][0])
        self.guard.absorbed = unpack_arrays(blobs["guard"])["absorbed"]
        if self.aligner is not None:
            self.aligner.load(unpack_arrays(blobs["aligner"]), unpack_arrays(blobs["held"]))
        self.names = Names.from_bytes(self.names.max_names, blobs["names"])
        self._load_blobs(blobs)
