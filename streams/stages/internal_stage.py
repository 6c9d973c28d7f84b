"""What the stages behind an internal topic share: batches in, each row absorbed once, patterns out."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from schemas.patterns import Pattern
from streams.stages.columns import InternalBatch, decode_internal, decode_names
from streams.stages.internal import OriginGuard
from streams.stages.names import Names
from streams.stages.output import StageOutput
from streams.stages.packing import pack_arrays, pack_blobs, unpack_arrays, unpack_blobs
from streams.stages.records import decode_values
from streams.stages.settings import MiningSettings

Rows = Mapping[str, np.ndarray]


class InternalStage(ABC):
    """The state of one partition of an internal topic, a function of that partition's records up to ``absorbed_offset``.

    Subclasses absorb rows, say which patterns are due, and name the blobs of their own state.
    """

    def __init__(self, settings: MiningSettings, partition: int, *, max_names: int) -> None:
        self.settings = settings
        self.partition = partition
        self.absorbed_offset = -1
        self.guard = OriginGuard()
        self.names = Names(max_names)

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

    def apply(self, batches: Sequence[InternalBatch], last_offset: int) -> StageOutput:
        """Absorb internal batches up to ``last_offset`` of the internal topic, and publish as of then. O(rows)."""
        fresh, stale = [], 0
        for batch in batches:
            rows = batch.rows()
            new = self.guard.fresh_rows(batch, np.asarray(rows["origin_offset"]))
            stale += new.start
            if new.stop > new.start:
                self.names.learn(decode_names(batch.names))
                fresh.append({name: np.asarray(column)[new] for name, column in rows.items()})
        counts = {"stale": stale}
        if fresh:
            columns = {name: np.concatenate([rows[name] for rows in fresh]) for name in fresh[0]}
            counts |= {"admitted": len(columns["origin_offset"])} | self._absorb(columns)
        self.absorbed_offset = last_offset
        return StageOutput(patterns=self._due_patterns(last_offset), counts=counts)

    # -- state

    def replay(self, first: int, last: int, payload: bytes) -> None:
        """Absorb a chunk of record values; what it gives was published before."""
        del first
        self.apply([decode_internal(value) for value in decode_values(payload)], last)

    def to_bytes(self) -> bytes:
        """The whole state of the partition."""
        common = {
            "offset": pack_arrays({"absorbed": np.array([self.absorbed_offset])}),
            "guard": pack_arrays(self.guard.state()),
            "names": self.names.to_bytes(),
        }
        return pack_blobs(common | self._own_blobs())

    def load(self, data: bytes) -> None:
        """Become the stage of ``to_bytes``. Raises ValueError or msgspec.DecodeError if ``data`` is something else."""
        blobs = unpack_blobs(data)
        self.absorbed_offset = int(unpack_arrays(blobs["offset"])["absorbed"][0])
        self.guard = OriginGuard.from_state(unpack_arrays(blobs["guard"]))
        self.names = Names.from_bytes(self.names.max_names, blobs["names"])
        self._load_blobs(blobs)
