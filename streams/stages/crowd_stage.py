"""What the stages that tell of crowds share, whether they hold the window themselves or ask regions for reports of theirs."""

from collections.abc import Mapping, Sequence

import numpy as np

from schemas.patterns import Pattern
from streams.stages.columns import InternalBatch
from streams.stages.covisiting import CoVisitWatch
from streams.stages.crowd_teller import CrowdTeller
from streams.stages.internal_stage import InternalStage, Rows
from streams.stages.packing import pack_arrays, unpack_arrays
from streams.stages.settings import (
    MOST_UNTOLD,
    QUIET_SHARE,
    SUMMARISE_EVERY,
    TELL_EVERY_MS,
    TELL_EVERY_MS_PER_POINT,
    MiningSettings,
)
from streams.stages.tiles import Background


class CrowdStage(InternalStage):
    """All positions in one order of time: their crowds are told now and then, and co-visits are counted.

    When is a matter of the wall clock, which the origins' batches carry: the state stays a function of its records. Each
    origin's clock counts for itself, so it does not matter if they differ.
    """

    def __init__(self, settings: MiningSettings, partition: int) -> None:
        super().__init__(settings, partition, max_names=settings.region.max_names, in_time_order=True)
        self.teller = CrowdTeller(settings.region, partition)
        self.covisits = CoVisitWatch(settings.region)
        self.background = Background()
        self._since_told = 0
        self._sent_ms, self._told_ms = np.zeros((2, settings.partitions), np.int64)
        self._quiet = np.zeros(settings.partitions, np.bool_)

    def examine(self, budget: int) -> list[Pattern]:
        """Learn from the closed bins of the public crowds; milliseconds for each unit of the budget."""
        return self.teller.rhythms.examine(budget, self.absorbed_offset)

    def tell_moves(self) -> list[Pattern]:
        """The moves between the crowds that were told last; without it they come with the next records."""
        return [*self.teller.tell_moves(self.absorbed_offset)]

    @property
    def untested(self) -> int:
        """An upper bound of the budget that ``examine`` may find worth it."""
        return self.teller.rhythms.untested

    def sizes(self) -> dict[str, int]:
        """How much is held, by kind. O(clusters)."""
        return super().sizes() | self.teller.sizes()

    def _take_in(self, batches: Sequence[InternalBatch]) -> dict[str, int]:
        for batch in batches:
            self._sent_ms[batch.origin_partition] = batch.sent_ms
            self._quiet[batch.origin_partition] = batch.quiet
        # Where a clock was set back, or somebody else's goes on, the pause begins anew.
        np.minimum(self._told_ms, self._sent_ms, out=self._told_ms)
        return super()._take_in(batches)

    def _absorb(self, rows: Rows) -> dict[str, int]:
        number = len(rows["time_ms"])
        self.background.note(rows["lat"], rows["lon"])
        self.covisits.absorb(rows)
        self.teller.moves.note(number)
        self._since_told += number
        return {}

    def _is_due(self, window_points: int) -> bool:
        """Whether crowds are to be told: something is new, and the last time was long enough ago to bound what it costs."""
        if self._since_told <= 0:
            return False
        timed = bool(self._sent_ms.any())
        if self._since_told >= (MOST_UNTOLD if timed else SUMMARISE_EVERY) * window_points:
            return True
        pause_ms = max(TELL_EVERY_MS, TELL_EVERY_MS_PER_POINT * window_points) * (
            QUIET_SHARE if self._quiet.all() else 1
        )
        return timed and bool((self._sent_ms - self._told_ms).max() >= pause_ms)

    def _note_telling(self) -> None:
        """What is known by now is being told."""
        self._since_told = 0
        self._told_ms[:] = self._sent_ms

    def _own_blobs(self) -> dict[str, bytes]:
        clocks = {"sent_ms": self._sent_ms, "told_ms": self._told_ms, "quiet": self._quiet.astype(np.int64)}
        return {"teller": self.teller.to_bytes(), "covisits": self.covisits.to_bytes(), "clocks": pack_arrays(clocks)}

    def _load_blobs(self, blobs: Mapping[str, bytes]) -> None:
        self.teller.load(blobs["teller"])
        self.covisits.load(blobs["covisits"])
        if "clocks" in blobs:  # states written before crowds were told by the clock
            clocks = unpack_arrays(blobs["clocks"])
            self._sent_ms, self._told_ms = np.array(clocks["sent_ms"]), np.array(clocks["told_ms"])
            if "quiet" in clocks:  # states written before crowds were told sooner while nothing comes
                self._quiet = clocks["quiet"] > 0
