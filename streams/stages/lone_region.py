"""The region stage of an application with one partition: the whole map in one window, and nobody to agree with."""

from collections.abc import Mapping

import numpy as np

from schemas.patterns import Pattern
from streams.stages.covisiting import CoVisitWatch
from streams.stages.crowd_teller import CrowdTeller
from streams.stages.internal_stage import InternalStage, Rows
from streams.stages.packing import pack_arrays, unpack_arrays
from streams.stages.region_window import RegionWindow
from streams.stages.settings import SUMMARISE_EVERY, MiningSettings
from streams.stages.tiles import Background

MS = 1000.0


class LoneRegionStage(InternalStage):
    """The sliding window of all positions, its crowds and the co-visits.

    Changes are told when the points since the last time are ``SUMMARISE_EVERY`` of the window, which bounds their cost per event.
    """

    def __init__(self, settings: MiningSettings, partition: int) -> None:
        super().__init__(settings, partition, max_names=settings.region.max_names, in_time_order=True)
        self.window = RegionWindow(settings, partition)
        self.teller = CrowdTeller(settings.region, partition)
        self.covisits = CoVisitWatch(settings.region)
        self.background = Background()
        self._since_told = 0

    @property
    def event_time_s(self) -> float | None:
        """The latest event time that was absorbed, None before the first."""
        return self.window.now_s

    def examine(self, budget: int) -> list[Pattern]:
        """Learn from the closed bins of the public crowds; milliseconds for each unit of the budget."""
        return self.teller.rhythms.examine(budget, self.absorbed_offset)

    @property
    def untested(self) -> int:
        """An upper bound of the budget that ``examine`` may find worth it."""
        return self.teller.rhythms.untested

    def sizes(self) -> dict[str, int]:
        """How much is held, by kind. O(clusters)."""
        return super().sizes() | {"points": len(self.window)} | self.teller.sizes()

    def _absorb(self, rows: Rows) -> dict[str, int]:
        expired = self.window.absorb(rows)
        self.background.note(rows["lat"], rows["lon"])
        self.covisits.absorb(rows)
        self._since_told += len(rows["time_ms"]) - expired
        return {"expired": expired}

    def _due_patterns(self, version: int) -> list[Pattern]:
        if self.window.now_s is None:
            return []
        now_ms = round(self.window.now_s * MS)
        due = self.covisits.due(self.names, now_ms, version)
        if not self._since_told or self._since_told < SUMMARISE_EVERY * len(self.window):
            return due
        self._since_told = 0
        self.teller.take(self.window.report(self.teller.counts.bins_due(now_ms)))
        return [*self.teller.tell(now_ms, self.background.area_m2, self.names, version), *due]

    def _own_blobs(self) -> dict[str, bytes]:
        return {
            "window": self.window.to_bytes(),
            "teller": self.teller.to_bytes(),
            "covisits": self.covisits.to_bytes(),
            "own": pack_arrays({"since": np.array([self._since_told]), "tiles": self.background.numbers}),
        }

    def _load_blobs(self, blobs: Mapping[str, bytes]) -> None:
        self.window.load(blobs["window"])
        self.teller.load(blobs["teller"])
        self.covisits.load(blobs["covisits"])
        own = unpack_arrays(blobs["own"])
        self._since_told = int(own["since"][0])
        self.background = Background(own["tiles"])
